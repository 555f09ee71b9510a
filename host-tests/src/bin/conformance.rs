//! `conformance`: runs the cases of the upstream NetworkPolicy suite against running labs.
//!
//! Exit code 0 when every case passes, 1 when one does not, 2 when that could not be told.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command talks to its user"
)]

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use sidewall_host_tests::cases::{self, Case, Runner, State, Tally, Unmet};
use sidewall_host_tests::lab::Plane;
use sidewall_host_tests::sandbox::{self, Place};

/// Runs the upstream NetworkPolicy cases with real packets: every pair of pods, by pod IP and by
/// ClusterIP, over IPv4 and IPv6.
#[derive(Debug, Parser)]
#[command(name = "conformance", version)]
struct Args {
    /// What enforces; all of them, one after another, if left out
    #[arg(long, value_enum)]
    plane: Option<Plane>,

    /// Only the cases of these numbers
    #[arg(long, value_name = "NUMBER")]
    case: Vec<u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match sandbox::enter() {
        Ok(Place::Left(code)) => return code,
        Ok(Place::Inside) => {}
        Err(error) => {
            eprintln!("conformance: {error}");
            return ExitCode::from(2);
        }
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every case passes.
fn run(args: &Args) -> anyhow::Result<bool> {
    let folder = cases::upstream();
    let mut cases = cases::read(&folder)?;
    cases.retain(|case| args.case.is_empty() || args.case.contains(&case.number));
    anyhow::ensure!(!cases.is_empty(), "there is no case of these numbers");
    let world = State::read(&folder.join("world"))?;
    let planes = args
        .plane
        .map_or_else(|| Plane::value_variants().to_vec(), |plane| vec![plane]);
    let mut summary = Vec::new();
    let mut all = true;
    for plane in planes {
        let (of_plane, passed) = run_plane(plane, &cases, &world)?;
        all &= of_plane == passed;
        summary.push(format!(
            "conformance {}: {of_plane} cases, {passed} passed",
            name(plane)
        ));
    }
    for line in summary {
        println!("{line}");
    }
    Ok(all)
}

/// How many cases there are for a plane, and how many pass.
fn run_plane(plane: Plane, cases: &[Case], world: &State) -> anyhow::Result<(usize, usize)> {
    let started = Instant::now();
    println!("plane {}", name(plane));
    let mut runner = Runner::start(world.clone(), plane)?;
    let mut tally = Tally::default();
    let unmet = runner.reach_all(cases, &mut tally)?;
    show(&unmet);
    anyhow::ensure!(
        unmet.is_empty(),
        "not everybody is reached without a policy"
    );
    let (mut count, mut passed) = (0, 0);
    for case in cases {
        let Case { number, name, .. } = case;
        if let Some(reason) = case.skipped(plane) {
            println!("  --   {number:2} {name}: {reason}");
            continue;
        }
        count += 1;
        let unmet = runner.run(case, &mut tally)?;
        passed += usize::from(unmet.is_empty());
        println!(
            "  {} {number:2} {name}",
            if unmet.is_empty() { "ok  " } else { "FAIL" }
        );
        show(&unmet);
    }
    let Tally {
        probes,
        repeated,
        denied,
        handshakes,
    } = tally;
    println!(
        "  {probes} probes in {:.0} s, {repeated} tried again; of {denied} denials {handshakes} saw a handshake",
        started.elapsed().as_secs_f64()
    );
    Ok((count, passed))
}

fn show(unmet: &[Unmet]) {
    for unmet in unmet {
        println!("         {unmet}");
    }
}

fn name(plane: Plane) -> String {
    let value = plane.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
