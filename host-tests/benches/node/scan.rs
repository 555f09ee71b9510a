//! Judging the connections that the kernel knows, and what a change has to wait for meanwhile.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_distributor::node::conntrack::{self, Docket, Graces};
use sidewall_distributor::node::resets::Resets;
use sidewall_distributor::node::ruleset::Settings;
use sidewall_host_tests::bench;
use sidewall_host_tests::net::Netns;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;

use super::agent::{self, Agent};
use super::world::{Size, World, local, peer};

const CONNECTIONS: u16 = 20_000;
/// By the first rule of every group.
const ALLOWED: u16 = 5000;
const SCANS: usize = 11;
const CHANGES: usize = 30;

pub fn run() -> Result<()> {
    let world = World::new(Size {
        locals: 200,
        groups: 50,
        peers: 10_000,
        teams_of_group: 1,
    });
    let base = world.snapshot();
    let more = world.with(|world| world.add_local(200)).snapshot();
    let nobody = world.with(|world| world.isolate(0)).snapshot();
    let (busy, idle) = (place("busy")?, place("idle")?);
    let agents = [Agent::start(&busy)?, Agent::start(&idle)?];
    for agent in &agents {
        agent.apply(&base)?;
    }
    connect(&busy)?;
    let settings = agent::settings()?;
    let mut scans = Vec::new();
    for _ in 0..SCANS {
        let (took, ended) = judge(&busy, &settings, &base)?;
        ensure!(ended == 0, "{ended} connections are denied");
        scans.push(milliseconds(took));
    }
    println!(
        "figure node_scan_{CONNECTIONS} {:.1} ms",
        bench::median(scans)
    );

    // Each change begins while the last one's connections are judged.
    let mut changes = [Vec::new(), Vec::new()];
    for round in 0..CHANGES {
        let snapshot = if round % 2 == 0 { &more } else { &base };
        for (agent, changes) in agents.iter().zip(&mut changes) {
            changes.push(milliseconds(agent.apply(snapshot)?));
        }
    }
    let [with, without] = changes.map(bench::median);
    println!("figure node_change_among_{CONNECTIONS} {with:.1} ms");
    println!(
        "ratio node_change_among_{CONNECTIONS}_to_none {:.2}",
        with / without
    );

    drop(agents);
    let (took, ended) = judge(&busy, &settings, &nobody)?;
    ensure!(ended == usize::from(CONNECTIONS), "only {ended} were ended");
    println!(
        "figure node_silence_{CONNECTIONS} {:.0} ms",
        milliseconds(took)
    );
    Ok(())
}

/// Where every address is the node's own network, so that packets meet its rules on the way.
fn place(name: &str) -> Result<Netns> {
    let netns = Netns::create(name)?;
    for line in ["link set lo up", "route add local 10.0.0.0/8 dev lo"] {
        let status = netns.command("ip").args(line.split(' ')).status()?;
        ensure!(status.success(), "ip {line}: {status}");
    }
    Ok(netns)
}

/// Opens connections between a peer and a pod that live for as long as the bench runs.
fn connect(netns: &Netns) -> Result<()> {
    let lasting = "net.netfilter.nf_conntrack_udp_timeout=3600";
    let status = netns
        .command("sysctl")
        .args(["-q", "-w", lasting])
        .status()?;
    ensure!(status.success(), "sysctl {lasting}: {status}");
    netns.run(|| {
        for port in 0..CONNECTIONS {
            let socket = UdpSocket::bind((peer(0), 10_000 + port))?;
            socket.send_to(b"?", (local(0), ALLOWED))?;
        }
        Ok(())
    })?
}

/// Reads the whole connection table once. How long that took, and how many were denied.
fn judge(
    netns: &Netns,
    settings: &Settings,
    snapshot: &Arc<Snapshot>,
) -> Result<(Duration, usize)> {
    let (_, snapshots) = watch::channel(Some(Arc::clone(snapshot)));
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut ended = 0;
        let long = Duration::from_secs(3600);
        let mut docket = Docket::new(Graces {
            proxied: long,
            silenced: long,
        });
        let resets = Resets::open();
        let started = Instant::now();
        let judging = conntrack::revoke(&snapshots, settings, &mut docket, &resets, |_| ended += 1);
        runtime.block_on(judging)?;
        Ok((started.elapsed(), ended))
    })?
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
