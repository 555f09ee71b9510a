//! The filter as it ships, on wasmtime: a decision against the number of rules, and its host calls.
//!
//! Prints `ratio NAME VALUE` and `figure NAME VALUE UNIT`; see docs/performance.md.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::net::Ipv4Addr;

use anyhow::Result;
use sidewall_host_tests::bench;
use sidewall_host_tests::bench::world::{PORTS, SUBJECT, World, flow_from};
use sidewall_host_tests::wasm_host::{Connection, Plugin, Process, Spent};

/// The callback that decides.
const DECIDES: &str = "proxy_on_new_connection";

const ROUNDS: usize = 31;
const CONNECTIONS: usize = 2_000;

fn main() -> Result<()> {
    for (name, few, many) in [
        (
            "wasm_hosts_10000_rules_to_10",
            World::rules_of_hosts(10),
            World::rules_of_hosts(10_000),
        ),
        (
            "wasm_blocks_10000_rules_to_10",
            World::rules_of_blocks(10),
            World::rules_of_blocks(10_000),
        ),
    ] {
        compare(name, &few, &many)?;
    }
    Ok(())
}

/// Decides on connections with either snapshot in turn.
fn compare(name: &str, few: &World, many: &World) -> Result<()> {
    let mut arms = [
        (serving(few)?, connections(few)),
        (serving(many)?, connections(many)),
    ];
    let (mut time, mut instructions) = ([vec![], vec![]], [0.0, 0.0]);
    for _ in 0..ROUNDS {
        for (arm, (process, connections)) in arms.iter_mut().enumerate() {
            let spent = decide(process, connections);
            let runs = spent.runs as f64;
            time[arm].push(spent.time.as_nanos() as f64 / runs);
            instructions[arm] = spent.instructions as f64 / runs;
        }
    }
    let ratios = time[0].iter().zip(&time[1]).map(|(few, many)| many / few);
    println!("ratio {name} {:.2}", bench::median(ratios.collect()));
    println!(
        "ratio {name}_instructions {:.2}",
        instructions[1] / instructions[0]
    );
    for (arm, which) in ["few", "many"].into_iter().enumerate() {
        println!(
            "figure {name}_{which} {:.0} ns",
            bench::median(time[arm].clone())
        );
        println!(
            "figure {name}_{which}_instructions {:.0} instructions",
            instructions[arm]
        );
    }
    let (process, connections) = &mut arms[1];
    println!(
        "figure {name}_host_calls {} calls",
        host_calls(process, &connections[0])
    );
    Ok(())
}

fn serving(world: &World) -> Result<Process> {
    let mut process = Process::new(1)?;
    process.load(Plugin::carrier(world.snapshot.bytes()))?;
    process.load(Plugin::gate())?;
    Ok(process)
}

/// Connections that are allowed; a denied one is logged, which is another matter.
fn connections(world: &World) -> Vec<Connection> {
    let connection = |source: Ipv4Addr| {
        let destination = format!("{SUBJECT}:{}", PORTS.start());
        Connection::new(&format!("{source}:40000"), &destination)
    };
    let is_allowed = |source: &Ipv4Addr| {
        world.snapshot.judge(&flow_from(*source)).verdict == sidewall_policy::eval::Verdict::Allow
    };
    let known = world.sources().into_iter().filter(is_allowed);
    known.cycle().take(CONNECTIONS).map(connection).collect()
}

fn decide(process: &mut Process, connections: &[Connection]) -> Spent {
    process.forget();
    for connection in connections {
        let stream = process.connect(0, connection.clone());
        assert!(process.is_open(stream), "every one of them is allowed");
        process.finish(stream);
    }
    process.spent(DECIDES)
}

/// What the callback asks the host to decide on one connection.
fn host_calls(process: &mut Process, connection: &Connection) -> usize {
    process.forget();
    process.connect(0, connection.clone());
    let journal = process.journal();
    let decision = journal.iter().find(|callback| callback.name == DECIDES);
    decision.map_or(0, |callback| callback.host_calls.len())
}
