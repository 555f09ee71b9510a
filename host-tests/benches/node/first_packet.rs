//! What the table costs the first packet of a flow, and its answer: from the socket of a pod on a node
//! to that of a pod elsewhere and back, with a socket of its own for each.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_distributor::node::ruleset::{Plan, install};
use sidewall_host_tests::bench;
use sidewall_host_tests::net::{self, External, Netns, Node, Topology};

use super::agent;
use super::world::{Size, World, local, peer};
use super::xtables::Xtables;

const ROUNDS: usize = 30;
const FLOWS: usize = 500;
/// Allowed by the first rule of every group.
const PORT: u16 = 5000;
const PATIENCE: Duration = Duration::from_secs(5);

/// Connection tracking alone, as every node has it.
const TRACKED: &str = "table inet tracked {
  chain pre { type filter hook prerouting priority dstnat + 5; policy accept; ct state established accept; }
}";

/// A node, a pod of it that answers, and a peer that asks.
struct Arm {
    name: String,
    topology: Topology,
}

pub fn run() -> Result<()> {
    let mut arms = vec![Arm::new("none")?, Arm::new("tracked")?];
    nft(arms[1].node()?, TRACKED)?;
    for peers in [10, 10_000] {
        let arm = Arm::new(&peers.to_string())?;
        let world = World::new(one_group(peers));
        let plan = Plan::new(&agent::settings()?, Some(&world.snapshot()));
        for step in install(&plan) {
            nft(arm.node()?, &step.script)?;
        }
        arms.push(arm);
    }
    let xtables = Arm::new("xtables_10000")?;
    Xtables(xtables.node()?).load(one_group(10_000))?;
    arms.push(xtables);

    let mut times = vec![Vec::with_capacity(ROUNDS); arms.len()];
    // The first round is for caches.
    for round in 0..=ROUNDS {
        for place in 0..arms.len() {
            let arm = (place + round) % arms.len();
            let took = arms[arm].ask()?;
            if round > 0 {
                times[arm].push(took);
            }
        }
    }
    for (arm, times) in arms.iter().zip(&times) {
        let name = &arm.name;
        println!(
            "figure node_first_packet_{name} {:.1} µs",
            bench::median(times.clone())
        );
    }
    for (name, arm, to) in [
        ("10000_to_10", 3, 2),
        ("10000_to_tracked", 3, 1),
        ("10000_to_none", 3, 0),
        ("xtables_10000_to_tracked", 4, 1),
    ] {
        let ratios = times[arm].iter().zip(&times[to]).map(|(arm, to)| arm / to);
        println!(
            "ratio node_first_packet_{name} {:.2}",
            bench::median(ratios.collect())
        );
    }
    Ok(())
}

/// Every peer is known to the one policy.
fn one_group(peers: u32) -> Size {
    Size {
        locals: 4,
        groups: 1,
        peers,
        teams_of_group: super::world::TEAMS,
    }
}

impl Arm {
    fn new(name: &str) -> Result<Self> {
        let topology = Topology::build(&net::Plan {
            nodes: vec![Node::new("node-1", [Ipv4Addr::new(192, 168, 50, 1).into()])],
            pods: vec![net::Pod::new("local", "node-1", [local(0).into()])],
            externals: vec![External {
                name: "peer".to_owned(),
                addresses: vec![peer(0).into()],
            }],
            ..net::Plan::default()
        })?;
        let server = topology
            .pod("local")?
            .run(|| UdpSocket::bind((local(0), PORT)))??;
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(&buffer[..length], from);
            }
        });
        Ok(Self {
            name: name.to_owned(),
            topology,
        })
    }

    fn node(&self) -> Result<&Netns> {
        Ok(self.topology.node("node-1")?)
    }

    /// The median of a round in microseconds.
    fn ask(&self) -> Result<f64> {
        // What is known is no first packet.
        let forget = self
            .node()?
            .command("conntrack")
            .arg("-F")
            .stderr(Stdio::null())
            .status()?;
        ensure!(forget.success(), "conntrack -F: {forget}");
        let to = SocketAddr::from((local(0), PORT));
        self.topology.external("peer")?.run(|| {
            let mut times = Vec::with_capacity(FLOWS);
            for _ in 0..FLOWS {
                let socket = UdpSocket::bind((peer(0), 0))?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                let started = Instant::now();
                socket.send(b"?")?;
                socket.recv(&mut [0; 64])?;
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
            Ok(bench::median(times))
        })?
    }
}

fn nft(netns: &Netns, rules: &str) -> Result<()> {
    let mut nft = netns.command("nft");
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(rules.as_bytes())?;
    drop(stdin);
    ensure!(child.wait()?.success(), "nft refused:\n{rules}");
    Ok(())
}
