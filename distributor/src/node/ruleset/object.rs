//! What an nftables table is made of, as data: enough of it for this ruleset, and no more.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sidewall_policy::model::{Direction, Protocol};

/// The name of a chain, set, map or counter. All kinds share one name space here.
pub(crate) type Name = Arc<str>;

/// An object under its name.
pub(crate) type Named = (Name, Arc<Object>);

/// An object of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    /// Where it stands. Its rules and elements name objects of lower layers only, or constants.
    pub layer: Layer,
    /// Read by people; decides nothing.
    pub comment: Option<Name>,
    /// What it is.
    pub body: Body,
}

/// From what packets meet first to what is found last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// Chains with hooks and the constant chains and sets around them.
    Base,
    /// From a pod's address to its table; edited in place.
    Pods,
    /// A chain for each table; named by content.
    Tables,
    /// From a peer's address to its port class, in place; edited in place.
    Hosts,
    /// From a peer's range to its port class; named by content.
    Ranges,
    /// A chain for each port class; named by content.
    Classes,
    /// The ports of a class; named by content.
    Ports,
    /// Named counters and where dropped packets end.
    Ends,
}

impl Layer {
    /// Whether equal names mean equal content, so that a change makes a new object.
    pub const fn is_named_by_content(self) -> bool {
        matches!(
            self,
            Self::Tables | Self::Ranges | Self::Classes | Self::Ports
        )
    }
}

/// The kinds of objects.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    /// A named counter, and which policies it counts for; `None` for those of the whole table.
    Counter(Option<Arc<Tally>>),
    /// Rules, behind a hook or to be jumped to.
    Chain {
        /// Where the kernel enters it.
        hook: Option<Hook>,
        /// In order.
        rules: Vec<Rule>,
    },
    /// A set, or a map to verdicts if its elements have some.
    Set {
        /// The type of its keys.
        key: KeyType,
        /// Whether it maps to verdicts.
        is_map: bool,
        /// Sorted by key.
        elements: Vec<Element>,
    },
}

/// What a counter of some policies counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The side that was judged.
    pub direction: Direction,
    /// The policies that isolate it together, as `namespace/name`.
    pub policies: Vec<String>,
    /// What became of the packets.
    pub verdict: TallyVerdict,
}

/// What became of counted packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TallyVerdict {
    /// A rule allows them.
    Allowed,
    /// No rule does.
    Denied,
    /// They passed, and would not if audited policies were enforced.
    WouldDeny,
}

impl TallyVerdict {
    /// As records and metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::Denied => "deny",
            Self::WouldDeny => "would-deny",
        }
    }
}

/// Where the kernel enters a base chain; its policy is always to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// `prerouting` or `output`.
    pub point: &'static str,
    /// As it is written.
    pub priority: &'static str,
    /// The number that this stands for.
    pub number: i64,
}

/// The type of a set's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    /// Single addresses: a hash.
    Address(Family),
    /// Two addresses: a hash.
    Pair(Family),
    /// Ranges of addresses: a tree.
    Range(Family),
    /// A protocol's number: a hash.
    Protocol,
    /// A protocol and a range of ports.
    Ports,
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// What is looked up.
    pub key: Key,
    /// Read by people.
    pub comment: Option<Name>,
    /// In a map, the chain that goes on.
    pub goto: Option<Name>,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// An address.
    Address(IpAddr),
    /// Source and destination.
    Pair(IpAddr, IpAddr),
    /// First and last address.
    Range(IpAddr, IpAddr),
    /// A protocol.
    Protocol(Protocol),
    /// A protocol, the first and the last port.
    Ports(Protocol, u16, u16),
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// An end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl End {
    /// The end whose pod's side this direction is.
    pub const fn subject(direction: Direction) -> Self {
        match direction {
            Direction::Egress => Self::Source,
            Direction::Ingress => Self::Destination,
        }
    }

    /// The other one.
    pub const fn peer(direction: Direction) -> Self {
        match direction {
            Direction::Egress => Self::Destination,
            Direction::Ingress => Self::Source,
        }
    }
}

