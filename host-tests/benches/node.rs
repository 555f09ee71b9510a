//! The node plane: loading and changing a large table against iptables and ipset, the first packet of a
//! flow, connections, and judging what is connected.
//!
//! Prints `ratio NAME VALUE` and `figure NAME VALUE UNIT`; see docs/performance.md. Arguments name the
//! parts to measure, all without any: `cargo bench -p sidewall-host-tests --bench node -- load`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "node/agent.rs"]
mod agent;
#[path = "node/churn.rs"]
mod churn;
#[path = "node/connections.rs"]
mod connections;
#[path = "node/first_packet.rs"]
mod first_packet;
#[path = "node/load.rs"]
mod load;
#[path = "node/scan.rs"]
mod scan;
#[path = "node/world.rs"]
mod world;
#[path = "node/xtables.rs"]
mod xtables;

use std::process::ExitCode;

use anyhow::Result;
use sidewall_host_tests::bench;

type Part = (&'static str, fn() -> Result<()>);

const PARTS: [Part; 5] = [
    ("load", load::run),
    ("churn", churn::run),
    ("scan", scan::run),
    ("first_packet", first_packet::run),
    ("connections", connections::run),
];

fn main() -> ExitCode {
    bench::main(run)
}

fn run() -> Result<()> {
    // Cargo adds options of its own.
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    for (name, measure) in PARTS {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            measure()?;
        }
    }
    Ok(())
}
