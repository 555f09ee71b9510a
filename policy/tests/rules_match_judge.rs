//! Holds the rules that a snapshot shows to those it judges by, over random clusters and flows.

mod support {
    pub mod cluster;
    pub mod config;
    pub mod flow;
}

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::{Flow, Reason, Verdict};
use sidewall_policy::model::{Cluster, Direction, NamespacedName, Protocol, TcpPath};
use sidewall_policy::snapshot::{PodRules, Snapshot, TableRules};
use support::flow::{Aim, Targets, aim};

proptest! {
    #![proptest_config(support::config::tried(256))]

    #[test]
    fn rules_that_are_shown_are_those_that_judge(
        cluster in support::cluster::cluster(),
        aims in vec(aim(), 60),
    ) {
        agrees(&cluster, &aims)?;
    }

    /// Tables of other snapshots of much the same cluster, and of another one.
    #[test]
    fn tables_that_say_the_same_show_the_same(
        cluster in support::cluster::cluster(),
        other in support::cluster::cluster(),
        missing in any::<proptest::sample::Index>(),
    ) {
        let mut smaller = cluster.clone();
        if !smaller.pods.is_empty() {
            let missing = missing.get(&cluster.pods.keys().collect::<Vec<_>>()).to_owned();
            smaller.pods.remove(missing);
        }
        let [whole, smaller, other] = [&cluster, &smaller, &other].map(snapshot);
        for (pod, others) in [(&whole, &whole), (&whole, &smaller), (&whole, &other)]
            .into_iter()
            .flat_map(|(one, others)| one.pods().map(move |pod| (pod, others)))
        {
            for (table, other) in others
                .pods()
                .flat_map(|other| [(pod.egress, other.egress), (pod.ingress, other.ingress)])
            {
                if table.says_the_same(other) {
                    prop_assert_eq!(shown(table), shown(other));
                } else {
                    prop_assert_ne!((table.id(), whole.revision()), (other.id(), others.revision()));
                }
            }
        }
    }
}

fn snapshot(cluster: &Cluster) -> Snapshot {
    let ids: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
    let bytes = compile_snapshot(cluster, &ids, &Options::default());
    Snapshot::check(bytes).expect("the compiler's own output passes its check")
}

/// Everything that a table shows, in words.
fn shown(table: TableRules<'_>) -> String {
    let hosts = table.hosts().map(|(ip, class)| (ip, table.class(class)));
    let ranges = table.ranges();
    let ranges = ranges.map(|(first, last, class)| (first, last, table.class(class)));
    format!(
        "{:?} {:?} {:?}",
        table.policies().collect::<Vec<_>>(),
        hosts.collect::<Vec<_>>(),
        ranges.collect::<Vec<_>>()
    )
}

fn agrees(cluster: &Cluster, aims: &[Aim]) -> TestCaseResult {
    let options = Options {
        node_plane: true,
        tcp_path: TcpPath::NodeProxy,
        ..Options::default()
    };
    let ids: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
    let snapshot = Snapshot::check(compile_snapshot(cluster, &ids, &options))
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let pods: Vec<PodRules<'_>> = snapshot.pods().collect();
    prop_assert_eq!(pods.len(), snapshot.subjects().count());
    for rules in &pods {
        let id = NamespacedName::new(rules.name.namespace, rules.name.name);
        let pod = &cluster.pods[&id];
        prop_assert!(rules.addresses.iter().all(|ip| pod.ips.contains(ip)));
        let namespace = cluster.namespaces.get(&id.namespace);
        prop_assert_eq!(
            rules.tcp_path,
            TcpPath::of(pod, namespace, options.tcp_path)
        );
    }
    let targets = Targets::of(cluster);
    for aim in aims {
        let flow = targets.flow(aim);
        let flow = Flow {
            source: flow.source.to_canonical(),
            destination: flow.destination.to_canonical(),
            ..flow
        };
        let decision = snapshot.judge(&flow);
        for (direction, own, peer) in [
            (Direction::Egress, flow.source, flow.destination),
            (Direction::Ingress, flow.destination, flow.source),
        ] {
            let Some(side) = decision.side(direction) else {
                continue;
            };
            // Services and nodes are no matter of a table.
            if !matches!(
                side.reason,
                Reason::NotIsolated | Reason::Rule(_) | Reason::NoRule
            ) {
                continue;
            }
            let pod = pods.iter().find(|pod| pod.addresses.contains(&own));
            let pod = pod.ok_or_else(|| TestCaseError::fail(format!("nobody has {own}")))?;
            let table = match direction {
                Direction::Egress => pod.egress,
                Direction::Ingress => pod.ingress,
            };
            let verdict = if allows(table, peer, &flow) {
                Verdict::Allow
            } else {
                Verdict::Deny
            };
            prop_assert_eq!(
                verdict,
                side.verdict,
                "{:?} {:?} {:?}",
                direction,
                flow,
                side
            );
        }
    }
    Ok(())
}

/// The straightforward reading of what is shown.
fn allows(table: TableRules<'_>, peer: IpAddr, flow: &Flow) -> bool {
    if !table.is_isolated() {
        return true;
    }
    let host = table.hosts().find(|(ip, _)| *ip == peer);
    let range = || {
        let mut ranges = table.ranges();
        ranges.find(|(first, last, _)| {
            first.is_ipv4() == peer.is_ipv4() && *first <= peer && peer <= *last
        })
    };
    let class = match host {
        Some((_, class)) => class,
        None => range().map_or(0, |(.., class)| class),
    };
    let protocol = Protocol::from_number(flow.protocol);
    table.class(class).iter().any(|ports| {
        ports.protocol == protocol
            && (protocol.is_none() || (ports.low..=ports.high).contains(&flow.port))
    })
}
