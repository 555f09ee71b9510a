//! Destinations that are not where the connection ends: services (`semantics 1I`).

use std::net::IpAddr;

use super::world::World;
use super::{Answer, Asked, Why, judge_address};
use crate::compile::Options;
use crate::model::{Cluster, Direction, NetworkPolicy, Pod};

/// What the enforced policies of a pod think of a service port's backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceOpinion {
    /// There is no backend of the address's family.
    NoBackends,
    /// Every backend is allowed.
    Allowed,
    /// None is.
    Denied,
    /// Some are.
    Mixed,
}

/// Judges every backend that a connection of `subject` to a service may end at. A backend that is
/// the subject itself counts as allowed (`semantics G3`).
///
/// `None` when the address and port are not a service's, nor a node port on the subject's node.
pub fn service_opinion(
    cluster: &Cluster,
    options: &Options,
    subject: &Pod,
    (address, protocol, port): (IpAddr, u8, u16),
) -> Option<ServiceOpinion> {
    let world = World { cluster, options };
    let policies: Vec<&NetworkPolicy> = world
        .isolating(Direction::Egress, subject)
        .into_iter()
        .filter(|policy| !world.is_audited(policy))
        .collect();
    let asked = Asked {
        peer: address.to_canonical(),
        protocol,
        port,
    };
    let answers = judge_backends(&world, subject, &policies, asked)?;
    Some(opinion(&answers))
}

/// Judges egress to any destination, seen through a service if it is one.
pub(super) fn judge_egress(
    world: &World<'_>,
    subject: &Pod,
    policies: &[&NetworkPolicy],
    asked: Asked,
) -> Answer {
    let Some(answers) = judge_backends(world, subject, policies, asked) else {
        let node = !world.options.enforce_own_node_egress && world.is_own_node(subject, asked.peer);
        let unknown_port = world.is_cluster_ip(asked.peer) && !node && !policies.is_empty();
        return if unknown_port {
            Answer::without_rule(false, Why::ServiceUnknownPort)
        } else {
            judge_address(world, Direction::Egress, subject, policies, asked)
        };
    };
    if policies.is_empty() {
        return Answer::without_rule(true, Why::NotIsolated);
    }
    let (allowed, why) = match opinion(&answers) {
        ServiceOpinion::Allowed => (true, Why::ServiceAllowed),
        ServiceOpinion::Mixed => (world.options.node_plane, Why::ServiceMixed),
        ServiceOpinion::Denied | ServiceOpinion::NoBackends => (false, Why::ServiceDenied),
    };
    let mut rules: Vec<_> = answers
        .into_iter()
        .flat_map(|answer| answer.rules)
        .collect();
    rules.sort();
    rules.dedup();
    Answer {
        allowed,
        why,
        rules,
    }
}

fn judge_backends(
    world: &World<'_>,
    subject: &Pod,
    policies: &[&NetworkPolicy],
    asked: Asked,
) -> Option<Vec<Answer>> {
    let backends = world.backends(subject, asked.peer, asked.protocol, asked.port)?;
    let judge = |backend: &crate::model::Backend| {
        let asked = Asked {
            peer: backend.ip,
            port: backend.port,
            ..asked
        };
        judge_address(world, Direction::Egress, subject, policies, asked)
    };
    Some(backends.iter().map(judge).collect())
}

fn opinion(answers: &[Answer]) -> ServiceOpinion {
    let allowed = answers.iter().filter(|answer| answer.allowed).count();
    match allowed {
        _ if answers.is_empty() => ServiceOpinion::NoBackends,
        0 => ServiceOpinion::Denied,
        all if all == answers.len() => ServiceOpinion::Allowed,
        _ => ServiceOpinion::Mixed,
    }
}
