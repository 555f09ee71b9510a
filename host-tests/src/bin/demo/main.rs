//! `demo`: the policies of the Kubernetes documentation, deciding connections between pods, in two
//! acts. In the first real Envoys beside the pods enforce, one policy after another. In the second
//! nodes do, too, and with them pods without a sidecar and UDP are covered. It checks itself; its
//! last line says how many of its probes came out as the documentation says they must.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a demo talks to its user"
)]

mod acts;
mod policies;
mod scene;

use std::process::ExitCode;

use clap::Parser;
use sidewall_host_tests::lab::Source;
use sidewall_host_tests::sandbox::{self, Place};

/// Plays two acts of the policies of the Kubernetes documentation, with real Envoys on this machine.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Args {
    /// Where the distributor reads the cluster
    #[arg(long, value_enum, default_value_t)]
    source: Source,
}

fn main() -> ExitCode {
    let Args { source } = Args::parse();
    match sandbox::enter() {
        Ok(Place::Left(code)) => return code,
        Ok(Place::Inside) => {}
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::from(2);
        }
    }
    match acts::play(source) {
        Ok(score) => {
            println!("demo: {} probes, {} as expected", score.tried, score.right);
            if score.right == score.tried {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(2)
        }
    }
}
