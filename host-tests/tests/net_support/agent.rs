//! The agent of the node, fed with snapshots directly.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_distributor::node::{self, Node};
use sidewall_host_tests::http;
use sidewall_host_tests::net::Netns;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::kernel::{NODE, pod_cidrs};

const ADMIN: &str = "127.0.0.1:18081";
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs in the namespace of a node.
pub struct Agent<'a> {
    netns: &'a Netns,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
    thread: thread::JoinHandle<Result<(), node::Error>>,
}

impl<'a> Agent<'a> {
    pub fn start(netns: &'a Netns) -> Result<Self> {
        Self::start_with(netns, None)
    }

    pub fn start_with(netns: &'a Netns, boot_table: Option<PathBuf>) -> Result<Self> {
        let node = Node {
            node_name: NODE.to_owned(),
            distributor: "http://127.0.0.1:1".parse()?,
            xds_ca: None,
            xds_server_name: None,
            xds_token: None,
            pod_cidrs: pod_cidrs().into(),
            cluster_cidrs: pod_cidrs().into(),
            control_planes: Vec::new(),
            proxy_port: NonZeroU16::new(15_100),
            boot_table,
            nri_socket: None,
            denied_tcp: node::ruleset::DeniedTcp::Drop,
            nflog_group: 4747,
            admin_listen: ADMIN.parse()?,
        };
        let (snapshots, followed) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let runtime = netns.run(|| {
            // Its threads are born in the namespace.
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
        })??;
        let token = shutdown.clone();
        let thread = netns.spawn(move || runtime.block_on(node.run(followed, token)))?;
        Ok(Self {
            netns,
            snapshots,
            shutdown,
            thread,
        })
    }

    pub const fn netns(&self) -> &'a Netns {
        self.netns
    }

    /// Hands it a snapshot, and waits until that is in force.
    pub fn enforce(&self, snapshot: &Arc<Snapshot>) -> Result<()> {
        self.snapshots.send_replace(Some(Arc::clone(snapshot)));
        let revision = snapshot.revision().to_string();
        self.wait("another snapshot in force", |agent| {
            let page = agent.get("/readyz");
            page.is_ok_and(|page| page.contains(&revision))
        })
    }

    pub fn metric(&self, name: &str) -> Result<u64> {
        let page = self.get("/metrics")?;
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value
            .with_context(|| format!("no {name} in\n{page}"))?
            .parse()?)
    }

    pub fn get(&self, path: &str) -> Result<String> {
        let address = ADMIN.parse()?;
        Ok(self.netns.run(|| http::get(address, path, PATIENCE))??)
    }

    pub fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_so(self) {
            ensure!(started.elapsed() < PATIENCE, "waiting in vain for {what}");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    pub fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        let ended = self.thread.join();
        Ok(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    }
}
