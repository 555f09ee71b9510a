//! What is written down about decisions.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::lab::{Expect, Lab};

use crate::cluster::policy;
use crate::connections::{FILE, probes};

/// `x/a` is isolated by two policies, of which one has rules; `x/c` likewise, for egress.
fn policies() -> String {
    [
        policy("x/deny", "podSelector: {}, policyTypes: [Ingress]"),
        policy(
            "x/web",
            "podSelector: {matchLabels: {app: a}}, ingress: [\
             {from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}, \
             {from: [{ipBlock: {cidr: 172.17.0.0/16}}], ports: [{protocol: UDP, port: 53}]}]",
        ),
        policy(
            "x/out",
            "podSelector: {matchLabels: {app: c}}, policyTypes: [Egress], egress: [\
             {to: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80, endPort: 82}]}]",
        ),
        policy(
            "x/shut",
            "podSelector: {matchLabels: {app: c}}, policyTypes: [Egress]",
        ),
    ]
    .join("---\n")
}

/// A denied connection over IPv4, in whose sidecar it is recorded, and how.
struct Denial {
    connection: &'static str,
    recorded_by: &'static str,
    policies: &'static [&'static str],
    nearest: &'static str,
    missed: &'static str,
}

const INTO_A: [&str; 2] = ["x/deny", "x/web"];
const OUT_OF_C: [&str; 2] = ["x/out", "x/shut"];

const DENIALS: [Denial; 7] = [
    Denial {
        connection: "x/b -> x/a:81",
        recorded_by: "x/a",
        policies: &INTO_A,
        nearest: "x/web ingress[0]",
        missed: "ports",
    },
    Denial {
        connection: "172.18.0.5 -> x/a:80",
        recorded_by: "x/a",
        policies: &INTO_A,
        nearest: "x/web ingress[0]",
        missed: "from",
    },
    Denial {
        connection: "172.17.0.5 -> x/a:53",
        recorded_by: "x/a",
        policies: &INTO_A,
        nearest: "x/web ingress[1]",
        missed: "ports.protocol",
    },
    Denial {
        connection: "172.18.0.5 -> x/a:7777",
        recorded_by: "x/a",
        policies: &INTO_A,
        nearest: "x/web ingress[0]",
        missed: "from and ports",
    },
    Denial {
        connection: "x/c -> x/b:81",
        recorded_by: "x/c",
        policies: &OUT_OF_C,
        nearest: "x/out egress[0]",
        missed: "to",
    },
    Denial {
        connection: "x/c -> x/a:83",
        recorded_by: "x/c",
        policies: &OUT_OF_C,
        nearest: "x/out egress[0]",
        missed: "ports",
    },
    Denial {
        connection: "x/c -> 10.0.0.9:7777",
        recorded_by: "x/c",
        policies: &OUT_OF_C,
        nearest: "x/out egress[0]",
        missed: "to and ports",
    },
];

/// Every denied connection leaves one record, in the sidecar that denied it: all policies that
/// isolate the pod, the rule that came nearest and what it missed.
pub fn decisions(lab: &Lab) -> Result<()> {
    lab.apply(FILE, &policies())?;
    for Denial {
        connection,
        recorded_by,
        policies,
        nearest,
        missed,
    } in DENIALS
    {
        let record = record_of(lab, recorded_by, connection)?;
        let (rule, fields) = nearest.split_once(' ').context("no rule")?;
        ensure!(
            policies.contains(&rule),
            "{fields} of {rule}, which does not isolate"
        );
        let direction = fields.trim_end_matches(|last: char| !last.is_alphabetic());
        for (field, value) in [
            ("verdict", json!("deny")),
            ("direction", json!(direction)),
            ("pod", json!(recorded_by)),
            ("reason", json!("no-rule")),
            ("policies", json!(policies)),
            ("nearest", json!({"rule": nearest, "missed": missed})),
            ("cut", Value::Null),
        ] {
            ensure!(
                record[field] == value,
                "{connection}: {field} should be {value}: {record}"
            );
        }
        let (_, port) = connection.rsplit_once(':').context("no port")?;
        let destination = record["destination"].as_str().unwrap_or_default();
        ensure!(
            destination.ends_with(&format!(":{port}")) && record["source"].is_string(),
            "{connection}: {record}"
        );
    }
    // Nobody has a rule to be near to.
    let record = record_of(lab, "x/b", "y/a -> x/b:80")?;
    ensure!(
        record["policies"] == json!(["x/deny"]) && record["nearest"].is_null(),
        "{record}"
    );
    Ok(())
}

