//! The xDS server: delta ECDS, one resource for each pod and each node; and the client for a node's agent.
//!
//! ```text
//!  SnapshotSource ─▶ resource ─┐
//!                              ├▶ service (a task a stream) ─▶ wire
//!  request ────────▶ session ──┘        │
//!             identity: who is it?      └▶ clients: who runs what
//!             connection, tls
//!
//!  wire ─▶ client ─▶ Snapshot
//! ```
//!
//! The only module that names tonic or Envoy's types. It sees compiled policy through
//! [`crate::snapshots::SnapshotSource`] alone, asks [`crate::authority::Authority`] who a client is, and
//! never decides what a pod may do.

mod certificate;
mod client;
mod clients;
mod connection;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod identity;
mod resource;
mod server;
mod service;
mod session;
mod tls;

pub use certificate::ClientCertificate;
pub use client::{Credentials, Distributor, DistributorError, Follower, Link, follow};
pub use clients::{Client, Clients, Refused, Refuser, Stamped, Stream};
pub use identity::{
    Authenticator, Caller, Identity, PlaintextIdentity, Proof, Refusal, Rules, VerifiedIdentity,
};
pub use resource::Withheld;
pub use server::{Access, ServeError, Server};
pub use session::RESOURCE_NAME;
pub use tls::{Tls, TlsError, TlsFiles};
pub use tonic::transport::Uri;

#[cfg(test)]
mod tests;
