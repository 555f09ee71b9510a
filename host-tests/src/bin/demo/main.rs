//! `demo`: the policies of the Kubernetes documentation, one after another, deciding connections
//! between pods whose sidecars are real Envoys. It checks itself; its last line says how many of
//! its probes came out as the documentation says they must.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a demo talks to its user"
)]

mod acts;
mod policies;
mod scene;

use std::process::ExitCode;

use sidewall_host_tests::sandbox::{self, Place};

fn main() -> ExitCode {
    match sandbox::enter() {
        Ok(Place::Left(code)) => return code,
        Ok(Place::Inside) => {}
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::from(2);
        }
    }
    match acts::play() {
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
