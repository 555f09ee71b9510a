//! Rules of a policy with the fields they stand in.

use sidewall_policy::model::{
    Direction, NamespaceScope, NetworkPolicy, Peer, Peers, Pod, PodPeer, Ports, Rule,
};

use crate::inspect::world::World;

/// A rule and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) direction: Direction,
    pub(super) rule: &'a Rule,
}

/// Every rule that is in force.
pub(super) fn of(policy: &NetworkPolicy) -> impl Iterator<Item = Place<'_>> {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .flat_map(move |direction| {
            let rules = policy.rules(direction).unwrap_or_default();
            rules.iter().map(move |rule| Place { direction, rule })
        })
}

impl<'a> Place<'a> {
    /// `spec.ingress[0]`.
    pub(super) fn field(self) -> String {
        format!("spec.{}[{}]", self.direction, self.rule.index)
    }

    /// `spec.ingress[0].from`.
    pub(super) fn peers_field(self) -> String {
        format!("{}.{}", self.field(), self.direction.peers_field())
    }

    /// Items of `from` or `to`; none for a rule for everybody.
    pub(super) fn peers(self) -> &'a [Peer] {
        match &self.rule.peers {
            Peers::Any => &[],
            Peers::Of(peers) => peers,
        }
    }

    /// Items of `ports`; none for a rule for all ports.
    pub(super) fn ports(self) -> &'a [sidewall_policy::model::PortMatch] {
        match &self.rule.ports {
            Ports::Any => &[],
            Ports::Of(ports) => ports,
        }
    }
}

/// The pods that a peer of a policy stands for.
pub(super) fn pods<'a>(
    world: &'a World,
    policy: &NetworkPolicy,
    peer: &PodPeer,
) -> impl Iterator<Item = &'a Pod> {
    let (namespaces, selector) = (peer.namespaces.clone(), peer.pods.clone());
    let own = policy.id.namespace.clone();
    world.cluster.pods.values().filter(move |pod| {
        let here = match &namespaces {
            NamespaceScope::Own => pod.id.namespace == own,
            NamespaceScope::Matching(selector) => world
                .cluster
                .namespaces
                .get(&pod.id.namespace)
                .is_some_and(|namespace| selector.matches(&namespace.labels)),
        };
        here && pod.is_selectable() && selector.matches(&pod.labels)
    })
}
