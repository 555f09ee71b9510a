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

/// Rounds of connections and streams, and of what else goes through a proxy.
const ROUNDS: usize = 41;
const PROXIED_ROUNDS: usize = 21;

/// Connections of one round; conversations at the same time and messages in each; streams.
const CONNECTIONS: usize = 600;
const CONVERSATIONS: usize = 4;
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

/// The arms in the order they are started. The control is a second Envoy without a filter: how far
/// its ratio is from 1 says what the other ratios are worth.
const NONE: usize = 0;
const CONTROL: usize = 1;
const NOOP: usize = 2;
const NOOP_TRIMMED: usize = 3;
const SIDEWALL_10: usize = 4;
const SIDEWALL_1000: usize = 5;
const SIDEWALL_10000: usize = 6;
const RBAC_10000: usize = 8;

/// Connections, messages and streams through every front.
fn load(modules: &Modules, worlds: &[World; 3]) -> Result<()> {
    let [ten, thousand, ten_thousand] = worlds;
    let rbac = |world: &World| Front::Rbac(world.peers.clone());
    let arms = [
        ("none", Front::Nothing, ten),
        ("control", Front::Nothing, ten),
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
        ("rbac_10", rbac(ten), ten),
        ("rbac_10000", rbac(ten_thousand), ten_thousand),
    ];
    let mut sites = Vec::new();
    for (name, front, world) in arms {
        let site = Site::start(name, front, 1, 0)?;
        load::serve(&site)?;
        sites.push((name, site, world));
    }
    let names: Vec<_> = sites.iter().map(|(name, ..)| *name).collect();
    let sites: Vec<_> = sites
        .iter()
        .map(|(_, site, world)| (site, *world))
        .collect();
    connections(&names, &sites)?;
    // Through a TCP proxy to a server, as a sidecar's traffic goes.
    proxied(&names, &sites[..=SIDEWALL_10])
}

fn connections(names: &[&str], sites: &[(&Site, &World)]) -> Result<()> {
    let rounds = Rounds::run(sites, ROUNDS, CONNECTIONS, |site, world| {
        load::connections(site, &world.peers, CONNECTIONS)
    })?;
    for (arm, name) in names.iter().enumerate() {
        println!(
            "figure envoy_cpu_per_connection_{name} {:.1} us",
            rounds.cpu(arm)
        );
        println!("figure envoy_connections_{name} {:.0} /s", rounds.rate(arm));
    }
    let pairs = [
        (CONTROL, NONE),
        (NOOP, NONE),
        (SIDEWALL_10, NONE),
        (SIDEWALL_10, NOOP),
        (SIDEWALL_10, NOOP_TRIMMED),
        (SIDEWALL_1000, NOOP),
        (SIDEWALL_10000, NOOP),
        (SIDEWALL_10000, SIDEWALL_10),
        (RBAC_10000, NONE),
    ];
    print_cpu_ratios("connection", &rounds, names, &pairs);
    Ok(())
}

fn proxied(names: &[&str], sites: &[(&Site, &World)]) -> Result<()> {
    let pairs = [
        (CONTROL, NONE),
        (NOOP, NONE),
        (SIDEWALL_10, NONE),
        (SIDEWALL_10, NOOP),
    ];
    let rounds = Rounds::run(sites, PROXIED_ROUNDS, CONNECTIONS, |site, world| {
        load::conversations(site, &world.peers, CONNECTIONS, 1)
    })?;
    print_cpu_ratios("proxied_connection", &rounds, names, &pairs);

    let messages = CONVERSATIONS * MESSAGES;
    let rounds = Rounds::run(sites, PROXIED_ROUNDS, messages, |site, world| {
        load::conversations(site, &world.peers, CONVERSATIONS, MESSAGES)
    })?;
    print_cpu_ratios("message", &rounds, names, &pairs);

    let mebibytes = STREAMS * 2 * load::STREAM / (1 << 20);
    let rounds = Rounds::run(sites, ROUNDS, mebibytes, |site, world| {
        load::streams(site, &world.peers, STREAMS)
    })?;
    print_cpu_ratios("byte", &rounds, names, &pairs);
    for arm in [NONE, SIDEWALL_10] {
        println!(
            "figure envoy_throughput_{} {:.0} MiB/s",
            names[arm],
            rounds.rate(arm)
        );
    }
    for arm in [CONTROL, SIDEWALL_10] {
        println!(
            "ratio envoy_throughput_{}_to_none {:.2}",
            names[arm],
            rounds.rate_ratio(arm, NONE)
        );
    }
    Ok(())
}

fn print_cpu_ratios(unit: &str, rounds: &Rounds, names: &[&str], pairs: &[(usize, usize)]) {
    for &(arm, to) in pairs {
        let ratio = rounds.cpu_ratio(arm, to);
        println!(
            "ratio envoy_cpu_per_{unit}_{}_to_{} {ratio:.2}",
            names[arm], names[to]
        );
    }
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
