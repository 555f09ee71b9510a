//! Events on NetworkPolicies.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::apiserver::Writes;

use crate::objects::{pod, policy, shop};
use crate::site::{Site, until};

/// How long something is waited for that must not happen.
const MEANWHILE: Duration = Duration::from_millis(700);

/// A policy as an older server has let it in: its ports are none.
fn flawed(name: &str, ports: &[u32]) -> Value {
    let mut policy = policy(name, "db", "web", 80);
    let ports: Vec<Value> = ports.iter().map(|port| json!({ "port": port })).collect();
    policy["spec"]["ingress"][0]["ports"] = json!(ports);
    policy
}

/// What `kubectl` shows of a policy.
fn events(site: &Site, name: &str) -> Result<Vec<Value>> {
    let about =
        format!("--field-selector=involvedObject.kind=NetworkPolicy,involvedObject.name={name}");
    let found = site
        .kubectl
        .run(&["get", "events", "-n", "shop", &about, "-o", "json"])?;
    let mut found: Value = serde_json::from_str(&found)?;
    serde_json::from_value(found["items"].take()).context("a list")
}

fn wait_for(site: &Site, name: &str, count: usize) -> Result<Vec<Value>> {
    until("told", || Ok(events(site, name)?.len() >= count))?;
    let found = events(site, name)?;
    ensure!(found.len() == count, "{found:#?}");
    Ok(found)
}

/// By one replica of two, by no other list, and anew only when the policy was changed.
pub fn told_once() -> Result<()> {
    let site = Site::new(&shop())?;
    site.server.put_unchecked(&flawed("old", &[0]))?;
    let (one, other) = (site.distributor()?, site.distributor()?);
    let told = wait_for(&site, "old", 1)?;
    let uid = &site
        .server
        .objects()?
        .into_iter()
        .find(|object| object["metadata"]["name"] == "old");
    let uid = &uid.as_ref().context("the policy")?["metadata"]["uid"];
    let event = &told[0];
    let message = event["message"].as_str().unwrap_or_default();
    ensure!(
        event["type"] == "Warning"
            && event["reason"] == "PolicyPartlyUnderstood"
            && event["involvedObject"]["uid"] == *uid
            && message.starts_with("spec.ingress[0].ports[0].port: ")
            && message.contains("sidewall lint"),
        "{event:#}"
    );

    // Watches end, history is lost, a replica restarts.
    site.server.kill();
    site.server.compact()?;
    site.server.restart()?;
    drop(other);
    let other = site.distributor()?;
    // Whatever is told of this policy comes after anything about the other one.
    site.server.put_unchecked(&flawed("new", &[70_000]))?;
    wait_for(&site, "new", 1)?;
    sleep(MEANWHILE);
    wait_for(&site, "old", 1)?;
    let written = one.writes("event", "written")? + other.writes("event", "written")?;
    ensure!((1..=2).contains(&written), "{written} written");

    // A label is none of its business; another spec that is as wrong is told anew.
    let mut labelled = flawed("old", &[0]);
    labelled["metadata"]["labels"] = json!({ "note": "x" });
    site.server.put_unchecked(&labelled)?;
    sleep(MEANWHILE);
    wait_for(&site, "old", 1)?;
    site.server.put_unchecked(&flawed("old", &[0, 70_000]))?;
    wait_for(&site, "old", 3)?;
    site.server.put(&policy("old", "db", "web", 80))?;
    sleep(MEANWHILE);
    wait_for(&site, "old", 3)?;
    Ok(())
}

/// 500, no answer, 403: policies are applied, and what the server failed to take is told when it takes it.
pub fn refused() -> Result<()> {
    let site = Site::new(&shop())?;
    site.server.set_writes(Writes::Refused(500));
    site.server.put_unchecked(&flawed("old", &[0]))?;
    let distributor = site.distributor()?;
    let db = site.sidecar(&distributor, "shop/db")?;
    let mut revision = db.next(None)?;
    let mut host = 10;
    for writes in [Writes::Refused(500), Writes::Unanswered] {
        site.server.set_writes(writes);
        let failed = distributor.writes("event", "failed")?;
        until("an attempt that failed", || {
            Ok(distributor.writes("event", "failed")? > failed)
        })?;
        for _ in 0..3 {
            host += 1;
            site.server.put(&pod(&format!("web-{host}"), "web", host))?;
            revision = db.next(Some(&revision))?;
        }
    }
    site.server.recover();
    wait_for(&site, "old", 1)?;

    site.server.set_writes(Writes::Refused(403));
    site.server.put_unchecked(&flawed("forbidden", &[0]))?;
    until("reported", || {
        let lines = distributor.lines()?;
        let mut messages = lines.iter().filter_map(|line| line["message"].as_str());
        Ok(messages.any(|it| it.contains("told by events") && it.contains("ClusterRole")))
    })?;
    let status: Value = serde_json::from_str(&distributor.get("/status")?)?;
    let problems = status["problems"].as_array().context("problems")?;
    let is_known = |name: &str| {
        let name = format!("NetworkPolicy shop/{name}");
        problems
            .iter()
            .any(|problem| problem["object"] == name.as_str())
    };
    ensure!(is_known("old") && is_known("forbidden"), "{problems:#?}");
    Ok(())
}

/// A namespace whose events the server fails to take keeps none of the others from being told.
pub fn failing_in_one_namespace() -> Result<()> {
    let site = Site::new(&shop())?;
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "bank" } });
    site.server.put(&namespace)?;
    let mut elsewhere = flawed("stuck", &[0, 70_000]);
    elsewhere["metadata"]["namespace"] = json!("bank");
    site.server.put_unchecked(&elsewhere)?;
    site.server.set_writes(Writes::RefusedIn("bank"));
    let distributor = site.distributor()?;
    until("two attempts that failed", || {
        Ok(distributor.writes("event", "failed")? >= 2)
    })?;
    for name in ["one", "two", "three"] {
        site.server.put_unchecked(&flawed(name, &[0]))?;
    }
    for name in ["one", "two", "three"] {
        wait_for(&site, name, 1)?;
    }
    site.server.recover();
    until("told in the end", || {
        Ok(distributor.writes("event", "written")? == 5)
    })
}
