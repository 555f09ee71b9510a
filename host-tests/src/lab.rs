//! A cluster that runs for real on one machine: manifests in, pods and what judges them out.
//!
//! ```text
//!  manifests (a folder) ─┬─▶ `sidewall serve` on the control host ─delta ECDS─┬─▶ Envoy in each pod
//!                        │                                                    └─▶ agent and Envoy on each node
//!                        └─▶ world: nodes, pods, Services ─▶ namespaces, servers, DNAT
//!  probes ─▶ who reaches whom, and who answered
//! ```
//!
//! Nothing stands in for the real thing: Envoys run the bootstraps that users deploy, sidecars behind
//! the rules of `sidewall redirect` and those of nodes behind the rules of `sidewall node`, and the
//! distributor is the shipped binary. Which of them there are is the lab's [`Plane`]. Manifests may
//! change while a lab runs ([`Lab::write_manifest`]), and [`Lab::wait_applied`] tells when everybody
//! decides by them. With [`Source::Kube`] the distributor follows an API server instead, to which the
//! manifests are applied by `kubectl`. It must run inside a [`crate::sandbox`] and never touches the folder it was
//! started from.
//!
//! Objects mean what they mean to Kubernetes, with one annotation that means more in a lab of sidecars
//! alone: there a Pod has one unless it says `sidewall.dev/sidecar: "false"`. A Pod exists from the
//! moment it has a node and an address.

mod access;
mod api;
mod config;
mod daemon;
mod distributor;
mod folder;
mod hosts;
mod kube_proxy;
mod matrix;
mod node;
mod plane;
mod proxy;
mod ranges;
mod replica;
mod result;
mod run;
mod source;
mod spec;
mod told;
mod wait;
mod world;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crate::relay::{Relay, RelayError};
use crate::{apiserver, envoy, net, probe};
use api::Api;
use daemon::Daemon;
use folder::Folder;
use hosts::Hosts;

pub use config::{LabConfig, SidecarTemplate};
pub use distributor::{NodeStatus, PodStatus, Problem, Status};
pub use kube_proxy::{KubeProxy, programs};
pub use matrix::Matrix;
pub use plane::{Plane, Redirect};
pub use replica::Replica;
pub use result::{ProbeResult, failures};
pub use source::Source;
pub use spec::{Expect, Family, ParseError, Party, Port, Probe, Target, read_probes};
pub(crate) use world::translation;

/// A running cluster. Everything is done through a shared reference, so that threads may probe it
/// while another one changes it. Dropping it ends every process and removes every namespace.
#[derive(Debug)]
pub struct Lab {
    config: LabConfig,
    folder: Mutex<Folder>,
    /// What the distributor follows, unless it is the folder, which is a copy of it then.
    api: Option<Api>,
    /// By node.
    kube_proxies: Mutex<BTreeMap<String, Daemon>>,
    // Dropped before the network: Envoys and servers live in its namespaces.
    hosts: Mutex<Hosts>,
    /// What clients reach instead of the distributor, if the lab is to have it.
    relay: Option<Relay>,
    distributor: Mutex<Option<Daemon>>,
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
    /// The API server.
    #[error(transparent)]
    ApiServer(#[from] apiserver::Error),
    /// What `kubectl` was asked to do.
    #[error(transparent)]
    Kubectl(#[from] apiserver::KubectlError),
    /// What stands in front of the distributor.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Nothing does.
    #[error("clients of this lab reach its distributor directly; start it with `relayed`")]
    NoRelay,
    /// A manifest that is to be applied.
    #[error("manifest {file}: {source}")]
    Manifest {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: Box<serde_saphyr::Error>,
    },
    /// There is no API server.
    #[error("the distributor of this lab follows a folder; start it with the source `kube`")]
    NoApiServer,
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
    /// What a node's pod ranges are.
    #[error("Node {node}: spec.podCIDRs: {cidr}: {source}; write a range such as 10.244.1.0/24")]
    PodCidr {
        /// The node.
        node: String,
        /// What its object says.
        cidr: String,
        /// What is wrong with it.
        source: ipnet::AddrParseError,
    },
    /// A pod outside the range that its node's agent was started with.
    #[error(
        "Pod {pod}: an address is not in the pod ranges that the agent of {node} was started with; give Node {node} spec.podCIDRs that hold all pods to come"
    )]
    OutOfRange {
        /// The pod.
        pod: String,
        /// Its node.
        node: String,
    },
    /// A pod without a sidecar was asked for it.
    #[error("pod {0} has no sidecar")]
    NoSidecar(String),
    /// A node that does not enforce was asked what it enforces with.
    #[error(
        "node {0} has no agent: it had no pods and no spec.podCIDRs when the lab was started, or the lab's plane is `proxy`"
    )]
    NoNodePlane(String),
    /// A node whose kernel decides alone.
    #[error("node {0} has no Envoy: start the lab with `LabConfig::redirect`")]
    NoNodeEnvoy(String),
    /// A process that was ended and not started again.
    #[error("{0} is not running")]
    NotRunning(String),
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
    /// A protocol whose probes are over with one answer.
    #[error("{0} has no connections that could be held; hold one over TCP or UDP")]
    NotHeld(probe::Protocol),
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
    /// The distributor or an agent has ended, or does not answer as it should.
    #[error("{name} {what}; the end of its log:\n{log}")]
    Daemon {
        /// Which of them.
        name: String,
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

/// The last lines of a log, for a message.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// A lock whose holder panicked: the test that panicked has failed already, the others go on.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
