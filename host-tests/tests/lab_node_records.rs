//! What a node says of the packets it drops, and how live connections end on one.

#[path = "lab_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Family, Lab, LabConfig, Plane, Probe, Redirect};
use sidewall_host_tests::probe::Protocol;
use world::{pod, policy, three_pods};

const FROM_B: &str = "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}]";
const SHUT: &str = "podSelector: {}, policyTypes: [Ingress]";
const MOMENT: Duration = Duration::from_secs(1);
/// For what comes soon after a change, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    harness::main(&[
        ("a_dropped_packet_is_recorded_with_its_policy", drops),
        (
            "what_audited_policies_would_deny_passes_and_is_recorded",
            audited,
        ),
        ("live_connections_end_whoever_carries_them", cuts),
    ])
}

fn drops() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Node)
            .manifest("cluster.yaml", three_pods())
            .manifest("policy.yaml", policy("p", FROM_B)),
    )?;
    for (family, address) in [
        (Family::IPv4, "10.244.1.11:80"),
        (Family::IPv6, "[fd00:244:1::11]:80"),
    ] {
        for (probe, protocol, missed) in [
            (Probe::new("default/c", "default/a", 80)?, "TCP", "from"),
            (
                Probe::new("default/b", "default/a", 80)?.udp(),
                "UDP",
                "ports.protocol",
            ),
        ] {
            for result in lab.probe(&[probe.over(family)])? {
                ensure!(!result.answered, "{result}");
            }
            let record = wait_for(&lab, |record| {
                record["protocol"] == protocol && record["destination"] == address
            })?;
            for (field, value) in [
                ("verdict", json!("deny")),
                ("direction", json!("ingress")),
                ("pod", json!("default/a")),
                ("reason", json!("no-rule")),
                ("policies", json!(["default/p"])),
                (
                    "nearest",
                    json!({"rule": "default/p ingress[0]", "missed": missed}),
                ),
            ] {
                ensure!(
                    record[field] == value,
                    "{field} should be {value}: {record}"
                );
            }
        }
    }
    Ok(())
}

/// In every protocol, on lines of their own and on bridges, ingress and egress; and the counters of those policies.
fn audited() -> Result<()> {
    let audited = |name: &str, spec: &str| {
        let annotated = "metadata: {annotations: {sidewall.dev/mode: audit}, ";
        policy(name, spec).replace("metadata: {", annotated)
    };
    let out = "podSelector: {matchLabels: {app: b}}, policyTypes: [Egress]";
    let policies = [
        audited("in", FROM_B),
        audited("out", out),
        policy(
            "open",
            "podSelector: {matchLabels: {app: b}}, ingress: [{}]",
        ),
    ];
    for config in [LabConfig::default(), LabConfig::default().bridged()] {
        let lab = Lab::start(
            config
                .plane(Plane::Node)
                .manifest("cluster.yaml", three_pods())
                .manifest("policies.yaml", policies.join("---\n")),
        )?;
        for (from, direction, policies, side) in [
            ("default/c", "ingress", json!(["default/in"]), "default/a"),
            ("default/b", "egress", json!(["default/out"]), "default/b"),
        ] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp] {
                let port = if protocol == Protocol::Icmp { 0 } else { 81 };
                let probe = Probe::new(from, "default/a", port)?.by(protocol);
                for result in lab.probe(&[probe])? {
                    ensure!(result.answered, "an audited policy denied: {result}");
                }
                wait_for(&lab, |record| {
                    record["verdict"] == "would-deny"
                        && record["direction"] == direction
                        && record["pod"] == side
                        && record["policies"] == policies
                        && record["protocol"] == protocol.to_string()
                })
                .with_context(|| format!("{direction} over {protocol}"))?;
            }
        }
        let to_b = Probe::new("default/c", "default/b", 80)?;
        lab.probe(&[to_b.clone(), to_b])?;
        let metrics = lab.agent_get("node-1", "/metrics")?;
        for labels in [
            r#"{direction="ingress",verdict="would-deny",policies="default/in"}"#,
            r#"{direction="egress",verdict="would-deny",policies="default/out"}"#,
            r#"{direction="ingress",verdict="allow",policies="default/open"}"#,
        ] {
            let series = format!("sidewall_node_policy_packets_total{labels} ");
            let count = metrics.lines().find_map(|line| line.strip_prefix(&series));
            let count: u64 = count
                .with_context(|| format!("{series} in\n{metrics}"))?
                .parse()?;
            ensure!(count >= 4, "{series}{count}");
        }
    }
    Ok(())
}

/// The record that matches, from the agent or the Envoy of node-1.
fn wait_for(lab: &Lab, matches: impl Fn(&Value) -> bool) -> Result<Value> {
    let started = Instant::now();
    loop {
        let records = lab.node_decisions("node-1")?;
        if let Some(record) = records.iter().find(|record| matches(record)) {
            return Ok(record.clone());
        }
        ensure!(started.elapsed() < MOMENT, "no such record: {records:#?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Connections into a pod with a sidecar, one that the node's Envoy carries, and one that only the
/// kernel carries. Proxies close what they carry; the kernel's connection falls silent.
fn cuts() -> Result<()> {
    let annotated = |name: &str, node, host, annotation: &str| {
        let named = format!("metadata: {{name: {name}, ");
        let with = format!("{named}annotations: {{{annotation}}}, ");
        pod(name, node, host).replace(&named, &with)
    };
    let pods = [
        three_pods(),
        annotated("sidecar", 1, 21, "sidewall.dev/sidecar: 'true'"),
        annotated("plain-1", 1, 22, "sidewall.dev/redirect: 'false'"),
        annotated("plain-2", 2, 23, "sidewall.dev/redirect: 'false'"),
    ];
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .redirect(Redirect::All)
            .manifest("cluster.yaml", pods.join("---\n")),
    )?;
    for (family, plain) in [
        (Family::IPv4, "10.244.1.22:80"),
        (Family::IPv6, "[fd00:244:1::22]:80"),
    ] {
        let hold = |from: &str, to: &str| -> Result<_> {
            let probe = Probe::new(from, to, 80)?.over(family);
            lab.hold(&probe).with_context(|| format!("{from} -> {to}"))
        };
        for from in ["default/b", "default/c"] {
            let mut by_sidecar = hold(from, "default/sidecar")?;
            let mut by_node = hold(from, "default/a")?;
            let mut by_kernel = hold("default/plain-2", "default/plain-1")?;
            let datagrams = Probe::new(from, "default/sidecar", 80)?.udp().over(family);
            let mut datagrams = lab.hold(&datagrams)?;
            let mut from_node = hold("node:node-1", "default/plain-1")?;
            lab.apply("policy.yaml", &policy("p", SHUT))?;
            for (held, who) in [(&mut by_sidecar, "a sidecar"), (&mut by_node, "the node")] {
                ensure!(
                    held.wait_cut(MOMENT).is_some(),
                    "{from}: what {who} carries still stands after a second"
                );
            }
            for (held, what) in [(&mut by_kernel, "TCP"), (&mut datagrams, "UDP")] {
                let answered = held.wait_silent(MOMENT, PATIENCE);
                ensure!(
                    answered.is_some(),
                    "{from}: {what} that only the kernel carries is still answered"
                );
            }
            let record = wait_for(&lab, |record| record["destination"] == plain)?;
            ensure!(
                record["cut"] == true && record["policies"] == json!(["default/p"]),
                "{record}"
            );
            from_node
                .exchange(MOMENT)
                .map_err(anyhow::Error::msg)
                .context("the node's own connection")?;
            lab.unapply("policy.yaml")?;
        }
    }
    Ok(())
}