/// If everything matches, acts, and then says where the packet goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// Done in order.
    pub actions: Vec<Action>,
    /// What follows.
    pub verdict: Verdict,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// The protocol is TCP.
    Tcp,
    /// The state of its connection is one of these.
    State(&'static [State]),
    /// It goes the way of its connection's first packet.
    Original,
    /// It goes the other way.
    Reply,
    /// The packet carries this mark.
    Mark(u32),
    /// Its connection carries this mark.
    ConnectionMark(u32),
    /// It belongs to a transparent socket with this mark.
    TransparentSocket(u32),
    /// It came in by the loopback interface.
    Loopback,
    /// It came in by a bridge.
    FromBridge,
    /// DNAT changed where its connection goes.
    Rewritten,
    /// IPv6 neighbour or router discovery.
    Discovery,
    /// TCP, but no plain SYN.
    NotSyn,
    /// It goes to an address of the node itself.
    ToNode,
    /// An end is in a set.
    In(End, Family, Name),
    /// The connection was opened to this address, whatever DNAT made of it.
    Dialled(SocketAddr),
    /// Both ends together are in a set.
    PairIn(Family, Name),
    /// Protocol and destination port are in a set.
    PortIn(Name),
    /// The protocol is not in a set.
    ProtocolNotIn(Name),
    /// So many at most in a second.
    Limit {
        /// Packets per second.
        rate: u32,
        /// Packets at once.
        burst: u32,
    },
}

/// The state of a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// None yet.
    New,
    /// There is one.
    Established,
    /// There is one that this packet is about.
    Related,
    /// It fits none and may begin none.
    Invalid,
}

/// Something a rule does on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Counts.
    Count(Name),
    /// Sends a copy to a log group.
    Log {
        /// Tells the reader why.
        prefix: &'static str,
        /// The group.
        group: u16,
    },
    /// Adds a mark to the packet.
    Mark(u32),
    /// Adds a mark to its connection.
    MarkConnection(u32),
    /// Puts its connection into a zone of connection tracking.
    Zone(u16),
    /// Keeps connection tracking from it.
    Untrack,
    /// Gives it to the transparent listener on this port; without one the rule ends here.
    Proxy(u16),
}

/// How the kernel answers a packet that it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// With a TCP reset.
    Reset,
    /// With an ICMP or ICMPv6 error: communication is administratively prohibited.
    Prohibited,
}

/// Where a packet goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// With the next rule.
    Continue,
    /// Past this hook.
    Accept,
    /// Nowhere.
    Drop,
    /// Nowhere, and the kernel answers its sender.
    Reject(Refusal),
    /// Behind the last jump.
    Return,
    /// In a chain that may return here.
    Jump(Name),
    /// In a chain that returns to where this one would.
    Goto(Name),
    /// Where a map says for one end; with the next rule if it does not know it.
    Lookup(End, Family, Name),
}

impl Rule {
    /// A rule.
    pub fn new(matches: Vec<Match>, actions: Vec<Action>, verdict: Verdict) -> Self {
        Self {
            matches,
            actions,
            verdict,
        }
    }

    /// A rule for every packet.
    pub fn always(verdict: Verdict) -> Self {
        Self::new(Vec::new(), Vec::new(), verdict)
    }
}

impl Object {
    /// A chain that others jump to.
    pub fn chain(layer: Layer, rules: Vec<Rule>) -> Self {
        Self {
            layer,
            comment: None,
            body: Body::Chain { hook: None, rules },
        }
    }

    /// A set, or a map.
    pub fn set(layer: Layer, key: KeyType, is_map: bool, mut elements: Vec<Element>) -> Self {
        elements.sort_unstable_by_key(|element| element.key);
        elements.dedup_by_key(|element| element.key);
        Self {
            layer,
            comment: None,
            body: Body::Set {
                key,
                is_map,
                elements,
            },
        }
    }

    /// The same with a comment.
    pub fn commented(self, comment: Name) -> Self {
        Self {
            comment: Some(comment),
            ..self
        }
    }

    /// Whether the kernel enters it by itself.
    pub const fn is_hooked(&self) -> bool {
        matches!(self.body, Body::Chain { hook: Some(_), .. })
    }
}

impl KeyType {
    /// Whether keys are ranges.
    pub const fn is_interval(self) -> bool {
        matches!(self, Self::Range(_) | Self::Ports)
    }
}

impl Element {
    /// A member of a set.
    pub const fn member(key: Key) -> Self {
        Self {
            key,
            comment: None,
            goto: None,
        }
    }

    /// An entry of a map.
    pub const fn entry(key: Key, goto: Name) -> Self {
        Self {
            key,
            comment: None,
            goto: Some(goto),
        }
    }
}
