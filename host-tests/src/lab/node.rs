//! A node's enforcement: the agent `sidewall node`, and the Envoy that it leads connections to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use clap::ValueEnum as _;
use ipnet::IpNet;
use sidewall_distributor::node::ruleset::DeniedTcp;

use super::daemon::{Daemon, Spec};
use super::proxy::Proxy;
use super::{Error, lock};

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18081);

/// What enforces on one node.
#[derive(Clone, Debug)]
pub(super) struct NodePlane {
    pub(super) agent: Arc<Agent>,
    /// Only where TCP is redirected.
    pub(super) envoy: Option<Arc<Proxy>>,
}

/// An agent, whether it runs at the moment or not.
#[derive(Debug)]
pub(super) struct Agent {
    spec: Spec,
    running: Mutex<Option<Daemon>>,
}

/// What an agent is told about the cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Its node.
    pub(super) node: &'a str,
    /// Where the distributor's xDS port is.
    pub(super) distributor: SocketAddr,
    /// Where sidecars find it, over either family.
    pub(super) control_planes: [SocketAddr; 2],
    /// The ranges of its node's pods.
    pub(super) pod_cidrs: &'a [IpNet],
    /// The ranges of all pods, and the addresses of all nodes.
    pub(super) cluster_cidrs: &'a [IpNet],
    /// Where the node's Envoy takes redirected connections.
    pub(super) proxy_port: Option<u16>,
    /// What becomes of denied TCP.
    pub(super) denied_tcp: DeniedTcp,
}

/// The command line of `sidewall node`.
pub(super) fn arguments(place: &Place<'_>) -> Vec<String> {
    let mut arguments = vec!["node".to_owned()];
    arguments.push(format!("--node-name={}", place.node));
    arguments.push(format!("--distributor=http://{}", place.distributor));
    arguments.push(format!("--admin-listen={ADMIN}"));
    let control_planes = place.control_planes.iter();
    arguments.extend(control_planes.map(|address| format!("--control-plane={address}")));
    arguments.extend(place.proxy_port.map(|port| format!("--proxy-port={port}")));
    if let Some(denied_tcp) = place.denied_tcp.to_possible_value() {
        arguments.push(format!("--denied-tcp={}", denied_tcp.get_name()));
    }
    for (option, ranges) in [
        ("--pod-cidr", place.pod_cidrs),
        ("--cluster-cidr", place.cluster_cidrs),
    ] {
        arguments.extend(ranges.iter().map(|range| format!("{option}={range}")));
    }
    arguments
}

impl NodePlane {
    /// The node's Envoy.
    pub(super) fn envoy(&self, node: &str) -> Result<&Arc<Proxy>, Error> {
        let envoy = self.envoy.as_ref();
        envoy.ok_or_else(|| Error::NoNodeEnvoy(node.to_owned()))
    }
}

impl Agent {
    pub(super) fn new(
        place: &Place<'_>,
        netns: crate::net::Netns,
        binary: &Path,
        folder: &Path,
    ) -> Self {
        let spec = Spec {
            environment: Vec::new(),
            name: format!("the agent of {}", place.node),
            netns,
            binary: binary.to_owned(),
            arguments: arguments(place),
            admin: ADMIN,
            log: folder.join(format!("agent-{}.log", place.node)),
        };
        Self {
            spec,
            running: Mutex::default(),
        }
    }

    /// Starts it, unless it runs already. Does not wait.
    pub(super) fn start(&self) -> Result<(), Error> {
        let mut running = lock(&self.running);
        if running.is_none() {
            *running = Some(Daemon::start(self.spec.clone())?);
        }
        Ok(())
    }

    /// Ends it without notice.
    pub(super) fn kill(&self) {
        *lock(&self.running) = None;
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.running).is_some()
    }

    /// Whether its rules in the kernel are those of this revision.
    pub(super) fn enforces(&self, revision: &str) -> bool {
        self.with(|daemon| daemon.get("/readyz"))
            .is_ok_and(|answer| answer.contains(revision))
    }

    /// Does something with the process.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Daemon) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match lock(&self.running).as_mut() {
            Some(daemon) => work(daemon),
            None => Err(self.spec.not_running()),
        }
    }

    /// What it has logged, its predecessors included, whether it runs or not.
    pub(super) fn log(&self) -> String {
        self.spec.log()
    }
}
