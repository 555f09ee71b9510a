//! Policies from files decide connections between pods whose sidecars are real Envoys.

#[path = "lab_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_host_tests::envoy::artifact;
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{
    Expect, Family, Lab, LabConfig, Matrix, Probe, failures, read_probes,
};
use world::{pod, policy, three_pods};

fn main() -> ExitCode {
    harness::main(&[
        ("policies_are_applied_to_a_running_cluster", applied_live),
        (
            "a_denied_connection_never_reaches_the_server",
            never_reaches,
        ),
        ("self_loopback_and_the_own_node_always_work", always_work),
        ("a_live_connection_is_cut_by_a_policy", cut),
        ("the_example_of_the_documentation_holds", example),
        ("pods_come_and_go_under_a_policy", pods_come_and_go),
        ("what_was_decided_is_logged_and_counted", told),
    ])
}

const DENY_ALL: &str = "podSelector: {}, policyTypes: [Ingress, Egress]";
const DENY_INGRESS: &str = "podSelector: {}, policyTypes: [Ingress]";
const FROM_B: &str = "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: web}]}]";

/// Holds each pair of the matrix to `allowed`, itself to yes.
fn expect(lab: &Lab, allowed: &[(&str, &str)]) -> Result<Matrix> {
    let matrix = lab.matrix(None)?;
    for (from, _) in lab.pods() {
        for (to, _) in lab.pods() {
            let expected = from == to || allowed.contains(&(from.as_str(), to.as_str()));
            ensure!(
                matrix.reaches(&from, &to) == Some(expected),
                "{from} -> {to} should be {expected}:\n{matrix}"
            );
        }
    }
    Ok(matrix)
}

const EVERYBODY: [(&str, &str); 6] = [
    ("default/a", "default/b"),
    ("default/a", "default/c"),
    ("default/b", "default/a"),
    ("default/b", "default/c"),
    ("default/c", "default/a"),
    ("default/c", "default/b"),
];

fn applied_live() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .workers(2),
    )?;
    expect(&lab, &EVERYBODY).context("no policy")?;
    lab.apply("policy.yaml", &policy("p", FROM_B))?;
    let without_c_to_a: Vec<_> = EVERYBODY
        .into_iter()
        .filter(|pair| *pair != ("default/c", "default/a"))
        .collect();
    expect(&lab, &without_c_to_a).context("a takes b only")?;
    ensure!(
        !lab.reaches("default/b", "default/a", 81)?,
        "the policy allows one port only"
    );
    lab.apply("policy.yaml", &policy("p", DENY_ALL))?;
    expect(&lab, &[]).context("nobody may do anything")?;
    lab.unapply("policy.yaml")?;
    expect(&lab, &EVERYBODY).context("no policy again")?;
    Ok(())
}

fn never_reaches() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .manifest("policy.yaml", policy("p", DENY_INGRESS)),
    )?;
    let to_a = |from: &str| Probe::new(from, "default/a", 80);
    // The servers speak first: with a connection to one of them, the client would be told its name.
    for probe in lab.probe(&[to_a("default/b")?, to_a("default/c")?])? {
        ensure!(
            probe.connected && !probe.answered,
            "the sidecar completes the handshake, and no more: {probe}"
        );
    }
    let seen = lab.seen("default/a")?;
    ensure!(seen.is_empty(), "the server of a has seen {seen:?}");
    // The same servers do see what is allowed, so looking at them means something.
    lab.unapply("policy.yaml")?;
    ensure!(lab.reaches("default/b", "default/a", 80)?);
    ensure!(
        lab.seen("default/a")?.len() == 2,
        "one connection for each family"
    );
    Ok(())
}

fn always_work() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .manifest("policy.yaml", policy("p", DENY_ALL)),
    )?;
    let mut probes = Vec::new();
    for (from, to, expect) in [
        ("default/a", "default/a", Expect::Allow),
        ("default/a", "address:127.0.0.1", Expect::Allow),
        ("default/a", "address:::1", Expect::Allow),
        ("node:node-1", "default/a", Expect::Allow),
        ("node:node-1", "default/b", Expect::Allow),
        ("node:node-2", "default/c", Expect::Allow),
        ("node:node-2", "default/a", Expect::Deny),
        ("node:node-1", "default/c", Expect::Deny),
        ("default/a", "address:192.168.50.1", Expect::Allow),
        ("default/a", "address:fd50::1", Expect::Allow),
        ("default/a", "address:192.168.50.2", Expect::Deny),
    ] {
        probes.push(Probe::new(from, to, 80)?.expect(expect));
    }
    holds(&lab, &probes)
}

fn holds(lab: &Lab, probes: &[Probe]) -> Result<()> {
    let results = lab.probe(probes)?;
    let unmet: Vec<_> = failures(&results).map(ToString::to_string).collect();
    ensure!(
        results.iter().all(|result| result.ok.is_some()),
        "a probe without an expectation"
    );
    ensure!(
        unmet.is_empty(),
        "{} of {} are not as expected:\n{}",
        unmet.len(),
        results.len(),
        unmet.join("\n")
    );
    Ok(())
}

