//! Which rules match: `peer_match` and `port_match` of `semantics 1L`.

use super::world::World;
use super::{Asked, RuleId};
use crate::model::{
    Direction, NamespaceScope, NetworkPolicy, Peer, Peers, Pod, PortMatch, PortRange, Ports,
};

/// Every rule that matches, in the order of the policies and of their lists.
pub(super) fn rules(
    world: &World<'_>,
    direction: Direction,
    subject: &Pod,
    policies: &[&NetworkPolicy],
    asked: Asked,
) -> Vec<RuleId> {
    // Ports are the destination's (`semantics E1`, `E7`).
    let destination = match direction {
        Direction::Ingress => Some(subject),
        Direction::Egress => world.owner(asked.peer),
    };
    let mut matching = Vec::new();
    for policy in policies {
        for rule in policy.rules(direction).unwrap_or_default() {
            let peer = match &rule.peers {
                Peers::Any => true,
                Peers::Of(list) => list
                    .iter()
                    .any(|each| matches_peer(world, policy, each, asked)),
            };
            let port = match &rule.ports {
                Ports::Any => true,
                Ports::Of(list) => list
                    .iter()
                    .any(|each| matches_port(each, destination, asked)),
            };
            if peer && port {
                matching.push(RuleId {
                    policy: policy.id.clone(),
                    index: rule.index,
                });
            }
        }
    }
    matching
}

fn matches_peer(world: &World<'_>, policy: &NetworkPolicy, peer: &Peer, asked: Asked) -> bool {
    match peer {
        // `contains` is false across families (`semantics D3`).
        Peer::Block(block) => {
            block.cidr.contains(&asked.peer)
                && !block.except.iter().any(|net| net.contains(&asked.peer))
        }
        Peer::Pods(wanted) => world.owner(asked.peer).is_some_and(|pod| {
            let in_scope = match &wanted.namespaces {
                NamespaceScope::Own => pod.id.namespace == policy.id.namespace,
                NamespaceScope::Matching(selector) => world
                    .cluster
                    .namespaces
                    .get(&pod.id.namespace)
                    .is_some_and(|namespace| selector.matches(&namespace.labels)),
            };
            in_scope && wanted.pods.matches(&pod.labels)
        }),
    }
}

fn matches_port(wanted: &PortMatch, destination: Option<&Pod>, asked: Asked) -> bool {
    if wanted.protocol.number() != asked.protocol {
        return false;
    }
    match &wanted.port {
        PortRange::All => true,
        PortRange::Numbers { low, high } => (*low..=*high).contains(&asked.port),
        // Only pods have port names, each its own numbers (`semantics E8` to `E12`).
        PortRange::Named(name) => destination.is_some_and(|pod| {
            pod.resolve_port(name, wanted.protocol)
                .any(|number| number == asked.port)
        }),
    }
}
