//! `conformance`: runs the cases of the upstream NetworkPolicy suite, and those that no suite has,
//! against running labs.
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
use sidewall_host_tests::lab::{Plane, Redirect};
use sidewall_host_tests::sandbox::{self, Place};

/// Runs the upstream NetworkPolicy cases with real packets: every pair of pods, by pod IP and by
/// ClusterIP, over IPv4 and IPv6. Then the cases that no suite has.
#[derive(Debug, Parser)]
#[command(name = "conformance", version)]
struct Args {
    /// What enforces; all of them, one after another, if left out
    #[arg(long, value_enum)]
    plane: Option<Plane>,

    /// Whose TCP nodes hand to their Envoys, with --plane
    #[arg(long, value_enum, requires = "plane", default_value_t)]
    redirect: Redirect,

    /// Only cases whose file, number and name begin with one of these texts, such as `updates 21`
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,
}

/// What enforces, and how nodes do it.
#[derive(Clone, Copy, Debug)]
struct Mode {
    plane: Plane,
    redirect: Redirect,
}

/// Each plane with the kernel alone, then those with nodes with redirection.
fn all_modes() -> Vec<Mode> {
    let planes = Plane::value_variants().iter();
    let kernel = planes.clone().map(|plane| Mode {
        plane: *plane,
        redirect: Redirect::Never,
    });
    let redirected = planes.filter(|plane| plane.has_nodes()).map(|plane| Mode {
        plane: *plane,
        redirect: Redirect::All,
    });
    kernel.chain(redirected).collect()
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
    let mut cases = cases::read(&cases::upstream())?;
    cases.extend(cases::read(&cases::extra())?);
    cases.retain(|case| {
        let name = case.to_string();
        args.case.is_empty() || args.case.iter().any(|text| name.starts_with(text))
    });
    anyhow::ensure!(!cases.is_empty(), "there is no such case");
    let modes = args.plane.map_or_else(all_modes, |plane| {
        vec![Mode {
            plane,
            redirect: args.redirect,
        }]
    });
    let mut summary = Vec::new();
    let mut all = true;
    for mode in modes {
        let (of_plane, passed) = run_mode(mode, &cases)?;
        all &= of_plane == passed;
        summary.push(format!(
            "conformance {}: {of_plane} cases, {passed} passed",
            name(mode)
        ));
    }
    for line in summary {
        println!("{line}");
    }
    Ok(all)
}

/// How many cases there are for a mode, and how many pass.
fn run_mode(mode: Mode, cases: &[Case]) -> anyhow::Result<(usize, usize)> {
    let started = Instant::now();
    println!("plane {}", name(mode));
    let mut tally = Tally::default();
    let (mut count, mut passed) = (0, 0);
    let mut left: Vec<&Case> = cases.iter().collect();
    while let Some(first) = left.first() {
        // Those that take place in the same world take turns in one lab.
        let is_there = |case: &&Case| case.folder() == first.folder() && case.world == first.world;
        let (together, others): (Vec<&Case>, Vec<&Case>) =
            left.iter().partition(|case| is_there(case));
        let (of_world, passed_there) = run_world(mode, &together, &mut tally)?;
        count += of_world;
        passed += passed_there;
        left = others;
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

/// The same of cases that begin with the same objects.
fn run_world(mode: Mode, cases: &[&Case], tally: &mut Tally) -> anyhow::Result<(usize, usize)> {
    let Mode { plane, redirect } = mode;
    let (skipped, concerned): (Vec<&Case>, Vec<&Case>) =
        cases.iter().partition(|case| case.skipped(plane).is_some());
    for case in skipped {
        let reason = case.skipped(plane).unwrap_or_default();
        println!("  --   {case}: {reason}");
    }
    let Some(first) = concerned.first() else {
        return Ok((0, 0));
    };
    let mut runner = Runner::start(State::of(first)?, plane, redirect)?;
    let unmet = runner.reach_all(&concerned, tally)?;
    show(&unmet);
    anyhow::ensure!(
        unmet.is_empty(),
        "not everybody is reached without a policy"
    );
    let mut passed = 0;
    for case in &concerned {
        let unmet = runner.run(case, tally)?;
        passed += usize::from(unmet.is_empty());
        println!(
            "  {} {case}",
            if unmet.is_empty() { "ok  " } else { "FAIL" }
        );
        show(&unmet);
    }
    Ok((concerned.len(), passed))
}

fn show(unmet: &[Unmet]) {
    for unmet in unmet {
        println!("         {unmet}");
    }
}

fn name(Mode { plane, redirect }: Mode) -> String {
    let value = plane.to_possible_value();
    let plane = value.map_or_else(String::new, |value| value.get_name().to_owned());
    match redirect {
        Redirect::Never => plane,
        Redirect::OnRequest => format!("{plane}, redirection on request"),
        Redirect::All => format!("{plane}, redirection of all"),
    }
}
