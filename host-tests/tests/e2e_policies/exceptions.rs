//! Who is judged differently: nodes, pods on the network of their node, pods that have ended, and
//! what is audited.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::lab::{Family, Lab, Probe};

use crate::cluster::{NAMESPACE_Y, cluster, policy};
use crate::connections::{FILE, NONE};
use crate::table::{self, Row};

/// `x/host` is on the network of node-2. `x/done` has ended; the address it had is `x/c`'s by now.
/// By their labels, both are clients.
pub const GHOSTS: &str = "\
{apiVersion: v1, kind: Pod, metadata: {name: host, namespace: x, labels: {app: host, role: client}}, spec: {nodeName: node-2, hostNetwork: true, containers: [{name: c, image: i}]}, status: {phase: Running, podIPs: [{ip: 192.168.50.2}, {ip: 'fd50::2'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, namespace: x, labels: {app: done, role: client}}, spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{name: web, containerPort: 8080}]}]}, status: {phase: Succeeded, podIPs: [{ip: 10.244.1.13}, {ip: 'fd00:244:1::13'}]}}
";

/// Policies that select the ghosts, as subjects and as peers.
pub const ROWS: &[Row] = &[
    Row {
        what: "no selector lets a pod on its node's network in, nor one that has ended (G11, H6)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]",
        )],
        allow: &["x/b -> x/a:80"],
        deny: &["x/host node:node-2 x/c -> x/a:80"],
    },
    Row {
        what: "nor does it let anybody out to one (G12, H6)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {role: client}}}]}]",
        )],
        allow: &["x/a -> x/b:80"],
        deny: &["x/a -> x/host:7000 192.168.50.2:7000 x/c:8080"],
    },
    Row {
        what: "a policy for a pod on its node's network isolates nobody (G11, G12)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: host}}, policyTypes: [Ingress, Egress]",
        )],
        allow: &[
            "x/host node:node-2 -> x/a:80",
            "x/a y/a -> x/host:7000 192.168.50.2:7000",
        ],
        deny: &[],
    },
    Row {
        what: "a policy for a pod that has ended isolates nobody (H6)",
        policies: &[(
            "x/p",
            "podSelector: {matchLabels: {app: done}}, policyTypes: [Ingress, Egress]",
        )],
        allow: &["x/b -> x/c:8080", "x/c -> x/a:80"],
        deny: &[],
    },
    Row {
        what: "the own node, both ways, and no other (G6, G7, G8)",
        policies: &[("x/p", "podSelector: {}, policyTypes: [Ingress, Egress]")],
        allow: &[
            "node:node-1 -> x/a:80 x/c:8080",
            "node:node-2 -> x/b:80",
            "x/a -> 192.168.50.1:7000 address:fd50::1:7000",
        ],
        deny: &[
            "node:node-2 -> x/a:80",
            "node:node-1 -> x/b:80",
            "x/a -> 192.168.50.2:7000 address:fd50::2:7000",
        ],
    },
];

/// With `--enforce-own-node-egress` a policy keeps a pod from its own node, but not the node from
/// the pod (G7).
pub fn own_node_egress() -> Result<()> {
    let lab = Lab::start(cluster(&["x/a"]).enforce_own_node_egress())?;
    let rows = [Row {
        what: "egress to the own node is judged (G7)",
        policies: &[("x/p", "podSelector: {}, policyTypes: [Ingress, Egress]")],
        allow: &["node:node-1 x/a -> x/a:80"],
        deny: &["x/a -> 192.168.50.1:7000 address:fd50::1:7000"],
    }];
    table::hold(&lab, &rows)
}

/// The annotation that turns denials into records.
const AUDIT: &str = "annotations: {sidewall.dev/mode: audit}";

/// A policy or a namespace in audit mode lets pass what it would deny, and leaves a record.
pub fn audit(lab: &Lab) -> Result<()> {
    let deny = "podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]";
    let enforced = policy("x/p", deny);
    let audited = enforced.replace("metadata: {", &format!("metadata: {{{AUDIT}, "));
    let to_a = Probe::new("x/c", "x/a", 80)?.over(Family::IPv4);
    lab.apply(FILE, NONE)?;
    let mut held = lab.hold(&to_a)?;

    lab.apply(FILE, &audited)?;
    let known = lab.decisions("x/a")?.len();
    let counted = audits(lab, "x/a")?;
    ensure!(lab.reaches("x/c", "x/a", 80)?, "an audited policy denies");
    ensure!(
        held.exchange(PATIENCE).is_ok(),
        "an audited policy cuts connections"
    );
    let records = lab.decisions("x/a")?.split_off(known);
    let record = only(&records, "10.244.1.11:80")?;
    for (field, value) in [
        ("verdict", json!("would-deny")),
        ("direction", json!("ingress")),
        ("pod", json!("x/a")),
        ("policies", json!(["x/p"])),
    ] {
        ensure!(record[field] == value, "{field} is not {value}: {record}");
    }
    ensure!(
        audits(lab, "x/a")? == counted + 2,
        "the counter has not counted one for each family"
    );

    // The same policy in earnest.
    lab.apply(FILE, &enforced)?;
    ensure!(!lab.reaches("x/c", "x/a", 80)?, "the policy means nothing");

    // A namespace in audit mode: its policies are audited, those of others are not.
    let both = format!("{enforced}---\n{}", policy("y/q", deny));
    let namespace = NAMESPACE_Y.replace("metadata: {", &format!("metadata: {{{AUDIT}, "));
    lab.write_manifest("namespace-y.yaml", &namespace)?;
    lab.apply(FILE, &both)?;
    let known = lab.decisions("y/a")?.len();
    ensure!(
        lab.reaches("x/c", "y/a", 80)?,
        "a policy of an audited namespace denies"
    );
    ensure!(
        !lab.reaches("x/c", "x/a", 80)?,
        "a policy of another namespace does not"
    );
    let records = lab.decisions("y/a")?.split_off(known);
    let record = only(&records, "10.244.2.21:80")?;
    ensure!(
        record["verdict"] == "would-deny" && record["policies"] == json!(["y/q"]),
        "{record}"
    );
    lab.apply("namespace-y.yaml", NAMESPACE_Y)?;
    ensure!(
        !lab.reaches("x/c", "y/a", 80)?,
        "a namespace that is not audited any more"
    );
    Ok(())
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

fn audits(lab: &Lab, pod: &str) -> Result<u64> {
    let name = "wasmcustom.sidewall_connections_total.direction.ingress.verdict.audit";
    Ok(lab.stats(pod, name)?.get(name).unwrap_or(0))
}

/// The one record of a connection to that destination.
fn only<'a>(records: &'a [Value], destination: &str) -> Result<&'a Value> {
    let mut found = records
        .iter()
        .filter(|record| record["destination"] == destination);
    let record = found
        .next()
        .with_context(|| format!("no record of a connection to {destination}: {records:#?}"))?;
    ensure!(found.next().is_none(), "more than one: {records:#?}");
    Ok(record)
}
