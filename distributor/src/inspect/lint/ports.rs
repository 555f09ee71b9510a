//! Port names that no pod has (`semantics E7` to `E10`).

use std::collections::BTreeSet;

use sidewall_policy::model::{Direction, NetworkPolicy, Peer, Peers, Pod, PortRange, Protocol};

use super::rules::{self, Place};
use super::{Finding, Level, about, some};
use crate::inspect::world::World;

pub(super) fn check(world: &World, policy: &NetworkPolicy, subjects: &[&Pod]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for place in rules::of(policy) {
        for (index, port) in place.ports().iter().enumerate() {
            let PortRange::Named(name) = &port.port else {
                continue;
            };
            let targets = targets(world, policy, place, subjects);
            let without: Vec<&Pod> = targets
                .iter()
                .copied()
                .filter(|pod| pod.resolve_port(name, port.protocol).next().is_none())
                .collect();
            // Who a rule without pods is about has been said by another check.
            if targets.is_empty() || without.len() < targets.len() {
                continue;
            }
            let protocols: BTreeSet<Protocol> = targets
                .iter()
                .flat_map(|pod| &pod.ports)
                .filter(|port| port.name == *name)
                .map(|port| port.protocol)
                .collect();
            let remedy = match protocols.first() {
                Some(other) => {
                    format!("the port of that name is of {other}: name protocol: {other}")
                }
                None => {
                    "name a port that the containers of the destination declare, or give its number"
                        .to_owned()
                }
            };
            findings.push(Finding {
                finding: format!(
                    "none of the destination pods has a {} port named {name:?}: {}",
                    port.protocol,
                    some(without)
                ),
                consequence: "this port matches nothing".to_owned(),
                remedy,
                ..about(
                    policy,
                    Level::Warning,
                    "unresolved-port",
                    format!("{}.ports[{index}].port", place.field()),
                )
            });
        }
    }
    findings
}

/// The pods whose port names count: the selected ones for ingress, the peers for egress, and for
/// egress to everybody every pod of the cluster (`semantics E11`).
fn targets<'a>(
    world: &'a World,
    policy: &NetworkPolicy,
    place: Place<'_>,
    subjects: &[&'a Pod],
) -> Vec<&'a Pod> {
    match (place.direction, &place.rule.peers) {
        (Direction::Ingress, _) => subjects.to_vec(),
        (Direction::Egress, Peers::Any) => world.pods().collect(),
        (Direction::Egress, Peers::Of(peers)) => peers
            .iter()
            .flat_map(|peer| match peer {
                Peer::Pods(peer) => rules::pods(world, policy, peer).collect::<Vec<_>>(),
                Peer::Block(_) => Vec::new(),
            })
            .collect(),
    }
}
