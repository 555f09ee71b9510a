//! A cluster that runs for real on one machine: manifests in, pods with sidecars out.
//!
//! ```text
//!  manifests (a folder) ─┬─▶ `sidewall serve` on the control host ─delta ECDS─▶ Envoy in each pod
//!                        └─▶ world: nodes, pods, Services ─▶ namespaces, servers, DNAT
//!  probes ─▶ who reaches whom, and who answered
//! ```
//!
//! Nothing stands in for the real thing: sidecars are Envoys with the bootstrap that users deploy,
//! behind the rules of `sidewall redirect`, and the distributor is the shipped binary. Manifests
//! may change while a lab runs ([`Lab::write_manifest`]), and [`Lab::wait_applied`] tells when every
//! worker of every sidecar decides by them. It must run inside a [`crate::sandbox`] and never
//! touches the folder it was started from.
//!
//! Objects mean what they mean to Kubernetes, with one annotation of the lab's own: a Pod with
//! `sidewall.dev/sidecar: "false"` has no sidecar. A Pod exists from the moment it has a node and an
//! address.

mod access;
mod config;
mod distributor;
mod folder;
mod hosts;
mod matrix;
mod result;
mod run;
mod sidecar;
mod spec;
mod world;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crate::{envoy, net, probe};
use distributor::Distributor;
use folder::Folder;
use hosts::Hosts;

pub use config::LabConfig;
pub use distributor::{PodStatus, Problem, Status};
pub use matrix::Matrix;
pub use result::{ProbeResult, failures};
pub use spec::{Expect, Family, ParseError, Party, Port, Probe, Target, read_probes};

/// A running cluster. Everything is done through a shared reference, so that threads may probe it
/// while another one changes it. Dropping it ends every process and removes every namespace.
#[derive(Debug)]
pub struct Lab {
    config: LabConfig,
    folder: Mutex<Folder>,
    // Dropped before the network: Envoys and servers live in its namespaces.
    hosts: Mutex<Hosts>,
    distributor: Mutex<Option<Distributor>>,
    directory: tempfile::TempDir,
}

/// Why a lab could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// An Envoy, or a file that a build should have made.
    #[error(transparent)]
    Envoy(#[from] envoy::Error),
    /// A server, or a held connection.
    #[error(transparent)]
    Probe(#[from] probe::Error),
    /// A probe that cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A file or folder.
    #[error("{step} {path}: {source}", path = path.display())]
    File {
        /// What was attempted, such as `writing`.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A Pod on a node that nothing describes.
    #[error(
        "Pod {pod}: spec.nodeName is {node}, and no Node of that name has addresses; add one to the manifests"
    )]
    NoNode {
        /// The pod.
        pod: String,
        /// Its node.
        node: String,
    },
    /// Nodes changed while the lab runs.
    #[error(
        "Node {0}: nodes cannot come, go or change their addresses while a lab runs; start another one"
    )]
    NodesChanged(String),
    /// Nobody of that name.
    #[error(
        "there is no {0} in this lab; a Pod exists once it has spec.nodeName and status.podIPs and runs"
    )]
    Unknown(String),
    /// A pod without a sidecar was asked for it.
    #[error("pod {0} has no sidecar running")]
    NoSidecar(String),
    /// The two ends of a probe have no address family in common.
    #[error("{from} to {to}: no address family in common, or not the one that was asked for")]
    NoFamily {
        /// Where from.
        from: String,
        /// Where to.
        to: String,
    },
    /// A port name that the target does not have.
    #[error(
        "{to} has no {protocol} port named {name}; name a container port of the pod, or give a number"
    )]
    NoPort {
        /// The target.
        to: String,
        /// The protocol.
        protocol: probe::Protocol,
        /// The name.
        name: String,
    },
    /// A command failed.
    #[error("{what} failed ({status}): {output}")]
    Command {
        /// Which command, and where.
        what: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed.
        output: String,
    },
    /// The distributor is not there, or does not answer.
    #[error("the distributor {what}; the end of its log:\n{log}")]
    Distributor {
        /// What is the matter.
        what: String,
        /// The last lines of its log.
        log: String,
    },
    /// The manifests did not come into force in time.
    #[error("not applied after {waited:?}:\n{missing}")]
    NotApplied {
        /// For how long was waited.
        waited: Duration,
        /// Which pods lack what, one a line.
        missing: String,
    },
}

/// Waits that are so long that only something broken takes longer, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the distributor is reached from pods of either family.
fn control(is_v4: bool) -> IpAddr {
    if is_v4 {
        IpAddr::V4(net::CONTROL_V4)
    } else {
        IpAddr::V6(net::CONTROL_V6)
    }
}

/// A lock whose holder panicked: the test that panicked has failed already, the others go on.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