/// The destination is the Service's address; the record says whose, and whether one of its two pods
/// would be allowed or none.
pub fn services(lab: &Lab) -> Result<()> {
    for (peer, reason) in [
        (
            "namespaceSelector: {}, podSelector: {matchLabels: {app: b}}",
            "service-mixed",
        ),
        // It covers the address that the client sees, which is not what counts.
        ("ipBlock: {cidr: 10.96.0.0/16}", "service-denied"),
    ] {
        let spec = format!(
            "podSelector: {{matchLabels: {{app: a}}}}, policyTypes: [Egress], egress: [{{to: [{{{peer}}}]}}]"
        );
        lab.apply(FILE, &policy("y/out", &spec))?;
        let record = record_of(lab, "y/a", "y/a -> service:x/pair:8000")?;
        for (field, value) in [
            ("verdict", json!("deny")),
            ("direction", json!("egress")),
            ("pod", json!("y/a")),
            ("destination", json!("10.96.0.2:8000")),
            ("service", json!("x/pair")),
            ("reason", json!(reason)),
            (
                "nearest",
                json!({"rule": "y/out egress[0]", "missed": "to"}),
            ),
        ] {
            ensure!(
                record[field] == value,
                "{field} should be {value}: {record}"
            );
        }
    }
    Ok(())
}

/// Tries a connection that must be denied, over IPv4, and returns the one record of it.
fn record_of(lab: &Lab, pod: &str, connection: &str) -> Result<Value> {
    let known = lab.decisions(pod)?.len();
    let probe = probes(&[format!("{connection} over IPv4").as_str()], Expect::Deny)?;
    for result in lab.probe(&probe)? {
        ensure!(result.ok == Some(true), "{result}");
    }
    let mut records = lab.decisions(pod)?.split_off(known);
    ensure!(
        records.len() == 1,
        "{connection}: one record expected of {pod}: {records:#?}"
    );
    Ok(records.swap_remove(0))
}

/// Entries of denied connections name every policy, and no upstream; those of allowed ones name the
/// policy whose rule allows, if it needs one.
pub fn access_log(lab: &Lab) -> Result<()> {
    lab.apply(FILE, &policies())?;
    for (connection, pod, expect, decision) in [
        ("y/a -> x/a:82", "x/a", Expect::Deny, "deny x/deny,x/web"),
        (
            "x/c -> 10.0.0.9:5979",
            "x/c",
            Expect::Deny,
            "deny x/out,x/shut",
        ),
        ("x/b -> x/a:80", "x/a", Expect::Allow, "allow x/web"),
        ("x/a -> y/a:80", "x/a", Expect::Allow, "allow"),
    ] {
        let known = lab.access_log(pod)?.len();
        let probe = probes(&[format!("{connection} over IPv4").as_str()], expect)?;
        for result in lab.probe(&probe)? {
            ensure!(result.ok == Some(true), "{result}");
        }
        let entry = next_entry(lab, pod, known).context(connection)?;
        let field = |name: &str| entry[name].as_str().unwrap_or_default();
        let found = (field("decision"), field("close_reason"));
        if expect == Expect::Deny {
            ensure!(
                found == (decision, "wasm_downstream_close") && entry["upstream"].is_null(),
                "{connection}: {entry}"
            );
        } else {
            ensure!(
                found == (decision, "") && entry["upstream"].is_string(),
                "{connection}: {entry}"
            );
        }
    }
    Ok(())
}

/// The entry after those known. Envoy writes it a moment after the connection has ended.
fn next_entry(lab: &Lab, pod: &str, known: usize) -> Result<Value> {
    let started = Instant::now();
    loop {
        let mut entries = lab.access_log(pod)?.split_off(known);
        match entries.len() {
            1 => return Ok(entries.swap_remove(0)),
            0 if started.elapsed() < Duration::from_secs(5) => {
                thread::sleep(Duration::from_millis(10));
            }
            _ => bail!("one new entry expected of {pod}: {entries:#?}"),
        }
    }
}
