//! The node's agent as it ships, fed with snapshots directly, in a network namespace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_distributor::node::Node;
use sidewall_distributor::node::ruleset::{DeniedTcp, Settings};
use sidewall_host_tests::http;
use sidewall_host_tests::net::Netns;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes unless it is broken.
const PATIENCE: Duration = Duration::from_secs(120);
const ADMIN: &str = "127.0.0.1:18081";
const POD_CIDR: &str = "10.244.1.0/24";
const CLUSTER_CIDR: &str = "10.0.0.0/8";
const NFLOG_GROUP: u16 = 4747;

/// What the agent's table depends on beside the snapshot.
pub fn settings() -> Result<Settings> {
    Ok(Settings {
        pod_cidrs: vec![POD_CIDR.parse()?],
        cluster_cidrs: vec![CLUSTER_CIDR.parse()?],
        control_planes: Vec::new(),
        denied_tcp: DeniedTcp::Drop,
        proxy_port: None,
        nflog_group: NFLOG_GROUP,
    })
}

/// A running agent. The table stays when it is dropped.
#[derive(Debug)]
pub struct Agent {
    netns: Netns,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Agent {
    /// Starts one that knows no snapshot yet.
    pub fn start(netns: &Netns) -> Result<Self> {
        let node = Node {
            node_name: "node-1".to_owned(),
            distributor: "http://127.0.0.1:1".parse()?,
            xds_ca: None,
            xds_server_name: None,
            xds_token: None,
            pod_cidrs: vec![POD_CIDR.parse()?],
            cluster_cidrs: vec![CLUSTER_CIDR.parse()?],
            control_planes: Vec::new(),
            proxy_port: None,
            boot_table: None,
            nri_socket: None,
            denied_tcp: DeniedTcp::Drop,
            nflog_group: NFLOG_GROUP,
            admin_listen: ADMIN.parse()?,
        };
        let (snapshots, followed) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let thread = netns.spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            Ok(runtime.block_on(node.run(followed, token))?)
        })?;
        let agent = Self {
            netns: netns.clone(),
            snapshots,
            shutdown,
            thread: Some(thread),
        };
        agent.wait(|agent| agent.get("/healthz").is_ok())?;
        Ok(agent)
    }

    /// Hands it a snapshot, and says how long it took until the agent said that it is in force.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<Duration> {
        let revision = snapshot.revision().to_string();
        let started = Instant::now();
        self.snapshots.send_replace(Some(Arc::clone(snapshot)));
        self.wait(|agent| {
            let ready = agent.get("/readyz");
            ready.is_ok_and(|text| text.contains(&revision))
        })?;
        Ok(started.elapsed())
    }

    /// Hands it a snapshot, and does not wait.
    pub fn offer(&self, snapshot: &Arc<Snapshot>) {
        self.snapshots.send_replace(Some(Arc::clone(snapshot)));
    }

    /// Asks for its metrics, and says how long that took.
    pub fn scrape(&self) -> Result<Duration> {
        let started = Instant::now();
        self.get("/metrics")?;
        Ok(started.elapsed())
    }

    fn get(&self, path: &str) -> Result<String> {
        let address: SocketAddr = ADMIN.parse()?;
        let get = || http::get(address, path, PATIENCE);
        Ok(self.netns.run(get)??)
    }

    fn wait(&self, is_there: impl Fn(&Self) -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_there(self) {
            ensure!(started.elapsed() < PATIENCE, "the agent does not get there");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
