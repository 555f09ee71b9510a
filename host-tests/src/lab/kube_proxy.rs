//! Kubernetes' own kube-proxy on the nodes of a lab, instead of the lab's translation of Services.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::daemon::{Daemon, Spec};
use super::{Error, PATIENCE};
use crate::envoy::artifact;
use crate::net::Netns;

/// Where it says whether it has written its rules.
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_256);

/// Where manifests of a lab with kube-proxy have their pods: it takes one range of each family.
const POD_RANGES: &str = "10.244.0.0/16,fd00:244::/32";

/// Its rules come with its first sync, a moment after it is healthy.
const FIRST_SYNC: Duration = Duration::from_millis(500);

/// What it writes its rules with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeProxy {
    /// `--proxy-mode nftables`.
    Nftables,
    /// `--proxy-mode iptables`.
    Iptables,
}

impl KubeProxy {
    const fn mode(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// Where `scripts/cluster-programs.sh` puts what it builds.
#[must_use]
pub fn programs() -> PathBuf {
    artifact::repository().join(".tools/programs")
}

/// Starts one on a node, and waits until its rules are there.
pub(super) fn start(
    mode: KubeProxy,
    node: &str,
    netns: Netns,
    kubeconfig: &Path,
    folder: &Path,
) -> Result<Daemon, Error> {
    // Limits of connection tracking are those of the machine, which a namespace may not set.
    let conntrack = json!({"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"});
    let sync = json!({"minSyncPeriod": "100ms", "syncPeriod": "30s"});
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode.mode(),
        "hostnameOverride": node,
        "clientConnection": {"kubeconfig": kubeconfig},
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": POD_RANGES,
        "conntrack": conntrack,
        "healthzBindAddress": HEALTH.to_string(),
        "metricsBindAddress": "127.0.0.1:10249",
        "iptables": sync,
        "nftables": sync,
    });
    let path = folder.join(format!("kube-proxy-{node}.json"));
    fs::write(&path, config.to_string()).map_err(|source| Error::File {
        step: "writing",
        path: path.clone(),
        source,
    })?;
    let mut daemon = Daemon::start(Spec {
        name: format!("kube-proxy of {node}"),
        netns,
        binary: programs().join("kube-proxy"),
        arguments: vec![format!("--config={}", path.display())],
        environment: Vec::new(),
        admin: HEALTH,
        log: folder.join(format!("kube-proxy-{node}.log")),
    })?;
    let started = Instant::now();
    loop {
        if let Some(status) = daemon.ended() {
            return Err(daemon.error(format!("has ended ({status})")));
        }
        match daemon.get("/healthz") {
            Ok(_) => break,
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
    thread::sleep(FIRST_SYNC);
    Ok(daemon)
}
