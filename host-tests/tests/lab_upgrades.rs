//! A distributor of a release to come: what it sends cannot be read by the filters and agents that are
//! there. The distributor, Envoys and agents are real; what it will say then is made by changing what it says
//! now, on its way.

#[path = "node_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Expect, Lab, LabConfig, Plane, Probe, Redirect, failures};
use sidewall_policy::snapshot::READABLE;
use world::{Path, Pod, cluster, policy};
use xxhash_rust::xxh3::xxh3_64;

fn main() -> ExitCode {
    harness::main(&[(
        "what_is_to_come_is_refused_told_and_outlived",
        what_is_to_come,
    )])
}

const FILE: &str = "policies.yaml";

/// So long that only something broken takes longer, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

const PODS: [Pod; 4] = [
    pod("a", 1, 11, Path::Sidecar),
    pod("b", 2, 12, Path::Sidecar),
    pod("c", 2, 13, Path::Sidecar),
    pod("bare", 1, 14, Path::Bare),
];

const fn pod(name: &'static str, node: u8, host: u8, path: Path) -> Pod {
    Pod {
        name,
        role: "any",
        node,
        host,
        path,
    }
}

/// Everybody takes this pod alone.
fn only(from: &str) -> String {
    policy(
        "only",
        &format!(
            "podSelector: {{}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {from}}}}}}}]}}]"
        ),
    )
}

/// Holds a pod with a sidecar and one without to a policy.
fn takes(lab: &Lab, from: &str, when: &str) -> Result<()> {
    let mut probes = Vec::new();
    for client in ["b", "c"] {
        let expect = if client == from {
            Expect::Allow
        } else {
            Expect::Deny
        };
        for server in ["a", "bare"] {
            let client = format!("default/{client}");
            let probe = Probe::new(&client, &format!("default/{server}"), 80)?;
            probes.push(probe.expect(expect));
        }
    }
    // Who came to a server is not counted: what was denied a moment ago and is allowed now arrives late.
    let results = lab.probe(&probes)?;
    let wrong: Vec<String> = failures(&results).map(ToString::to_string).collect();
    ensure!(wrong.is_empty(), "{when}:\n    {}", wrong.join("\n    "));
    Ok(())
}

/// What `/status` says of a pod or node, once it says so.
fn status(lab: &Lab, of: &str, name: &str, state: &str) -> Result<Value> {
    let started = Instant::now();
    loop {
        let status: Value = serde_json::from_str(&lab.distributor_get("/status")?)?;
        let all = status[format!("{of}s")].as_array().context("a list")?;
        let found = all.iter().find(|it| it[of] == name).cloned();
        match found {
            Some(found) if found["state"] == state => return Ok(found),
            found => ensure!(
                started.elapsed() < PATIENCE,
                "{of} {name} is not {state}: {found:#?}"
            ),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < PATIENCE, "{what}: no refusal");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn seal(snapshot: &mut [u8]) {
    let hash = xxh3_64(&[&snapshot[..16], &snapshot[24..]].concat());
    snapshot[16..24].copy_from_slice(&hash.to_le_bytes());
}

fn what_is_to_come() -> Result<()> {
    let newer = READABLE.end() + 1;
    let config = LabConfig::default()
        .manifest("cluster.yaml", cluster(PODS.map(|pod| pod.manifest())))
        .manifest(FILE, only("b"))
        .plane(Plane::Both)
        .redirect(Redirect::OnRequest)
        .probe_timeout(Duration::from_secs(2))
        .relayed();
    let lab = Lab::start(config)?;
    takes(&lab, "b", "before")?;
    let mut held = Vec::new();
    for server in ["default/a", "default/bare"] {
        held.push(lab.hold(&Probe::new("default/b", server, 80)?)?);
    }

    let format = format!("format version {newer} is not one that is read here");
    let version = move |snapshot: &mut [u8]| {
        snapshot[8..10].copy_from_slice(&newer.to_le_bytes());
        seal(snapshot);
    };
    let flag = |snapshot: &mut [u8]| {
        snapshot[11] |= 0x80;
        seal(snapshot);
    };
    lab.relay()?.alter(Some(Arc::new(version)));
    refused(&lab, &mut held, "c", &format)?;
    lab.relay()?.alter(Some(Arc::new(flag)));
    refused(&lab, &mut held, "bare", "unknown flags 0x8000")?;

    // What can be read comes into force without anybody's doing, and cuts what it denies.
    lab.relay()?.alter(None);
    lab.write_manifest(FILE, &only("c"))?;
    lab.wait_applied()?;
    takes(&lab, "c", "what follows can be read")?;
    for held in &mut held {
        ensure!(held.wait_cut(PATIENCE).is_some(), "a connection stands");
    }
    for (of, name) in [("pod", "default/a"), ("node", "node-1")] {
        let status = status(&lab, of, name, "applied")?;
        ensure!(status["refused"].is_null(), "{status:#}");
    }
    // And so does one that was refused, when it is offered again.
    lab.relay()?.alter(Some(Arc::new(version)));
    lab.write_manifest(FILE, &only("b"))?;
    status(&lab, "pod", "default/a", "refused")?;
    lab.relay()?.alter(None);
    lab.wait_applied()?;
    takes(&lab, "b", "it was offered again")
}

/// A change that nobody can read: each refuses it and says so, and what was in force stays.
fn refused(
    lab: &Lab,
    held: &mut [sidewall_host_tests::probe::Held],
    change: &str,
    reason: &str,
) -> Result<()> {
    lab.write_manifest(FILE, &only(change))?;
    for pod in ["default/a", "default/b", "default/c"] {
        // An Envoy gives its reason in its own log alone.
        until(pod, || {
            Ok(lab.sidecar(pod, |envoy| envoy.log())?.contains(reason))
        })?;
        let status = status(lab, "pod", pod, "refused")?;
        let refused = &status["refused"];
        ensure!(
            refused["by"] == "client" && refused["revision"] == status["wanted"]["revision"],
            "{status:#}"
        );
        ensure!(status["applied"]["revision"].is_string(), "{status:#}");
    }
    for node in ["node-1", "node-2"] {
        // Of its two streams the agent's says why.
        until(node, || {
            let status = status(lab, "node", node, "refused")?;
            let told = status["refused"]["reason"].as_str();
            Ok(told.is_some_and(|told| told.contains(reason)))
        })?;
        let log = lab.agent_log(node)?;
        ensure!(log.contains(reason), "the agent of {node}:\n{log}");
    }
    ensure!(
        lab.distributor_log()?.contains(reason),
        "no word of it in the distributor's log"
    );
    takes(lab, "b", &format!("{reason}: the last good one stays"))?;
    for held in held {
        held.exchange(Duration::from_secs(5)).map_err(|error| {
            anyhow::anyhow!("{reason}: a connection to {}: {error}", held.identity())
        })?;
    }
    Ok(())
}
