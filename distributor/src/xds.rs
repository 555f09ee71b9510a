//! The xDS server: delta ECDS, one resource for each pod and each node; and the client for a node's agent.
//!
//! ```text
//!  SnapshotSource ─▶ resource ─┐
//!                              ├▶ service (a task a stream) ─▶ wire
//!  request ────────▶ session ──┘        │
//!             identity: who is it?      └▶ clients: who runs what
//!
//!  wire ─▶ client ─▶ Snapshot
//! ```
//!
//! The only module that names tonic or Envoy's types. It sees compiled policy through
//! [`crate::snapshots::SnapshotSource`] alone, and never decides what a pod may do or who a client is.

mod client;
mod clients;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod identity;
mod resource;
mod server;
mod service;
mod session;

pub use client::{Follower, Link, follow};
pub use clients::{Client, Clients, Refused, Refuser, Stamped, Stream};
pub use identity::{Authenticator, Caller, PlaintextIdentity, Refusal};
pub use resource::Withheld;
pub use server::{ServeError, Server};
pub use session::RESOURCE_NAME;
pub use tonic::transport::Uri;

#[cfg(test)]
mod tests;
