//! One question for every plane: may this flow pass?
//!
//! If the source is a subject of the snapshot, its egress side is judged; if the destination is,
//! its ingress side; both must allow (`semantics F3`); if neither is known, the answer is no. So
//! direction needs no configuration. Judging never allocates, never panics and never fails: an
//! index that [`Snapshot::check`] would have refused counts as "not allowed".

#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

use std::net::IpAddr;

mod explain;
mod search;
mod table;
#[cfg(test)]
mod tests;

pub use explain::{Explanation, NearMiss, RuleName};
pub(crate) use search::{
    Directory, RangeDirectory, host_key_v4, host_key_v6, host_of_key_v4, host_of_key_v6,
};

use crate::compile::Family;
use crate::model::Direction;
use crate::snapshot::layout::{FLAG_ENFORCE_OWN_NODE_EGRESS, NONE, Subject};
use crate::snapshot::{Snapshot, View};
use table::ServiceMatch;

/// A connection or packet, by what its first packet shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// The IANA protocol number: 6 TCP, 17 UDP, 132 SCTP, others such as ICMP.
    pub protocol: u8,
    /// The destination port; 0 for protocols without ports.
    pub port: u16,
}

/// May it pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No.
    Deny,
}

/// Why a side, or the whole flow, was allowed or denied. Numbers are indexes into the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Loopback never leaves the pod (`semantics G2`).
    Loopback,
    /// A pod reaches itself (`semantics G2`).
    SelfTraffic,
    /// Neither end is a pod of this snapshot.
    UnknownAddress,
    /// To or from the pod's own node (`semantics G6`, `G7`).
    OwnNode,
    /// No policy isolates the pod in this direction (`semantics F2`).
    NotIsolated,
    /// This rule allows it.
    Rule(u32),
    /// No rule allows it.
    NoRule,
    /// A service of which every backend is allowed; one by this rule, if by any.
    ServiceAllowed {
        /// The service port.
        service_port: u32,
        /// A rule that allows a backend.
        rule: Option<u32>,
    },
    /// A service of which no backend is allowed, or which has none.
    ServiceDenied {
        /// The service port.
        service_port: u32,
    },
    /// A service with allowed and denied backends (`semantics I4`).
    ServiceMixed {
        /// The service port.
        service_port: u32,
    },
    /// A service's address, but not a port of it.
    ServiceUnknownPort {
        /// A service port of the same address.
        service_port: u32,
    },
}

/// The verdict of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// The verdict that counts.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Allowed, but audited policies would have denied it.
    pub would_deny: bool,
    /// The subject whose side this is.
    pub(crate) subject: u32,
}

/// The verdict on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict that counts.
    pub verdict: Verdict,
    /// Why, when no side had to be judged: loopback, self traffic or unknown addresses.
    pub whole: Option<Reason>,
    /// The source's side, if the source is a subject.
    pub egress: Option<Side>,
    /// The destination's side, if the destination is a subject.
    pub ingress: Option<Side>,
}

impl Decision {
    const fn whole(verdict: Verdict, reason: Reason) -> Self {
        Self {
            verdict,
            whole: Some(reason),
            egress: None,
            ingress: None,
        }
    }

    /// The side that decided: one that denies, else one that audited policies would deny, else
    /// the first that was judged.
    pub fn direction(&self) -> Option<Direction> {
        let sides = [
            (Direction::Egress, self.egress),
            (Direction::Ingress, self.ingress),
        ];
        let judged = || {
            sides
                .iter()
                .filter_map(|(direction, side)| Some((*direction, (*side)?)))
        };
        judged()
            .find(|(_, side)| side.verdict == Verdict::Deny)
            .or_else(|| judged().find(|(_, side)| side.would_deny))
            .or_else(|| judged().next())
            .map(|(direction, _)| direction)
    }

    /// One side.
    pub fn side(&self, direction: Direction) -> Option<Side> {
        match direction {
            Direction::Egress => self.egress,
            Direction::Ingress => self.ingress,
        }
    }

    /// Allowed, but denied if audited policies were enforced.
    pub fn would_deny(&self) -> bool {
        self.verdict == Verdict::Allow
            && [self.egress, self.ingress]
                .iter()
                .flatten()
                .any(|side| side.would_deny)
    }
}

