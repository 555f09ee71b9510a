//! The Sidewall control plane: from Kubernetes objects to one snapshot per Envoy.
//!
//! ```text
//!  cluster ──events──▶ index ──what changed──▶ publish ──SnapshotSource──▶ xds, admin
//! ```

pub mod admin;
pub mod authority;
pub mod cli;
pub mod cluster;
pub mod index;
pub mod inject;
pub mod inspect;
pub mod metrics;
pub mod node;
pub mod problem;
pub mod publish;
pub mod readiness;
pub mod redirect;
pub mod serve;
pub mod shutdown;
pub mod snapshots;
pub mod status;
pub mod xds;

#[cfg(test)]
mod testing;
