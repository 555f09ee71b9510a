//! The distributor on the control host, and what it says of itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::daemon::{Daemon, Spec};
use super::{Error, LabConfig, Redirect};
use crate::net::Netns;

/// Where Envoys and agents find it.
pub(super) const XDS_PORT: u16 = 18000;

const NAME: &str = "the distributor";

const ADMIN_PORT: u16 = 18080;

/// Which of several, and where it is reached on the control host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// For its own log.
    pub(super) number: u16,
    xds_port: u16,
    admin: SocketAddr,
}

impl Place {
    /// The only one, where everybody looks for it.
    pub(super) const ALONE: Self = Self {
        number: 0,
        xds_port: XDS_PORT,
        admin: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT),
    };

    /// One of those behind a relay; the lab's own is number 0.
    pub(super) fn replica(number: u16) -> Self {
        Self {
            number,
            xds_port: XDS_PORT + 1 + number,
            admin: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ADMIN_PORT + number),
        }
    }

    /// Where a relay reaches it.
    pub(super) fn address(self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.xds_port)
    }
}

/// What `/status` says, as far as the lab is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Whether every manifest has been read once.
    pub synced: bool,
    /// Every pod that has a snapshot or a sidecar.
    pub pods: Vec<PodStatus>,
    /// Every node, in a lab whose nodes enforce.
    pub nodes: Vec<NodeStatus>,
    /// What is wrong with the manifests.
    pub problems: Vec<Problem>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodStatus {
    /// `namespace/name`.
    pub pod: String,
    /// `applied`, `pending`, `refused`, `unknown`, `disconnected` or `absent`.
    pub state: String,
    /// What it should run.
    pub wanted: Option<Revision>,
    /// What it has acknowledged.
    pub applied: Option<Revision>,
}

/// One node: its agent and its Envoy together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// As of a pod.
    pub state: String,
    /// What both should run.
    pub wanted: Option<Revision>,
    /// What the one that connected last has acknowledged.
    pub applied: Option<Revision>,
}

/// A snapshot by its revision.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Revision {
    /// 16 hexadecimal digits.
    pub revision: String,
}

/// Something to be mended in the manifests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// The object or the file.
    pub object: String,
    /// The field; empty when the whole object is meant.
    pub field: String,
    /// Why it was refused.
    pub reason: String,
    /// What enforcement makes of it.
    pub consequence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            field,
            reason,
            consequence,
        } = self;
        let field = if field.is_empty() {
            String::new()
        } else {
            format!("{field}: ")
        };
        write!(f, "{object}: {field}{reason}; {consequence}")
    }
}

/// What it follows.
#[derive(Debug)]
pub(super) enum Follows {
    /// A folder of manifests.
    Folder(PathBuf),
    /// The API server of a kubeconfig.
    Kubeconfig(PathBuf),
}

/// `sidewall serve`.
pub(super) fn spec(
    config: &LabConfig,
    place: Place,
    netns: Netns,
    binary: PathBuf,
    follows: Follows,
    log: PathBuf,
) -> Spec {
    // The lab's network is the lab's own, and its clients come from other namespaces.
    let mut arguments = vec!["serve".to_owned(), "--insecure-plaintext".to_owned()];
    let mut environment = Vec::new();
    match follows {
        Follows::Folder(path) => arguments.push(format!("--manifests={}", path.display())),
        Follows::Kubeconfig(path) => {
            arguments.push("--kube".to_owned());
            environment.push(("KUBECONFIG", path));
        }
    }
    arguments.push(format!("--xds-listen=[::]:{}", place.xds_port));
    arguments.push(format!("--admin-listen={}", place.admin));
    if config.enforce_own_node_egress {
        arguments.push("--enforce-own-node-egress".to_owned());
    }
    if config.plane.has_nodes() {
        arguments.push("--node-plane".to_owned());
        if config.redirect == Redirect::All {
            arguments.push("--redirect".to_owned());
        }
    }
    Spec {
        name: NAME.to_owned(),
        netns,
        binary,
        arguments,
        environment,
        admin: place.admin,
        log,
    }
}

/// There is none at the moment.
pub(super) fn not_running() -> Error {
    Error::NotRunning(NAME.to_owned())
}

/// What a distributor says of every pod.
pub(super) fn status(distributor: &Daemon) -> Result<Status, Error> {
    let text = distributor.get("/status")?;
    serde_json::from_str(&text).map_err(|error| {
        distributor.error(format!(
            "has a /status that cannot be read ({error}): {text}"
        ))
    })
}
