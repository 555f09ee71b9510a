//! The readiness gate `sidewall.dev/policy-applied`.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::apiserver::Writes;

use crate::objects::{pod, policy, shop};
use crate::site::{Site, until};

const CONDITION: &str = "sidewall.dev/policy-applied";

/// How long something is waited for that must not happen. By then it would have, but on a very busy machine.
const MEANWHILE: Duration = Duration::from_millis(700);

/// `web` with a gate, and a condition of somebody else; its address ends in `host`.
fn gated(host: u8) -> Value {
    let mut web = pod("web", "web", host);
    web["spec"]["readinessGates"] = json!([{ "conditionType": CONDITION }]);
    web["status"]["conditions"] = json!([{ "type": "ContainersReady", "status": "True" }]);
    web
}

fn site() -> Result<Site> {
    let mut objects = shop();
    objects.retain(|object| object["metadata"]["name"] != "web");
    objects.push(gated(1));
    Site::new(&objects)
}

/// A condition of a pod, if it has it.
fn condition<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions.iter().find(|it| it["type"] == name)
}

fn wait_for_gate(site: &Site) -> Result<()> {
    let condition = format!("--for=condition={CONDITION}");
    let wait = ["wait", &condition, "pod/web", "-n", "shop", "--timeout=60s"];
    site.kubectl.run(&wait)?;
    Ok(())
}

pub fn opens_and_stays_open() -> Result<()> {
    let site = site()?;
    let distributor = site.distributor()?;
    sleep(MEANWHILE);
    ensure!(
        condition(&site.pod("web")?, CONDITION).is_none(),
        "nobody is connected"
    );
    let before = site.pod("db")?;

    let db = site.sidecar(&distributor, "shop/db")?;
    db.next(None)?;
    let web = site.sidecar(&distributor, "sidecar~10.0.0.1~web.shop~cluster.local")?;
    wait_for_gate(&site)?;
    let open = site.pod("web")?;
    ensure!(
        condition(&open, "ContainersReady").is_some_and(|it| it["status"] == "True"),
        "others' conditions stay: {open:#}"
    );
    let says =
        |it: &Value| it["reason"] == "SnapshotAcknowledged" && it["lastTransitionTime"].is_string();
    ensure!(condition(&open, CONDITION).is_some_and(says), "{open:#}");
    ensure!(
        open["status"]["phase"] == "Running" && open["status"]["podIP"] == "10.0.0.1",
        "{open:#}"
    );
    ensure!(
        site.pod("db")? == before,
        "a pod without the gate was written"
    );
    ensure!(distributor.writes("readiness-gate", "written")? == 1);

    // The stream breaks, the distributor restarts, policies change.
    drop((web, distributor));
    let distributor = site.distributor()?;
    site.server.put(&policy("web", "web", "db", 80))?;
    let web = site.sidecar(&distributor, "shop/web")?;
    let first = web.next(None)?;
    site.server.put(&policy("web", "web", "db", 81))?;
    web.next(Some(&first))?;
    drop(web);
    sleep(MEANWHILE);
    ensure!(site.pod("web")? == open, "nothing more was written");
    Ok(())
}

pub fn one_replica_writes() -> Result<()> {
    let site = site()?;
    let (idle, serving) = (site.distributor()?, site.distributor()?);
    let _web = site.sidecar(&serving, "shop/web")?;
    wait_for_gate(&site)?;
    sleep(MEANWHILE);
    ensure!(serving.writes("readiness-gate", "written")? == 1);
    for result in ["written", "failed"] {
        ensure!(idle.writes("readiness-gate", result)? == 0, "{result}");
    }
    Ok(())
}

/// As of a StatefulSet: the name stays, the pod does not. Without tokens it is told by its age.
pub fn another_pod_of_the_name() -> Result<()> {
    let site = site()?;
    let distributor = site.distributor()?;
    let old = site.sidecar(&distributor, "shop/web")?;
    wait_for_gate(&site)?;
    let first = old.next(None)?;

    // Times of creation are in whole seconds.
    sleep(Duration::from_millis(1100));
    site.server.remove("v1", "Pod", "shop/web")?;
    site.server.put(&gated(9))?;
    old.next(Some(&first))?;
    sleep(MEANWHILE);
    ensure!(
        condition(&site.pod("web")?, CONDITION).is_none(),
        "the Envoy of the last pod spoke for the new one"
    );
    let _new = site.sidecar(&distributor, "shop/web")?;
    wait_for_gate(&site)
}

/// The pod is replaced by another one of its name while the server takes its time: what was meant for the
/// first does not open the gate of the second, and nothing has failed.
pub fn replaced_meanwhile() -> Result<()> {
    let site = site()?;
    let distributor = site.distributor()?;
    site.server.delay(Duration::from_secs(3));
    let before = site.server.requests();
    let old = site.sidecar(&distributor, "shop/web")?;
    let first = old.next(None)?;
    until("the write is on its way", || {
        Ok(site.server.requests() > before)
    })?;
    // Times of creation are in whole seconds.
    sleep(Duration::from_millis(1100));
    site.server.remove("v1", "Pod", "shop/web")?;
    site.server.put(&gated(9))?;
    old.next(Some(&first))?;
    sleep(Duration::from_secs(3));
    site.server.recover();
    ensure!(condition(&site.pod("web")?, CONDITION).is_none());
    for result in ["written", "failed"] {
        ensure!(
            distributor.writes("readiness-gate", result)? == 0,
            "{result}"
        );
    }
    let _new = site.sidecar(&distributor, "shop/web")?;
    wait_for_gate(&site)
}

/// 403, 500, no answer: policies go on being applied, and the gate opens when the server lets it.
pub fn refused() -> Result<()> {
    let site = site()?;
    site.server.set_writes(Writes::Refused(403));
    let distributor = site.distributor()?;
    let web = site.sidecar(&distributor, "shop/web")?;
    let mut revision = web.next(None)?;
    let mut port = 8000;
    for writes in [
        Writes::Refused(403),
        Writes::Refused(500),
        Writes::Unanswered,
    ] {
        site.server.set_writes(writes);
        let failed = distributor.writes("readiness-gate", "failed")?;
        until("an attempt that failed", || {
            Ok(distributor.writes("readiness-gate", "failed")? > failed)
        })?;
        for _ in 0..3 {
            port += 1;
            site.server.put(&policy("web", "web", "db", port))?;
            revision = web.next(Some(&revision))?;
        }
        ensure!(condition(&site.pod("web")?, CONDITION).is_none());
    }
    let warnings = distributor.lines()?.into_iter().filter(|fields| {
        let message = fields["message"].as_str().unwrap_or_default();
        message.contains("readiness gate cannot be opened")
    });
    let warnings: Vec<_> = warnings.collect();
    ensure!(
        warnings.len() == 1 && warnings[0]["message"].to_string().contains("ClusterRole"),
        "{warnings:?}"
    );
    site.server.recover();
    wait_for_gate(&site)
}
