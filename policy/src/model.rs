//! Validated objects: what the compiler and the reference evaluator work on.
//!
//! Every value here is already defaulted and legal (`semantics 1A`, `1K`): parsing is validating.
//! Raw, unchecked input lives in [`crate::spec`] and enters through [`crate::admit`].

mod cluster;
mod labels;
mod name;
mod policy;
mod protocol;
#[cfg(test)]
mod tests;

pub use cluster::{
    Backend, Cluster, Namespace, Node, Phase, Pod, PodPort, Service, ServicePort, TcpPath,
};
pub use labels::{Labels, Requirement, Selector, Test};
pub use name::NamespacedName;
pub use policy::{
    Direction, IpBlock, Mode, NamespaceScope, NetworkPolicy, Peer, Peers, PodPeer, PortMatch,
    PortRange, Ports, Rule,
};
pub use protocol::Protocol;
