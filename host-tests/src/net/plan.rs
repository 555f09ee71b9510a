//! What a lab's network is to look like: who is there, where, with which addresses.

use std::net::IpAddr;

/// The whole network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The pods; each names one of the nodes.
    pub pods: Vec<Pod>,
    /// Hosts outside the cluster.
    pub externals: Vec<External>,
    /// How pods hang on their nodes.
    pub wiring: Wiring,
}

/// How the pods of a node hang on it, and on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wiring {
    /// Each on a line of its own: the node routes every packet.
    #[default]
    Routed,
    /// All on one bridge, as CNI's plugin of that name wires them: frames between them are switched, and the
    /// kernel's rules see them because bridges are told to show them (`bridge-nf-call-iptables`).
    Bridged,
}

/// A node: a namespace that forwards for its pods and translates Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses; the first of each family is what it speaks to its pods with.
    pub addresses: Vec<IpAddr>,
}

/// A pod with a network of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, by custom `namespace/name`.
    pub name: String,
    /// The node it is on.
    pub node: String,
    /// Its addresses: IPv4, IPv6 or both. A family it has no address of is unreachable to it.
    pub addresses: Vec<IpAddr>,
}

/// A host outside the cluster, with any addresses at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Node {
    /// A node of that name.
    pub fn new(name: impl Into<String>, addresses: impl Into<Vec<IpAddr>>) -> Self {
        Self {
            name: name.into(),
            addresses: addresses.into(),
        }
    }
}

impl Pod {
    /// A pod on that node.
    pub fn new(
        name: impl Into<String>,
        node: impl Into<String>,
        addresses: impl Into<Vec<IpAddr>>,
    ) -> Self {
        Self {
            name: name.into(),
            node: node.into(),
            addresses: addresses.into(),
        }
    }
}

impl External {
    /// A host outside the cluster.
    pub fn new(name: impl Into<String>, addresses: impl Into<Vec<IpAddr>>) -> Self {
        Self {
            name: name.into(),
            addresses: addresses.into(),
        }
    }
}
