//! What is easily forgotten: echo, both sides on one node, Services of several backends, pods that
//! reach themselves, the node's own processes, replies, records.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_host_tests::lab::{Expect, Lab, LabConfig, Plane, Probe};
use sidewall_host_tests::probe::Protocol;

use super::world::{Path, Pod, cluster, hold_to, policies, policy};

const FILE: &str = "policies.yaml";

/// Two pods on node-1 and two on node-2, one of each with a sidecar.
const PODS: [Pod; 4] = [
    pod("s1", 1, 11, Path::Sidecar),
    pod("b1", 1, 12, Path::Kernel),
    pod("s2", 2, 13, Path::Sidecar),
    pod("b2", 2, 14, Path::Kernel),
];

const fn pod(name: &'static str, node: u8, host: u8, path: Path) -> Pod {
    Pod {
        name,
        role: if node == 1 { "near" } else { "far" },
        node,
        host,
        path,
    }
}

pub fn lab(policies: &str) -> Result<Lab> {
    let pods = PODS.iter().map(Pod::manifest);
    let services = PODS
        .iter()
        .map(|pod| pod.service(&format!("app: {}", pod.name)));
    let far = pod("far", 2, 99, Path::Kernel);
    Ok(Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .probe_timeout(Duration::from_millis(1500))
            .manifest(
                "cluster.yaml",
                cluster(pods.chain(services).chain([far.service("role: far")])),
            )
            .manifest(FILE, policies),
    )?)
}

