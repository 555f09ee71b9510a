//! What Sidewall costs a real Envoy: processor time, throughput, memory, and the push of a snapshot.
//!
//! Prints `ratio NAME VALUE` and `figure NAME VALUE UNIT`; see docs/performance.md. Every Envoy runs
//! alone in a network namespace. Ratios are medians over rounds, in each of which all arms take
//! their turn.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use sidewall_host_tests::bench::bootstrap::Front;
use sidewall_host_tests::bench::rounds::Rounds;
use sidewall_host_tests::bench::site::{Site, staged};
use sidewall_host_tests::bench::world::World;
use sidewall_host_tests::bench::{self, load, median};
use sidewall_host_tests::envoy::Artifact;

/// Rounds of short loads, and of long ones.
const ROUNDS: usize = 31;
const FEW_ROUNDS: usize = 15;

/// Connections of one round, messages on a connection, streams at the same time.
const CONNECTIONS: usize = 600;
const MESSAGES: usize = 2_000;
const STREAMS: usize = 2;

/// Pushes that are measured, to so many listeners, of a snapshot with so many peers: 200 KB.
const PUSHES: usize = 15;
const LISTENERS: u16 = 300;
const PUSHED_PEERS: u32 = 40_000;

fn main() -> ExitCode {
    bench::main(run)
}

fn run() -> Result<()> {
    let modules = Modules::find()?;
    let worlds = [10, 1_000, 10_000].map(World::one_rule);
    load(&modules, &worlds)?;
    memory(&modules, &worlds)?;
    push(&modules)
}

/// The filters that are compared.
struct Modules {
    sidewall: PathBuf,
    noop: PathBuf,
    noop_trimmed: PathBuf,
}

impl Modules {
    fn find() -> Result<Self> {
        let sidewall = Artifact::Filter.find()?;
        let examples = sidewall.with_file_name("examples");
        let example = |name| staged(&examples.join(name)).context("scripts/bench.sh makes it");
        Ok(Self {
            sidewall: staged(&sidewall)?,
            noop: example("noop.wasm")?,
            noop_trimmed: example("noop_trimmed.wasm")?,
        })
    }

    fn sidewall(&self, world: &World) -> Front {
        Front::Sidewall {
            module: self.sidewall.clone(),
            snapshot: world.snapshot.bytes().to_vec(),
        }
    }
}

/// Connections, messages and streams through every front.
fn load(modules: &Modules, worlds: &[World; 3]) -> Result<()> {
    let [ten, thousand, ten_thousand] = worlds;
    let arms = [
        ("none", Front::Nothing, ten),
        ("noop", Front::Wasm(modules.noop.clone()), ten),
        (
            "noop_trimmed",
            Front::Wasm(modules.noop_trimmed.clone()),
            ten,
        ),
        ("sidewall_10", modules.sidewall(ten), ten),
        ("sidewall_1000", modules.sidewall(thousand), thousand),
        (
            "sidewall_10000",
            modules.sidewall(ten_thousand),
            ten_thousand,
        ),
        ("rbac_10", Front::Rbac(ten.peers.clone()), ten),
        (
            "rbac_10000",
            Front::Rbac(ten_thousand.peers.clone()),
            ten_thousand,
        ),
    ];
    let mut sites = Vec::new();
    for (name, front, world) in arms {
        let site = Site::start(name, front, 1, 0)?;
        load::serve(&site)?;
        sites.push((name, site, world));
    }
    let names: Vec<_> = sites.iter().map(|(name, ..)| *name).collect();
    let arms: Vec<_> = sites
        .iter()
        .map(|(_, site, world)| (site, *world))
        .collect();
    let [none, noop, trimmed, small, large, rbac] = [0, 1, 2, 3, 5, 7];

    let rounds = Rounds::run(&arms, ROUNDS, CONNECTIONS, |site, world| {
        load::connections(site, &world.peers, CONNECTIONS)
    })?;
    for (arm, name) in names.iter().enumerate() {
        println!(
            "figure envoy_cpu_per_connection_{name} {:.1} us",
            rounds.cpu(arm)
        );
        println!("figure envoy_connections_{name} {:.0} /s", rounds.rate(arm));
    }
    for (arm, to) in [
        (noop, none),
        (small, none),
        (small, noop),
        (small, trimmed),
        (small + 1, noop),
        (large, noop),
        (large, small),
        (rbac, none),
    ] {
        println!(
            "ratio envoy_cpu_per_connection_{}_to_{} {:.2}",
            names[arm],
            names[to],
            rounds.cpu_ratio(arm, to)
        );
    }

    // What follows goes through a TCP proxy to a server, as a sidecar's traffic does.
    let proxied = &arms[..=small];
    let rounds = Rounds::run(proxied, FEW_ROUNDS, CONNECTIONS, |site, world| {
        load::conversations(site, &world.peers, CONNECTIONS, 1)
    })?;
    println!(
        "ratio envoy_cpu_per_proxied_connection_sidewall_10_to_none {:.2}",
        rounds.cpu_ratio(small, none)
    );
    println!(
        "ratio envoy_cpu_per_proxied_connection_sidewall_10_to_noop {:.2}",
        rounds.cpu_ratio(small, noop)
    );
    let rounds = Rounds::run(proxied, FEW_ROUNDS, 4 * MESSAGES, |site, world| {
        load::conversations(site, &world.peers, 4, MESSAGES)
    })?;
    println!(
        "ratio envoy_cpu_per_message_sidewall_10_to_none {:.2}",
        rounds.cpu_ratio(small, none)
    );
    println!(
        "ratio envoy_cpu_per_message_noop_to_none {:.2}",
        rounds.cpu_ratio(noop, none)
    );
    let mebibytes = STREAMS * 2 * load::STREAM / (1 << 20);
    let rounds = Rounds::run(proxied, FEW_ROUNDS, mebibytes, |site, world| {
        load::streams(site, &world.peers, STREAMS)
    })?;
    println!(
        "figure envoy_throughput_none {:.0} MiB/s",
        rounds.rate(none)
    );
    println!(
        "figure envoy_throughput_sidewall_10 {:.0} MiB/s",
        rounds.rate(small)
    );
    println!(
        "ratio envoy_throughput_sidewall_10_to_none {:.2}",
        rounds.rate_ratio(small, none)
    );
    println!(
        "ratio envoy_cpu_per_byte_sidewall_10_to_none {:.2}",
        rounds.cpu_ratio(small, none)
    );
    Ok(())
}