fn cut() -> Result<()> {
    let lab = Lab::start(LabConfig::default().manifest("cluster.yaml", three_pods()))?;
    let mut denied = lab.hold(&Probe::new("default/c", "default/a", 80)?)?;
    let mut allowed = lab.hold(&Probe::new("default/b", "default/a", 80)?)?;
    lab.apply("policy.yaml", &policy("p", FROM_B))?;
    let moment = Duration::from_secs(1);
    ensure!(
        denied.wait_cut(moment).is_some(),
        "the connection from c still stands"
    );
    ensure!(
        allowed.exchange(moment).is_ok(),
        "the connection from b was cut"
    );
    ensure!(
        allowed.wait_cut(Duration::from_millis(200)).is_none(),
        "the connection from b was cut"
    );
    let records = lab.decisions("default/a")?;
    let record = records
        .iter()
        .find(|record| record["cut"] == true)
        .with_context(|| format!("no record of the cut: {records:?}"))?;
    ensure!(
        record["policies"] == serde_json::json!(["default/p"]),
        "{record}"
    );
    ensure!(
        lab.stats("default/a", "sidewall_connections_cut")?
            .sum("wasmcustom.sidewall_connections_cut_total.direction.ingress")
            == 1
    );
    // It was allowed first; the entry tells how it ended.
    let entries = wait_for_entries(&lab, "default/a", 1)?;
    ensure!(entries[0]["decision"] == "deny default/p", "{entries:?}");
    Ok(())
}

fn example() -> Result<()> {
    let examples = artifact::repository().join("host-tests/examples");
    let lab = Lab::start(LabConfig::default().folder(examples.join("test-network-policy")))?;
    let problems = lab.status()?.problems;
    ensure!(problems.is_empty(), "{problems:?}");
    holds(
        &lab,
        &read_probes(&examples.join("test-network-policy.probes.yaml"))?,
    )
}

fn pods_come_and_go() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .manifest("policy.yaml", policy("p", FROM_B)),
    )?;
    let service = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: default}, \
                   spec: {selector: {app: b}, clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{port: 8080, targetPort: web}]}}";
    lab.apply("service.yaml", service)?;
    ensure!(lab.reaches("default/c", "service:default/web", 8080)?);
    // A pod that the policy lets in, with the label of b.
    let second = pod("d", 2, 14).replace("app: d", "app: b");
    lab.apply("d.yaml", &second)?;
    ensure!(
        lab.reaches("default/d", "default/a", 80)?,
        "d has the label that is let in"
    );
    ensure!(!lab.reaches("default/c", "default/a", 80)?, "c has not");
    // Relabelled, it is nobody special.
    lab.apply("d.yaml", &second.replace("app: b", "app: d"))?;
    ensure!(
        !lab.reaches("default/d", "default/a", 80)?,
        "d has lost its label"
    );
    // Gone, its address is a stranger's. Another pod may have it.
    lab.unapply("d.yaml")?;
    ensure!(
        lab.reaches("default/d", "default/a", 80).is_err(),
        "d is gone"
    );
    lab.apply(
        "e.yaml",
        &pod("e", 1, 14).replace("10.244.1.14", "10.244.2.14"),
    )?;
    ensure!(
        lab.reaches("default/e", "default/b", 80)? && !lab.reaches("default/e", "default/a", 80)?
    );
    Ok(())
}

fn told() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .manifest("policy.yaml", policy("p", FROM_B)),
    )?;
    let probes = ["default/b", "default/c"].map(|from| Probe::new(from, "default/a", 80));
    for probe in probes {
        lab.probe(&[probe?.over(Family::IPv4)])?;
    }
    let records = lab.decisions("default/a")?;
    ensure!(records.len() == 1, "one denied connection: {records:?}");
    let record = &records[0];
    for (field, value) in [
        ("verdict", "deny"),
        ("direction", "ingress"),
        ("pod", "default/a"),
        ("destination", "10.244.1.11:80"),
        ("reason", "no-rule"),
    ] {
        ensure!(
            record[field] == value,
            "{field} should be {value}: {record}"
        );
    }
    ensure!(
        record["policies"] == serde_json::json!(["default/p"]),
        "{record}"
    );

    let stats = lab.stats("default/a", "wasmcustom.sidewall_connections_total")?;
    for (verdict, count) in [("allow", 1), ("deny", 1), ("audit", 0)] {
        let name =
            format!("wasmcustom.sidewall_connections_total.direction.ingress.verdict.{verdict}");
        ensure!(
            stats.get(&name) == Some(count),
            "{name} should be {count}: {stats:?}"
        );
    }
    let prometheus = lab.sidecar("default/a", |envoy| {
        envoy.admin("/stats/prometheus?filter=sidewall_connections_total")
    })??;
    let line = "sidewall_connections_total{direction=\"ingress\",verdict=\"deny\"} 1";
    ensure!(
        prometheus.lines().any(|found| found == line),
        "no {line} in:\n{prometheus}"
    );

    let entries = wait_for_entries(&lab, "default/a", 2)?;
    let of = |decision: &str| {
        let found = entries.iter().find(|entry| entry["decision"] == decision);
        found.with_context(|| format!("no entry {decision}: {entries:?}"))
    };
    let denied = of("deny default/p")?;
    ensure!(denied["destination"] == "10.244.1.11:80", "{denied}");
    ensure!(
        denied["close_reason"] == "wasm_downstream_close"
            && denied.get("upstream").is_none_or(|u| u == "-"),
        "{denied}"
    );
    let allowed = of("allow default/p")?;
    ensure!(allowed["upstream"] == "10.244.1.11:80", "{allowed}");
    Ok(())
}

/// Envoy writes its access log a moment after a connection has ended.
fn wait_for_entries(lab: &Lab, pod: &str, count: usize) -> Result<Vec<Value>> {
    let mut entries = Vec::new();
    for _ in 0..100 {
        entries = lab.access_log(pod)?;
        if entries.len() >= count {
            return Ok(entries);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("{count} entries expected in the access log of {pod}: {entries:?}")
}
