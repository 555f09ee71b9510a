//! `lab`: builds a cluster from manifests, tries probes against it, prints what was reached, and
//! leaves nothing behind.
//!
//! Exit code 0 when every expectation holds, 1 when one does not, 2 when the lab could not say.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command talks to its user"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sidewall_host_tests::lab::{
    Lab, LabConfig, Plane, ProbeResult, Redirect, Source, failures, read_probes,
};
use sidewall_host_tests::sandbox::{self, Place};

/// Builds a cluster out of manifests on this machine, tries probes against it and prints what was
/// reached.
///
/// Nodes and pods are network namespaces with the addresses of the Node and Pod objects; sidecars
/// are real Envoys, fed by a real distributor. Needs root; leaves nothing behind, however it ends.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Args {
    /// The folder whose YAML and JSON files are the cluster
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,

    /// What to try: a YAML list of {from, to, port, protocol, family, expect}
    #[arg(long, value_name = "FILE")]
    probes: PathBuf,

    /// What enforces
    #[arg(long, value_enum, default_value_t)]
    plane: Plane,

    /// Whose TCP nodes hand to their Envoys
    #[arg(long, value_enum, default_value_t)]
    redirect: Redirect,

    /// Where the distributor reads the cluster
    #[arg(long, value_enum, default_value_t)]
    source: Source,

    /// How to print the results
    #[arg(long, value_enum, default_value_t)]
    output: Output,

    /// Worker threads of each Envoy
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,

    /// How long a probe may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// A line for each result
    #[default]
    Text,
    /// One array of objects
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match sandbox::enter() {
        Ok(Place::Left(code)) => return code,
        Ok(Place::Inside) => {}
        Err(error) => {
            eprintln!("lab: {error}");
            return ExitCode::from(2);
        }
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every expectation holds.
fn run(args: &Args) -> anyhow::Result<bool> {
    let Args {
        manifests,
        probes,
        plane,
        redirect,
        source,
        output,
        workers,
        timeout,
    } = args;
    // Before the cluster is built: a typing error should not cost a minute.
    let probes = read_probes(probes)?;
    let config = LabConfig::default()
        .folder(manifests)
        .plane(*plane)
        .redirect(*redirect)
        .source(*source)
        .workers(*workers)
        .probe_timeout(Duration::from_millis(*timeout));
    let lab = Lab::start(config)?;
    for problem in lab.status()?.problems {
        eprintln!("lab: {problem}");
    }
    let results = lab.probe(&probes)?;
    match output {
        Output::Text => print(&results),
        Output::Json => println!("{}", serde_json::to_string_pretty(&results)?),
    }
    Ok(failures(&results).next().is_none())
}

fn print(results: &[ProbeResult]) {
    for result in results {
        println!("{result}");
    }
    let expected = results.iter().filter(|result| result.ok.is_some()).count();
    let unmet = failures(results).count();
    println!(
        "{} results, {expected} with an expectation, {unmet} not as expected",
        results.len()
    );
}
