//! A large cluster in the distributor: what it costs to take in, and what a change costs then.
//!
//! Prints `figure NAME VALUE UNIT`; see docs/performance.md.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sidewall_distributor::cluster::{Event, Kind, Object, ObjectRef};
use sidewall_distributor::publish;
use sidewall_distributor::snapshots::{Recipient, SnapshotSource as _};
use sidewall_host_tests::bench::fleet::{Fleet, POLICIES};
use sidewall_host_tests::bench::{percentile, usage};
use sidewall_policy::compile::Options;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const FLEET: Fleet = Fleet {
    nodes: 1_000,
    namespaces: 500,
    pods: 100,
};
/// Pods that are replaced, one after the other.
const CHANGES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<()> {
    println!("figure scale_nodes {} nodes", FLEET.nodes);
    println!("figure scale_pods {} pods", FLEET.namespaces * FLEET.pods);
    println!(
        "figure scale_policies {} policies",
        FLEET.namespaces * POLICIES
    );
    for node_plane in [false, true] {
        let name = if node_plane {
            "both_planes"
        } else {
            "sidecars"
        };
        run(name, node_plane).await.context(name)?;
    }
    Ok(())
}

async fn run(name: &str, node_plane: bool) -> Result<()> {
    let pid = process::id();
    let events: Vec<Event> = FLEET.events().collect();
    let before = usage::resident(pid)?;
    let (sender, receiver) = mpsc::channel(16);
    let options = Options {
        node_plane,
        ..Options::default()
    };
    let ended = CancellationToken::new();
    let publisher = publish::start(receiver, options, ended.clone());
    let mut synced = publisher.synced();

    let started = Instant::now();
    sender.send(events).await?;
    timeout(PATIENCE, synced.wait_for(|synced| *synced)).await??;
    println!(
        "figure scale_{name}_cold_start {:.2} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "figure scale_{name}_resident {:.0} MiB",
        usage::resident(pid)? - before
    );

    let cpu = usage::cpu(pid)?;
    let mut times = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let (namespace, number) = (change * 7 % FLEET.namespaces, change % FLEET.pods);
        let old = FLEET.pod(namespace, number, 0).id;
        let new = FLEET.pod(namespace, number, 1);
        let mut snapshot = publisher.subscribe(&Recipient::Pod(new.id.clone()));
        let started = Instant::now();
        let gone = Event::Delete(ObjectRef::new(Kind::Pod, old));
        sender
            .send(vec![gone, Event::Apply(Object::Pod(new))])
            .await?;
        timeout(PATIENCE, snapshot.wait_for(Option::is_some)).await??;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let cpu = usage::cpu(pid)?.saturating_sub(cpu).as_secs_f64() * 1e3;
    println!(
        "figure scale_{name}_change_median {:.1} ms",
        percentile(&mut times, 0.5)
    );
    println!(
        "figure scale_{name}_change_p99 {:.1} ms",
        percentile(&mut times, 0.99)
    );
    println!(
        "figure scale_{name}_change_cpu {:.1} ms",
        cpu / CHANGES as f64
    );
    println!(
        "figure scale_{name}_resident_afterwards {:.0} MiB",
        usage::resident(pid)? - before
    );
    ended.cancel();
    Ok(())
}
