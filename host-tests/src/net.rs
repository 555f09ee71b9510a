//! A cluster's network out of network namespaces, on one machine.
//!
//! ```text
//!                       router ── control (where a distributor listens)
//!            ┌────────────┼────────────┐
//!          node-1       node-2      external hosts
//!         ┌──┴──┐      ┌──┴──┐
//!        pod   pod    pod   pod
//! ```
//!
//! Every line is a veth with host routes and proxy-free gateways on link-local addresses, as
//! Calico does it, so any address can be anywhere and nothing is ever translated but
//! Services. All of it must run inside a [`crate::sandbox`]; it never touches other interfaces,
//! and each namespace goes away with its last [`Netns`] handle.

mod command;
mod link;
mod netns;
mod plan;
mod service;
mod tap;
mod topology;

use std::io;
use std::net::IpAddr;

pub use command::CommandError;
pub use netns::Netns;
pub use plan::{External, Node, Plan, Pod, Wiring};
pub use service::{Protocol, Service, ServicePort, rules as service_rules};
pub use tap::Tap;
pub use topology::{CONTROL_V4, CONTROL_V6, Topology};

/// What can go wrong with the lab's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace could not be made or entered.
    #[error("network namespace {name}: {step}; is this running inside the sandbox?")]
    Netns {
        /// The namespace.
        name: String,
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// `ip` or `nft` refused.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Two hosts with one address.
    #[error(
        "{host}: address {address} is taken by {owner}; every host of the lab needs addresses of its own"
    )]
    AddressTaken {
        /// The host to be added.
        host: String,
        /// The address in question.
        address: IpAddr,
        /// Who has it.
        owner: String,
    },
    /// A host without an address.
    #[error("{host} has no address; give it at least one")]
    NoAddress {
        /// The host to be added.
        host: String,
    },
    /// Two hosts with one name.
    #[error("{host} exists already; remove it first")]
    Exists {
        /// The host to be added.
        host: String,
    },
    /// Nobody of that name.
    #[error("there is no {host} in this lab")]
    Unknown {
        /// The host that was asked for, such as `pod default/web`.
        host: String,
    },
}
