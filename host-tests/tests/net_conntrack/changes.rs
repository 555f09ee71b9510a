//! What changes while a long connection table is judged.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_distributor::node::conntrack::{self, Stage};
use sidewall_distributor::node::{self, Node};
use sidewall_host_tests::http;
use sidewall_host_tests::net::{Netns, Topology};
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::count;
use super::kernel::{
    B, NODE, at, checked, nft, pod_cidrs, revoke_some, scene, settings, topology, within,
};
use super::silence::{SILENT, TRACKING};

const PODS: [&str; 2] = ["default/a", "default/b"];
const ADMIN: &str = "127.0.0.1:18081";
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens this many connections from a to b. They have no answer, and need none.
fn open_flows(lab: &Topology, source_port: u16, count: u16) -> Result<()> {
    lab.pod("default/a")?.run(|| {
        let socket = std::net::UdpSocket::bind(("0.0.0.0", source_port))?;
        for port in 0..count {
            socket.send_to(b"who?", at(B[0], 10_000 + port))?;
        }
        anyhow::Ok(())
    })?
}

/// What is allowed again while the table is read is left alone from then on, and what fell silent
/// before may speak again.
pub fn meanwhile() -> Result<()> {
    const FLOWS: u16 = 3000;
    let lab = topology()?;
    let node = lab.node(NODE)?;
    nft(node, TRACKING)?;
    open_flows(&lab, 5000, FLOWS)?;
    let open = scene().snapshot(&PODS);
    let closed = scene().policy("default/b", "b", Some(Vec::new()), None);
    let (newest, snapshots) = watch::channel(Some(checked(&closed.snapshot(&PODS))?));
    let (reopened, mut silenced) = (checked(&open)?, 0_usize);
    let report = |_: &_| {
        silenced += 1;
        newest.send_replace(Some(Arc::clone(&reopened)));
    };
    let settings = settings();
    let judging = conntrack::revoke(&snapshots, &settings, &Stage::Silence, report);
    within(node, judging)??;
    ensure!(
        0 < silenced && silenced < usize::from(FLOWS),
        "{silenced} of {FLOWS} fell silent"
    );
    ensure!(
        count(node, &["udp", SILENT])? == silenced,
        "they are marked"
    );
    revoke_some(node, &open, &Stage::Silence)?;
    ensure!(count(node, &["udp", SILENT])? == 0, "they may speak again");
    Ok(())
}

/// The agent of the node, fed with snapshots directly.
struct Agent<'a> {
    netns: &'a Netns,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
    thread: thread::JoinHandle<Result<(), node::Error>>,
}

impl<'a> Agent<'a> {
    fn start(netns: &'a Netns) -> Result<Self> {
        let node = Node {
            node_name: NODE.to_owned(),
            distributor: "http://127.0.0.1:1".parse()?,
            xds_ca: None,
            xds_token: None,
            pod_cidrs: pod_cidrs().into(),
            cluster_cidrs: pod_cidrs().into(),
            control_planes: Vec::new(),
            proxy_port: NonZeroU16::new(15_100).context("no port")?,
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

    /// Hands it a snapshot, and waits until that is in force.
    fn enforce(&self, snapshot: &Arc<Snapshot>) -> Result<()> {
        self.snapshots.send_replace(Some(Arc::clone(snapshot)));
        let revision = snapshot.revision().to_string();
        self.wait("another snapshot in force", |agent| {
            let page = agent.get("/readyz");
            page.is_ok_and(|page| page.contains(&revision))
        })
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let page = self.get("/metrics")?;
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value
            .with_context(|| format!("no {name} in\n{page}"))?
            .parse()?)
    }

    fn get(&self, path: &str) -> Result<String> {
        let address = ADMIN.parse()?;
        Ok(self.netns.run(|| http::get(address, path, PATIENCE))??)
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_so(self) {
            ensure!(started.elapsed() < PATIENCE, "waiting in vain for {what}");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        let ended = self.thread.join();
        Ok(ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    }
}

/// Judging, silencing and recording so many connections takes many times as long as a change of the
/// table. On a machine with better things to do it may be the other way round once, but not always.
pub fn do_not_wait() -> Result<()> {
    const FLOWS: u16 = 20_000;
    const ATTEMPTS: u16 = 5;
    const CUT: &str = "sidewall_node_connections_cut_total";
    const JUDGED: &str = "sidewall_node_scan_seconds_count";
    let lab = topology()?;
    let agent = Agent::start(lab.node(NODE)?)?;
    let open = scene();
    let closed = open
        .clone()
        .policy("default/b", "b", Some(Vec::new()), None);
    let others = closed
        .clone()
        .policy("default/a", "a", Some(Vec::new()), None);
    let [open, closed, others] =
        [open, closed, others].map(|scene| checked(&scene.snapshot(&PODS)));
    let (open, closed, others) = (open?, closed?, others?);
    let mut overtook = false;
    for attempt in 0..ATTEMPTS {
        agent.enforce(&open)?;
        let mut judged = 0;
        while judged < agent.metric(JUDGED)? {
            judged = agent.metric(JUDGED)?;
            thread::sleep(Duration::from_millis(500));
        }
        open_flows(&lab, 5000 + attempt, FLOWS)?;
        let cut = agent.metric(CUT)?;
        agent.enforce(&closed)?;
        agent.enforce(&others)?;
        overtook = agent.metric(JUDGED)? == judged;
        // None of them is forgotten over it.
        agent.wait("the end of all of them", |agent| {
            let known = count(agent.netns, &["udp", &format!("dst={}", B[0])]);
            known.is_ok_and(|known| known == 0)
        })?;
        let ended = agent.metric(CUT)? - cut;
        ensure!(ended == u64::from(FLOWS), "{ended} of {FLOWS} are recorded");
        if overtook {
            break;
        }
    }
    ensure!(
        overtook,
        "every change waited until the last one's connections were judged"
    );
    agent.stop()
}