impl Snapshot {
    /// Judges a flow.
    pub fn judge(&self, flow: &Flow) -> Decision {
        let flow = flow.normalised();
        if flow.source.is_loopback() || flow.destination.is_loopback() {
            return Decision::whole(Verdict::Allow, Reason::Loopback);
        }
        let view = self.view();
        let source = view.subject_of(flow.source);
        let destination = view.subject_of(flow.destination);
        if source.is_none() && destination.is_none() {
            return Decision::whole(Verdict::Deny, Reason::UnknownAddress);
        }
        if source == destination {
            return Decision::whole(Verdict::Allow, Reason::SelfTraffic);
        }
        let judge = |direction, subject: Option<u32>| {
            subject.map(|subject| view.judge_side(direction, subject, &flow))
        };
        let egress = judge(Direction::Egress, source);
        let ingress = judge(Direction::Ingress, destination);
        let denied = [egress, ingress]
            .iter()
            .flatten()
            .any(|side| side.verdict == Verdict::Deny);
        Decision {
            verdict: if denied {
                Verdict::Deny
            } else {
                Verdict::Allow
            },
            whole: None,
            egress,
            ingress,
        }
    }
}

impl Flow {
    /// With v4-mapped IPv6 addresses as the IPv4 they mean (`semantics D6`).
    fn normalised(&self) -> Self {
        Self {
            source: self.source.to_canonical(),
            destination: self.destination.to_canonical(),
            ..*self
        }
    }

    /// The other end, seen from the subject.
    fn peer(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        }
    }
}

impl View<'_> {
    fn subject_of(&self, ip: IpAddr) -> Option<u32> {
        match ip {
            IpAddr::V4(v4) => search::record(self.subjects_v4, |s| s.address, v4.octets())
                .map(|s| s.subject.get()),
            IpAddr::V6(v6) => search::record(self.subjects_v6, |s| s.address, v6.octets())
                .map(|s| s.subject.get()),
        }
    }

    fn judge_side(&self, direction: Direction, index: u32, flow: &Flow) -> Side {
        let side = |verdict, reason, would_deny| Side {
            verdict,
            reason,
            would_deny,
            subject: index,
        };
        let known = self.subjects.get(index as usize).and_then(|subject| {
            let group = self.groups.get(subject.group.get() as usize)?;
            Some((subject, group))
        });
        let Some((subject, group)) = known else {
            return side(Verdict::Deny, Reason::UnknownAddress, false);
        };
        let (enforced, audit) = match direction {
            Direction::Ingress => (group.ingress, group.audit_ingress),
            Direction::Egress => (group.egress, group.audit_egress),
        };
        let on_own_node = match self.judge_own_node(direction, subject, flow) {
            OwnNode::No => None,
            OwnNode::Allowed => return side(Verdict::Allow, Reason::OwnNode, false),
            OwnNode::Service(service_port) => Some(service_port),
        };
        let judge = |table| self.judge_table(table, direction, subject, flow, on_own_node);
        let (verdict, reason) = judge(enforced.get());
        let would_deny = verdict == Verdict::Allow
            && audit.get() != NONE
            && judge(audit.get()).0 == Verdict::Deny;
        side(verdict, reason, would_deny)
    }

    /// The exemption of the pod's own node (`semantics G6`, `G7`). A NodePort on it is no traffic
    /// to the node, nor is a service's external IP that is the node's: it is handed on to a pod.
    fn judge_own_node(&self, direction: Direction, subject: &Subject, flow: &Flow) -> OwnNode {
        if !self.is_own_node(subject, flow.peer(direction)) {
            return OwnNode::No;
        }
        if direction == Direction::Ingress {
            return OwnNode::Allowed;
        }
        if let Some(service_port) = self.service_on_own_node(flow) {
            return OwnNode::Service(service_port);
        }
        if self.flags & FLAG_ENFORCE_OWN_NODE_EGRESS == 0 {
            OwnNode::Allowed
        } else {
            OwnNode::No
        }
    }

    fn is_own_node(&self, subject: &Subject, peer: IpAddr) -> bool {
        let wanted = mapped(peer).to_be_bytes();
        crate::snapshot::slice(self.node_addresses, subject.node)
            .is_some_and(|addresses| addresses.contains(&wanted))
    }

    /// The service that a port of the own node stands for.
    fn service_on_own_node(&self, flow: &Flow) -> Option<u32> {
        let family = Family::of(flow.destination) as u8;
        search::record(
            self.node_ports,
            |p| (p.family, p.protocol, p.port.get()),
            (family, flow.protocol, flow.port),
        )
        .map(|p| p.service_port.get())
        .or_else(|| match self.service_of(flow)? {
            ServiceMatch::Port(service_port) => Some(service_port),
            ServiceMatch::OtherPort(_) => None,
        })
    }
}

/// How a flow relates to the subject's own node.
enum OwnNode {
    /// Not at all, or its exemption is switched off.
    No,
    /// It is exempt.
    Allowed,
    /// It goes to a service by a port of the node.
    Service(u32),
}

/// An address of either family as one number: IPv4 in its v4-mapped form.
pub(crate) fn mapped(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address that [`mapped`] made a number of.
pub(crate) fn unmapped(bits: u128) -> IpAddr {
    IpAddr::V6(bits.into()).to_canonical()
}
