//! A new pod's first connection, with the real containerd: containers of an open pod connect at once, those of a closed
//! pod do not, and a pod whose address another had before is judged by its own policies.
//!
//! The pods' objects never get a status here, so nothing but NRI opens a pod.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "cluster_support/cri.rs"]
mod cri;
#[path = "cluster_support/runtime_node.rs"]
mod runtime_node;

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use runtime_node::{Node, PodKind};
use sidewall_host_tests::harness;

/// Pods of each kind.
const PODS: usize = 50;

fn main() -> ExitCode {
    let has_runc = Command::new("runc").arg("--version").output().is_ok();
    // Named as a program of the folder, so that the reason says what is missing.
    let runc: &[&str] = if has_runc { &[] } else { &["runc"] };
    let programs = [
        "containerd",
        "containerd-shim-runc-v2",
        "ctr",
        "ptp",
        "host-local",
        "loopback",
    ];
    harness::main_with_programs(
        &[&programs, runc].concat(),
        &[
            ("the_first_connections_of_new_pods", first_connections),
            ("agents_and_runtimes_that_start_again", restarts),
            ("an_address_that_is_used_again_at_once", reuse),
        ],
    )
}

fn first_connections() -> Result<()> {
    let mut node = Node::start()?;
    node.start_agent(false)?;
    let without = times(&mut node, PodKind::Open, "without", 5)?;
    ensure!(
        without.0 == 0,
        "{} of 5 open pods connected without NRI",
        without.0
    );
    node.start_agent(true)?;
    let open = times(&mut node, PodKind::Open, "open", PODS)?;
    let closed = times(&mut node, PodKind::Closed, "closed", PODS)?;
    println!(
        "connected at once: open {} of {PODS}, closed {} of {PODS}; start of a sandbox, median: {:?} with NRI, {:?} \
         without",
        open.0, closed.0, open.1, without.1
    );
    println!("{}", node.metrics("pod_wait")?);
    ensure!(open.0 == PODS, "{} of {PODS} open pods connected", open.0);
    ensure!(
        closed.0 == 0,
        "{} of {PODS} closed pods connected",
        closed.0
    );
    Ok(())
}

fn restarts() -> Result<()> {
    let mut node = Node::start()?;
    node.start_agent(true)?;
    let running = node.run(PodKind::Open, "running")?;
    ensure!(running.connect()?, "before the restart");
    node.start_agent(true)?;
    ensure!(running.connect()?, "a pod that ran before the agent");
    ensure!(
        times(&mut node, PodKind::Open, "later", 3)?.0 == 3,
        "after the agent's restart"
    );
    node.restart_runtime()?;
    ensure!(
        times(&mut node, PodKind::Open, "again", 3)?.0 == 3,
        "after the runtime's restart"
    );
    ensure!(
        times(&mut node, PodKind::Closed, "shut", 3)?.0 == 0,
        "after the runtime's restart"
    );
    // Without an agent pods start, by the rules that it has left.
    node.stop_agent();
    let alone = node.run(PodKind::Open, "alone")?;
    ensure!(
        !alone.connect()?,
        "a pod that no agent has told the kernel of"
    );
    node.start_agent(true)?;
    ensure!(
        alone.connect()?,
        "the next agent learns of it as it connects"
    );
    // The next case has the same range and the same network.
    running.remove()?;
    alone.remove()
}

/// The node's range has three addresses for pods, so that the next pod takes the one that has become free.
fn reuse() -> Result<()> {
    let mut node = Node::start_with_range("10.88.7.0/30")?;
    node.start_agent(true)?;
    let mut earlier = None;
    for round in 0..6 {
        let kind = if round % 2 == 0 {
            PodKind::Open
        } else {
            PodKind::Closed
        };
        let pod = node.run(kind, &format!("round-{round}"))?;
        let connected = pod.connect()?;
        ensure!(
            connected == (kind == PodKind::Open),
            "round {round}, a pod that is {kind:?}"
        );
        let address = pod.address()?;
        if let Some(earlier) = earlier.replace(address.clone()) {
            ensure!(
                earlier == address,
                "{earlier} was not used again, but {address}"
            );
        }
        pod.remove()?;
    }
    Ok(())
}

/// Starts so many pods, each of which connects once as its only work, and takes them away again. Returns how many
/// connected, and the median time that a sandbox took to start.
fn times(node: &mut Node, kind: PodKind, name: &str, count: usize) -> Result<(usize, Duration)> {
    let (mut connected, mut took) = (0, Vec::new());
    for number in 0..count {
        let pod = node.run(kind, &format!("{name}-{number}"))?;
        connected += usize::from(pod.connect()?);
        took.push(pod.start_took());
        pod.remove()?;
    }
    took.sort_unstable();
    let median = took.get(count / 2).copied().context("no pod")?;
    Ok((connected, median))
}
