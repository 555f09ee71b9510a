//! What changes while a long connection table is judged.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_distributor::node::conntrack;
use sidewall_distributor::node::resets::Resets;
use sidewall_host_tests::net::Topology;
use tokio::sync::watch;

use super::agent::Agent;
use super::count;
use super::kernel::{
    B, NODE, at, checked, nft, patient, scene, settings, silence, topology, within,
};
use super::silence::{SILENT, TRACKING};

const PODS: [&str; 2] = ["default/a", "default/b"];

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
    let mut docket = patient();
    within(node, async {
        conntrack::revoke(&snapshots, &settings, &mut docket, &Resets::open(), report).await
    })??;
    ensure!(
        0 < silenced && silenced < usize::from(FLOWS),
        "{silenced} of {FLOWS} fell silent"
    );
    ensure!(
        count(node, &["udp", SILENT])? == silenced,
        "they are marked"
    );
    silence(node, &open)?;
    ensure!(count(node, &["udp", SILENT])? == 0, "they may speak again");
    Ok(())
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
            let known = count(agent.netns(), &["udp", &format!("dst={}", B[0])]);
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
