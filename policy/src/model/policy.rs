//! A NetworkPolicy after defaulting and validation.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::{NamespacedName, Protocol, Selector};

/// The side of a connection that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Connections that the pod accepts; its peers are sources.
    Ingress,
    /// Connections that the pod opens; its peers are destinations.
    Egress,
}

impl Direction {
    /// `ingress` or `egress`: the field of the spec that holds its rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The field of a rule that lists its peers: `from` or `to`.
    pub const fn peers_field(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a policy decides, or only records what it would have decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// The policy is enforced.
    #[default]
    Enforce,
    /// The policy is only observed: what it alone would deny passes and is recorded.
    Audit,
}

/// A valid NetworkPolicy with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub id: NamespacedName,
    /// Which pods of its namespace it isolates (`semantics A2`).
    pub pod_selector: Selector,
    /// Ingress rules; `None` when policyTypes lacks Ingress, so that the policy does not isolate
    /// its pods for ingress (`semantics A3` to `A8`). `Some` and empty isolates and allows nothing.
    pub ingress: Option<Vec<Rule>>,
    /// The same for egress.
    pub egress: Option<Vec<Rule>>,
    /// Enforced or only observed.
    pub mode: Mode,
}

impl NetworkPolicy {
    /// The rules of one direction; `None` when the policy does not isolate in it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// One rule: it allows what matches one of its peers *and* one of its ports (`semantics C2`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its position in the manifest's list, kept when an invalid neighbour was left out.
    pub index: u32,
    /// Who may be at the other end.
    pub peers: Peers,
    /// On which destination ports.
    pub ports: Ports,
}

/// The peers of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// No list, or an empty one: everyone, pods or not (`semantics A10`).
    Any,
    /// One of these. Empty when every item was invalid: nobody.
    Of(Vec<Peer>),
}

/// One item of `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods chosen by labels.
    Pods(PodPeer),
    /// A range of addresses, whoever owns them (`semantics C4`).
    Block(IpBlock),
}

/// Pods chosen by namespace and pod labels, both (`semantics C1`).
///
/// Never matches host-network pods, terminal pods or addresses outside the cluster (`semantics C5`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodPeer {
    /// In which namespaces.
    pub namespaces: NamespaceScope,
    /// With which pod labels.
    pub pods: Selector,
}

/// The namespaces a pod peer looks into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamespaceScope {
    /// No namespaceSelector: the policy's own namespace (`semantics A16`).
    Own,
    /// Namespaces whose *object* carries matching labels (`semantics B7`); one that is not known
    /// matches nothing (`semantics B10`).
    Matching(Selector),
}

/// An address range without its exceptions (`semantics 1D`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpBlock {
    /// The range, host bits cleared.
    pub cidr: IpNet,
    /// What this item leaves out; another item may still allow it (`semantics D2`).
    pub except: Vec<IpNet>,
}

/// The ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// No list, or an empty one: every port of every protocol (`semantics A12`).
    Any,
    /// One of these. Empty when every item was invalid: none.
    Of(Vec<PortMatch>),
}

/// One item of `ports`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortMatch {
    /// Its protocol, TCP by default (`semantics E2`).
    pub protocol: Protocol,
    /// Its ports.
    pub port: PortRange,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRange {
    /// All of them (`semantics E4`).
    All,
    /// From `low` to `high`, both included (`semantics E5`).
    Numbers {
        /// The first port, at least 1.
        low: u16,
        /// The last port, at least `low`.
        high: u16,
    },
    /// A container port name, resolved on each destination pod (`semantics E7`, `E8`).
    Named(Arc<str>),
}
