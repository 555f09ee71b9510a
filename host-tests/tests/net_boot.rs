//! A node after a boot: its network namespace is made again, and nothing but the boot table is there until the agent
//! runs.

#[path = "net_support/agent.rs"]
mod agent;
#[path = "net_support/kernel.rs"]
mod kernel;
#[path = "net_support/talk.rs"]
mod talk;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kernel::{A, B, C, NODE, NODE_ADDRESSES, at, checked, scene, topology};
use sidewall_host_tests::envoy::artifact;
use sidewall_host_tests::harness::{self, NotApplicable};
use sidewall_host_tests::net::{Netns, Topology};
use sidewall_host_tests::probe::{Protocol, attempt, parallel};
use talk::{ask_tcp, ask_udp, serve};

const PORT: u16 = 8080;
const FILE: &str = "/var/lib/sidewall/boot.nft";

fn main() -> ExitCode {
    harness::main(&[
        ("a_node_is_closed_from_its_boot_to_its_agent", closed),
        (
            "an_agent_without_a_boot_table_enforces_and_says_so",
            unwritable,
        ),
        ("the_unit_is_one_that_systemd_takes", unit),
    ])
}

/// The unit that the chart installs.
fn unit_file() -> PathBuf {
    artifact::repository().join("envoy/chart/files/sidewall-boot.service")
}

/// What the unit runs, for a file elsewhere.
fn load(node: &Netns, file: &Path) -> Result<bool> {
    let unit = fs::read_to_string(unit_file())?;
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let line = line.context("an ExecStart")?;
    ensure!(line.contains(FILE), "{line}");
    let line = line.replace(FILE, &file.display().to_string());
    let mut words = line.split_whitespace();
    let mut command = node.command(words.next().context("a program")?);
    Ok(command.args(words).output()?.status.success())
}

fn node(lab: &Topology) -> Result<Netns> {
    Ok(lab.node(NODE)?.clone())
}

/// A network with servers everywhere, as a boot leaves it.
fn booted() -> Result<Topology> {
    let lab = topology()?;
    for (pod, name) in [("default/a", "a"), ("default/b", "b"), ("default/c", "c")] {
        serve(lab.pod(pod)?, name, PORT)?;
    }
    serve(lab.node(NODE)?, "node", PORT)?;
    serve(lab.node("node-2")?, "other", PORT)?;
    Ok(lab)
}

/// Who is answered: pods of the node among each other, to and from other nodes, and to and from the node itself.
fn answered(lab: &Topology) -> Result<Vec<String>> {
    let (a, c) = (lab.pod("default/a")?, lab.pod("default/c")?);
    let mut ways = Vec::new();
    for family in [0, 1] {
        for (way, from, to) in [
            ("a to b", a, B[family]),
            ("a to c", a, C[family]),
            ("c to a", c, A[family]),
            ("a to its node", a, NODE_ADDRESSES[family]),
        ] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
                ways.push((way, from, at(to, PORT), protocol));
            }
        }
    }
    let answered = parallel(&ways, ways.len(), |(way, from, to, protocol)| {
        let is_answered = match protocol {
            Protocol::Tcp => ask_tcp(from, *to).is_ok(),
            Protocol::Udp => ask_udp(from, *to).is_ok(),
            _ => echo(from, *to)?,
        };
        Ok::<_, anyhow::Error>(is_answered.then(|| format!("{way} over {protocol} to {to}")))
    });
    let answered: Result<Vec<_>> = answered.into_iter().collect();
    let answered = answered?;
    Ok(answered.into_iter().flatten().collect())
}

/// Whether an echo request is answered.
fn echo(from: &Netns, to: SocketAddr) -> Result<bool> {
    let report = from.run(|| attempt(to, Protocol::Icmp, Duration::from_secs(1)))?;
    Ok(report.answered_by.is_some())
}

