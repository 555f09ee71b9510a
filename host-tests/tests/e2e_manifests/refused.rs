//! A sidecar whose filter does not take a snapshot.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use sidewall_host_tests::lab::Lab;

use super::{from, takes};
use crate::cluster::policy;
use crate::connections::{FILE, NONE, expect};

const DENY_C: &str = "podSelector: {matchLabels: {app: c}}, policyTypes: [Ingress]";

/// The filter of one sidecar is replaced by half of it, as an interrupted download leaves it.
pub fn snapshot(lab: &Lab) -> Result<()> {
    let filter = filter(lab, "x/a")?;
    let whole = fs::canonicalize(&filter)?;
    let bytes = fs::read(&whole)?;
    fs::remove_file(&filter)?;
    fs::write(&filter, &bytes[..bytes.len() / 2])?;

    lab.write_manifest(FILE, &(from("c") + "---\n" + &policy("x/c", DENY_C)))?;
    let refused = status(lab, "x/a", "refused")?;
    let reason = &refused["refused"];
    ensure!(
        reason["by"] == "client"
            && reason["revision"] == refused["wanted"]["revision"]
            && reason["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty()),
        "{refused:#}"
    );
    let metrics = lab.distributor_get("/metrics")?;
    ensure!(
        metrics
            .lines()
            .any(|line| line.contains("state=\"refused\"") && line.ends_with(" 1")),
        "no metric counts it:\n{metrics}"
    );
    // It goes on as before; the others have what is new.
    status(lab, "x/c", "applied")?;
    takes(lab, "b", "the new snapshot was refused")?;
    expect(lab, &[], &["x/a x/b -> x/c:8080"], "the others go on")?;

    // It is offered again, and a client that cannot take it does not say that it has.
    let again = another_refusal(lab, "x/a", &reason["at"])?;
    ensure!(
        again["refused"]["revision"] == reason["revision"]
            && again["applied"] == refused["applied"],
        "{again:#}"
    );

    // Mended: what was refused comes into force, and so does the next change.
    fs::remove_file(&filter)?;
    std::os::unix::fs::symlink(&whole, &filter)?;
    let mended = status(lab, "x/a", "applied")?;
    ensure!(
        mended["applied"]["revision"] == reason["revision"],
        "{mended:#}"
    );
    takes(lab, "c", "the filter is whole again")?;
    lab.write_manifest(FILE, NONE)?;
    lab.wait_applied()?;
    expect(lab, &["x/b x/c -> x/a:80"], &[], "the next change")
}

/// Where a sidecar reads its filter from.
fn filter(lab: &Lab, pod: &str) -> Result<PathBuf> {
    let info = lab.sidecar(pod, |envoy| envoy.admin("/server_info"))??;
    let info: Value = serde_json::from_str(&info)?;
    let path = info["node"]["metadata"]["sidewall_wasm"].as_str();
    Ok(path.with_context(|| format!("no path in {info:#}"))?.into())
}

/// Waits until `/status` says so of a pod, and returns all it says of it.
fn status(lab: &Lab, pod: &str, state: &str) -> Result<Value> {
    until(lab, pod, |found| found["state"] == state)
}

/// Waits for the next refusal after that one.
fn another_refusal(lab: &Lab, pod: &str, after: &Value) -> Result<Value> {
    until(lab, pod, |found| {
        found["state"] != "refused" || found["refused"]["at"] != *after
    })
}

fn until(lab: &Lab, pod: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let started = Instant::now();
    loop {
        let status: Value = serde_json::from_str(&lab.distributor_get("/status")?)?;
        let pods = status["pods"].as_array().context("no pods")?;
        let found = pods.iter().find(|found| found["pod"] == pod);
        match found {
            Some(found) if holds(found) => return Ok(found.clone()),
            _ if started.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            found => bail!("{pod} is not as it should be: {found:#?}"),
        }
    }
}
