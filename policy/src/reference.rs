//! The slow, obvious evaluator: `semantics 1L` as it is written, over the plain model.
//!
//! It shares no step with [`crate::compile`] or [`crate::eval`] beyond their input types, asks every
//! policy and every pod anew for each flow, and is never on the path of traffic. Property tests
//! hold the compiled tables to it, and a user can ask for its opinion on one flow.

mod matching;
mod service;
#[cfg(test)]
mod tests;
mod world;

pub use service::{ServiceOpinion, service_opinion};

use std::net::IpAddr;

use crate::compile::Options;
use crate::eval::Flow;
use crate::model::{Cluster, Direction, NamespacedName, NetworkPolicy, Pod};
use world::World;

/// The opinion on a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Whether it may pass: both sides allow it (`semantics F3`). False when neither end is a pod
    /// that policies can select.
    pub allowed: bool,
    /// Allowed, but not if audited policies were enforced.
    pub would_deny: bool,
    /// Why, when no side is judged: [`Why::Loopback`], [`Why::SelfTraffic`] or
    /// [`Why::UnknownAddress`].
    pub whole: Option<Why>,
    /// The side of the pod that owns the source address.
    pub egress: Option<SideOpinion>,
    /// The side of the pod that owns the destination address.
    pub ingress: Option<SideOpinion>,
}

/// The opinion on one side of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideOpinion {
    /// The pod whose side it is.
    pub subject: NamespacedName,
    /// Whether the enforced policies allow the flow.
    pub allowed: bool,
    /// Allowed, but not if audited policies were enforced.
    pub would_deny: bool,
    /// Why the enforced policies allow or deny it.
    pub why: Why,
    /// The enforced policies that isolate the pod in this direction, sorted.
    pub isolated_by: Vec<NamespacedName>,
    /// The same with audited policies.
    pub isolated_by_all: Vec<NamespacedName>,
    /// Every enforced rule that matches, sorted by policy and place, also where none is needed; the
    /// first is the one to name. Of a service, the rules that match any backend.
    pub rules: Vec<RuleId>,
}

/// A rule by its policy and its place in the list of one direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId {
    /// The policy.
    pub policy: NamespacedName,
    /// The place.
    pub index: u32,
}

/// Why a flow or one of its sides is allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Allowed: loopback never leaves the pod (`semantics G2`).
    Loopback,
    /// Allowed: a pod reaches itself (`semantics G2`).
    SelfTraffic,
    /// Denied: neither end is a pod that policies can select.
    UnknownAddress,
    /// Allowed: to or from the pod's own node (`semantics G6`, `G7`).
    OwnNode,
    /// Allowed: nothing isolates the pod in this direction (`semantics F2`).
    NotIsolated,
    /// Allowed: a rule matches.
    Rule,
    /// Denied: no rule matches.
    NoRule,
    /// Allowed: every backend of the service is.
    ServiceAllowed,
    /// Denied: no backend of the service is allowed, or it has none.
    ServiceDenied,
    /// Some backends are allowed and some are not; passes only with the node plane behind it
    /// (`semantics I4`).
    ServiceMixed,
    /// Denied: a service's address, but not one of its ports.
    ServiceUnknownPort,
}

impl Why {
    /// The word that [`crate::eval::Reason::as_str`] has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::SelfTraffic => "self",
            Self::UnknownAddress => "unknown-address",
            Self::OwnNode => "own-node",
            Self::NotIsolated => "not-isolated",
            Self::Rule => "rule",
            Self::NoRule => "no-rule",
            Self::ServiceAllowed => "service-allowed",
            Self::ServiceDenied => "service-denied",
            Self::ServiceMixed => "service-mixed",
            Self::ServiceUnknownPort => "service-unknown-port",
        }
    }
}

/// Judges a flow by everything that is in the cluster.
pub fn judge(cluster: &Cluster, options: &Options, flow: &Flow) -> Opinion {
    // `semantics D6`.
    let source = flow.source.to_canonical();
    let destination = flow.destination.to_canonical();
    let whole = |allowed, why| Opinion {
        allowed,
        would_deny: false,
        whole: Some(why),
        egress: None,
        ingress: None,
    };
    if source.is_loopback() || destination.is_loopback() {
        return whole(true, Why::Loopback);
    }
    let world = World { cluster, options };
    let (from, to) = (world.owner(source), world.owner(destination));
    let side = |direction, subject: Option<&Pod>, peer| {
        let asked = Asked {
            peer,
            protocol: flow.protocol,
            port: flow.port,
        };
        subject.map(|subject| judge_side(&world, direction, subject, asked))
    };
    match (from, to) {
        (None, None) => return whole(false, Why::UnknownAddress),
        (Some(from), Some(to)) if from.id == to.id => return whole(true, Why::SelfTraffic),
        _ => {}
    }
    let egress = side(Direction::Egress, from, destination);
    let ingress = side(Direction::Ingress, to, source);
    let sides = || egress.iter().chain(&ingress);
    let allowed = sides().all(|side| side.allowed);
    Opinion {
        allowed,
        would_deny: allowed && sides().any(|side| side.would_deny),
        whole: None,
        egress,
        ingress,
    }
}

/// What one side is asked: who is at the other end, and the destination's port.
#[derive(Clone, Copy, Debug)]
struct Asked {
    peer: IpAddr,
    protocol: u8,
    port: u16,
}

/// What a set of policies answers.
struct Answer {
    allowed: bool,
    why: Why,
    rules: Vec<RuleId>,
}

impl Answer {
    const fn without_rule(allowed: bool, why: Why) -> Self {
        Self {
            allowed,
            why,
            rules: Vec::new(),
        }
    }
}

fn judge_side(world: &World<'_>, direction: Direction, subject: &Pod, asked: Asked) -> SideOpinion {
    let all = world.isolating(direction, subject);
    let enforced: Vec<&NetworkPolicy> = all
        .iter()
        .copied()
        .filter(|policy| !world.is_audited(policy))
        .collect();
    let answer = |policies| match direction {
        Direction::Ingress => judge_address(world, direction, subject, policies, asked),
        Direction::Egress => service::judge_egress(world, subject, policies, asked),
    };
    let now = answer(&enforced);
    let strict = answer(&all);
    let ids = |policies: &[&NetworkPolicy]| policies.iter().map(|p| p.id.clone()).collect();
    SideOpinion {
        subject: subject.id.clone(),
        allowed: now.allowed,
        would_deny: now.allowed && !strict.allowed,
        why: now.why,
        isolated_by: ids(&enforced),
        isolated_by_all: ids(&all),
        rules: now.rules,
    }
}

/// Judges the address and port at which a connection really ends: `side_ok` of `semantics 1L`.
///
/// `policies` are those that isolate the subject in this direction, sorted.
fn judge_address(
    world: &World<'_>,
    direction: Direction,
    subject: &Pod,
    policies: &[&NetworkPolicy],
    asked: Asked,
) -> Answer {
    let is_subject = world
        .owner(asked.peer)
        .is_some_and(|pod| pod.id == subject.id);
    let own_node = (direction == Direction::Ingress || !world.options.enforce_own_node_egress)
        && world.is_own_node(subject, asked.peer);
    let rules = matching::rules(world, direction, subject, policies, asked);
    let (allowed, why) = if is_subject {
        (true, Why::SelfTraffic)
    } else if own_node {
        (true, Why::OwnNode)
    } else if policies.is_empty() {
        (true, Why::NotIsolated)
    } else if rules.is_empty() {
        (false, Why::NoRule)
    } else {
        (true, Why::Rule)
    };
    Answer {
        allowed,
        why,
        rules,
    }
}