/// The node's own processes, the kubelet and pods of its network among them.
fn node_works(lab: &Topology) -> Result<()> {
    let node = lab.node(NODE)?;
    for family in [0, 1] {
        let other = ["192.168.50.2", "fd50::2"][family];
        for to in [A[family], other] {
            ask_tcp(node, at(to, PORT)).with_context(|| format!("the node to {to}"))?;
            ask_udp(node, at(to, PORT)).with_context(|| format!("the node to {to}"))?;
        }
        ask_tcp(lab.node("node-2")?, at(NODE_ADDRESSES[family], PORT))?;
    }
    Ok(())
}

fn closed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("boot.nft");
    {
        let lab = topology()?;
        let agent = agent::Agent::start_with(lab.node(NODE)?, Some(file.clone()))?;
        agent.wait("the boot table", |_| file.exists())?;
        agent.stop()?;
    }

    let lab = booted()?;
    let open = answered(&lab)?;
    ensure!(open.len() == 24, "without any table: {open:?}");
    ensure!(load(&node(&lab)?, &file)?, "the file is refused");
    let open = answered(&lab)?;
    ensure!(open.is_empty(), "with the boot table: {open:?}");
    node_works(&lab)?;

    // A table in force is left alone.
    let listing = ruleset(&lab)?;
    ensure!(!load(&node(&lab)?, &file)?, "it was loaded twice");
    ensure!(
        ruleset(&lab)? == listing,
        "a refused file changed the table"
    );

    // `c` may come to `a`, and `b` may not: at no moment, while the agent takes over.
    let from_c = Some(vec![sidewall_host_tests::wasm_host::scene::pods(
        "c",
        sidewall_policy::model::Ports::Any,
    )]);
    let snapshot = scene().policy("default/a", "a", from_c, None);
    let snapshot = checked(&snapshot.snapshot(&["default/a", "default/b"]))?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let denied = scope.spawn(|| -> Result<usize> {
            let (b, mut tried) = (lab.pod("default/b")?, 0);
            while !over.load(Ordering::Relaxed) {
                tried += 1;
                let answer = quick(b, A[tried % 2]);
                ensure!(answer.is_err(), "b was answered: {answer:?}");
            }
            Ok(tried)
        });
        let agent = agent::Agent::start(lab.node(NODE)?)?;
        agent.enforce(&snapshot)?;
        for family in [0, 1] {
            ask_tcp(lab.pod("default/c")?, at(A[family], PORT)).context("c may come")?;
            ask_udp(lab.pod("default/c")?, at(A[family], PORT)).context("c may come")?;
        }
        thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        let tried = denied.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        ensure!(tried > 3, "b tried {tried} times");
        agent.stop()
    })
}

/// Tries once for a moment.
fn quick(from: &Netns, to: &str) -> Result<()> {
    let to = at(to, PORT);
    from.run(|| -> Result<()> {
        let timeout = Duration::from_millis(100);
        std::net::TcpStream::connect_timeout(&to, timeout)?;
        Ok(())
    })?
}

fn ruleset(lab: &Topology) -> Result<String> {
    let output = lab
        .node(NODE)?
        .command("nft")
        .args(["-s", "list", "ruleset"])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A file system that is full or read-only is no reason to leave a node open.
fn unwritable() -> Result<()> {
    let lab = topology()?;
    let file = PathBuf::from("/nowhere/boot.nft");
    let agent = agent::Agent::start_with(lab.node(NODE)?, Some(file))?;
    let snapshot = scene().policy("default/a", "a", Some(Vec::new()), None);
    agent.enforce(&checked(&snapshot.snapshot(&["default/a", "default/b"]))?)?;
    let page = agent.get("/readyz")?;
    let told = "no boot table: --boot-table /nowhere/boot.nft: cannot write it: ";
    ensure!(page.contains(told), "{page}");
    agent.stop()
}

/// As systemd reads it.
fn unit() -> Result<()> {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(unit_file())
        .output();
    let output = output.map_err(|error| NotApplicable(format!("no systemd-analyze: {error}")))?;
    let complaints = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    Ok(())
}