/// Resident memory after some connections.
fn memory(modules: &Modules, [ten, _, ten_thousand]: &[World; 3]) -> Result<()> {
    for workers in [1, 2] {
        for (name, front, world) in [
            ("none", Front::Nothing, ten),
            ("sidewall_10", modules.sidewall(ten), ten),
            (
                "sidewall_10000",
                modules.sidewall(ten_thousand),
                ten_thousand,
            ),
        ] {
            let site = Site::start(&format!("memory-{name}-{workers}"), front, workers, 0)?;
            load::connections(&site, &world.peers, CONNECTIONS)?;
            println!(
                "figure envoy_rss_{name}_workers_{workers} {:.1} MiB",
                site.resident()?
            );
        }
    }
    Ok(())
}

/// One push to an Envoy with two listeners, and to one with hundreds.
fn push(modules: &Modules) -> Result<()> {
    let worlds = [PUSHED_PEERS, PUSHED_PEERS + 1].map(World::one_rule);
    let kilobytes = worlds[0].snapshot.bytes().len() / 1_000;
    println!("figure envoy_push_snapshot {kilobytes} KB");
    // Three stand in any site; the third hardly matters.
    let arms = [("2_listeners", 0), ("300_listeners", LISTENERS - 2)];
    let mut sites = Vec::new();
    for (name, more) in arms {
        let site = Site::start(name, modules.sidewall(&worlds[0]), 2, more)?;
        let counted = || site.count("wasmcustom.sidewall_snapshots_total.result.applied");
        let before = counted()?;
        site.push(&worlds[1].snapshot)?;
        ensure!(
            counted()? > before,
            "{name}: a push that was applied was not counted"
        );
        sites.push(site);
    }
    let mut took = vec![Vec::new(); sites.len()];
    for push in 0..PUSHES {
        for (arm, site) in sites.iter().enumerate() {
            took[arm].push(site.push(&worlds[push % 2].snapshot)?.took.as_secs_f64() * 1e3);
        }
    }
    let took = took.into_iter().map(median).collect::<Vec<_>>();
    for (arm, (name, _)) in arms.iter().enumerate() {
        println!("figure envoy_push_{name} {:.1} ms", took[arm]);
        println!(
            "figure envoy_push_rss_{name} {:.1} MiB",
            sites[arm].resident()?
        );
    }
    println!(
        "ratio envoy_push_300_listeners_to_2 {:.2}",
        took[1] / took[0]
    );
    Ok(())
}