/// Each of those by TCP, UDP and SCTP.
fn all_protocols(from: &str, to: &str, port: u16, expect: Expect) -> Result<Vec<Probe>> {
    let probe = Probe::new(from, to, port)?.expect(expect);
    Ok([Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .map(|protocol| probe.clone().by(protocol))
        .to_vec())
}

fn ping(from: &str, to: &str, expect: Expect) -> Result<Probe> {
    Ok(Probe::new(from, to, 0)?.by(Protocol::Icmp).expect(expect))
}

/// A rule without ports allows echo, a rule with some does not (`semantics G14`).
pub fn echo() -> Result<()> {
    let lab = lab("# no policy\n")?;
    let mut open = Vec::new();
    for pod in PODS {
        for other in PODS {
            open.push(ping(&pod.id(), &other.id(), Expect::Allow)?);
        }
    }
    hold_to(&lab, &open, "without policies")?;
    let from =
        "from: [{podSelector: {matchLabels: {app: b2}}}, {podSelector: {matchLabels: {app: s2}}}]";
    lab.apply(
        FILE,
        &policies(&[
            ("all", &format!("podSelector: {{matchLabels: {{app: b1}}}}, ingress: [{{{from}}}]")),
            (
                "some",
                &format!(
                    "podSelector: {{matchLabels: {{app: s1}}}}, ingress: [{{{from}, ports: [{{port: 1, endPort: 65535}}]}}]"
                ),
            ),
        ]),
    )?;
    let judged = [
        ping("default/b2", "default/b1", Expect::Allow)?,
        ping("default/s2", "default/b1", Expect::Allow)?,
        ping("default/s1", "default/b1", Expect::Deny)?,
        ping("default/b2", "default/s1", Expect::Deny)?,
        ping("default/b1", "default/s1", Expect::Deny)?,
    ];
    hold_to(&lab, &judged, "with policies")?;
    Ok(())
}

/// One side that allows never excuses the other (`semantics F4`).
pub fn both_sides() -> Result<()> {
    let egress = (
        "out",
        "podSelector: {matchExpressions: [{key: app, operator: In, values: [b1, b2]}]}, policyTypes: [Egress], egress: [{}]",
    );
    let ingress = ("in", "podSelector: {matchLabels: {app: b1}}, ingress: []");
    let lab = lab(&policies(&[egress, ingress]))?;
    let mut probes = all_protocols("default/s1", "default/b1", 80, Expect::Deny)?;
    probes.extend(all_protocols("default/b2", "default/b1", 80, Expect::Deny)?);
    probes.extend(all_protocols(
        "default/b1",
        "default/s1",
        80,
        Expect::Allow,
    )?);
    hold_to(&lab, &probes, "egress is allowed, ingress is not")?;

    lab.apply(
        FILE,
        &policies(&[
            ("in", "podSelector: {matchLabels: {app: s1}}, ingress: [{}]"),
            (
                "out",
                "podSelector: {matchLabels: {app: b1}}, policyTypes: [Egress]",
            ),
        ]),
    )?;
    let mut probes = all_protocols("default/b1", "default/s1", 80, Expect::Deny)?;
    probes.extend(all_protocols(
        "default/b2",
        "default/s1",
        80,
        Expect::Allow,
    )?);
    hold_to(&lab, &probes, "ingress is allowed, egress is not")?;
    Ok(())
}

/// Of a Service's backends exactly the allowed ones answer a client without a sidecar, and one with
/// a sidecar, behind which the node judges (`semantics I1`).
pub fn mixed() -> Result<()> {
    let to = |app: &str| {
        format!(
            "podSelector: {{matchLabels: {{app: {app}}}}}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {{matchLabels: {{app: b2}}}}}}]}}]"
        )
    };
    let lab = lab(&policies(&[("b1", &to("b1")), ("s1", &to("s1"))]))?;
    for (from, protocol) in [
        ("default/b1", Protocol::Tcp),
        ("default/b1", Protocol::Udp),
        ("default/s1", Protocol::Tcp),
        ("default/s1", Protocol::Udp),
    ] {
        let probe = Probe::new(from, "service:default/far", 8000)?.by(protocol);
        let results = lab.probe(&vec![probe; 24])?;
        let answered = results.iter().filter(|result| result.answered).count();
        ensure!(
            0 < answered && answered < results.len(),
            "{from} {protocol}: {answered} of {} answered",
            results.len()
        );
    }
    let strangers = lab.seen("default/s2")?;
    ensure!(strangers.is_empty(), "the denied backend saw {strangers:?}");
    Ok(())
}

/// By its own address and by its Service (`semantics G2`, `G3`).
pub fn itself() -> Result<()> {
    let lab = lab(&policy(
        "closed",
        "podSelector: {}, policyTypes: [Ingress, Egress]",
    ))?;
    let mut probes = Vec::new();
    for pod in PODS {
        let id = pod.id();
        probes.extend(all_protocols(&id, &id, 80, Expect::Allow)?);
        let service = format!("service:{id}");
        probes.extend(all_protocols(&id, &service, 8000, Expect::Allow)?);
        probes.push(ping(&id, &id, Expect::Allow)?);
    }
    probes.extend(all_protocols("default/b1", "default/s1", 80, Expect::Deny)?);
    hold_to(&lab, &probes, "under deny-all")?;
    Ok(())
}

/// Host processes reach the pods of their node, whatever the policies (`semantics G6`).
pub fn own_node() -> Result<()> {
    let lab = lab(&policy(
        "closed",
        "podSelector: {}, policyTypes: [Ingress, Egress]",
    ))?;
    let mut probes = Vec::new();
    for pod in PODS {
        for node in 1..=2 {
            let expect = if node == pod.node {
                Expect::Allow
            } else {
                Expect::Deny
            };
            let host = format!("node:node-{node}");
            probes.extend(all_protocols(&host, &pod.id(), 80, expect)?);
            probes.push(ping(&host, &pod.id(), expect)?);
        }
    }
    hold_to(&lab, &probes, "under deny-all")?;
    Ok(())
}

/// Ingress that is closed does not hold back answers (`semantics G1`).
pub fn replies() -> Result<()> {
    let lab = lab(&policy(
        "in",
        "podSelector: {matchExpressions: [{key: app, operator: In, values: [b1, s1]}]}",
    ))?;
    let mut probes = Vec::new();
    for client in ["default/b1", "default/s1"] {
        for server in ["default/b2", "default/s2"] {
            probes.extend(all_protocols(client, server, 80, Expect::Allow)?);
            probes.extend(all_protocols(server, client, 80, Expect::Deny)?);
            probes.push(ping(client, server, Expect::Allow)?);
        }
    }
    hold_to(&lab, &probes, "ingress is closed")?;
    Ok(())
}

/// A record from the agent for what the kernel dropped, counters for either direction and verdict, and
/// how the table came about.
pub fn records() -> Result<()> {
    let lab = lab(&policies(&[
        (
            "in",
            "podSelector: {matchLabels: {app: b1}}, ingress: [{ports: [{port: 81}]}]",
        ),
        (
            "out",
            "podSelector: {matchLabels: {app: b2}}, policyTypes: [Egress]",
        ),
    ]))?;
    let mut probes = all_protocols("default/s2", "default/b1", 80, Expect::Deny)?;
    probes.extend(all_protocols("default/b2", "default/s1", 80, Expect::Deny)?);
    probes.extend(all_protocols(
        "default/s2",
        "default/s1",
        80,
        Expect::Allow,
    )?);
    hold_to(&lab, &probes, "with policies")?;
    for (node, direction, pod, policy, protocols) in [
        (
            "node-1",
            "ingress",
            "default/b1",
            "default/in",
            ["UDP", "SCTP"],
        ),
        (
            "node-2",
            "egress",
            "default/b2",
            "default/out",
            ["TCP", "UDP"],
        ),
    ] {
        for protocol in protocols {
            wait_for(&lab, node, |record| {
                record["pod"] == pod
                    && record["direction"] == direction
                    && record["protocol"] == protocol
                    && record["verdict"] == "deny"
                    && record["policies"] == serde_json::json!([policy])
            })
            .with_context(|| format!("{node}: {direction} of {pod} by {protocol}"))?;
        }
        let metrics = lab.agent_get(node, "/metrics")?;
        for (counter, least) in [
            (&*format!("{direction}_denied_packets_total"), 6),
            // Whoever is not isolated on this side.
            (&*format!("{direction}_allowed_packets_total"), 1),
            ("apply_seconds_count", 1),
            ("table_generation", 1),
            ("scan_seconds_count", 1),
        ] {
            let name = format!("sidewall_node_{counter} ");
            let count = metrics
                .lines()
                .find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok());
            ensure!(
                count.is_some_and(|count| count >= least),
                "{node}: {name}is {count:?}, not {least} or more, in\n{metrics}"
            );
        }
        ensure!(lab.agent_get(node, "/healthz")? == "alive\n", "{node}");
    }
    Ok(())
}

/// The record that matches, from the agent or the Envoy of a node.
fn wait_for(lab: &Lab, node: &str, matches: impl Fn(&Value) -> bool) -> Result<Value> {
    let started = Instant::now();
    loop {
        let records = lab.node_decisions(node)?;
        if let Some(record) = records.iter().find(|record| matches(record)) {
            return Ok(record.clone());
        }
        ensure!(
            started.elapsed() < Duration::from_secs(3),
            "no such record: {records:#?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
