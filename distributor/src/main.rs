//! The `sidewall` command. All of it is in the library; this only starts it.

#![allow(clippy::print_stderr, reason = "a command talks to its user")]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match sidewall_distributor::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // One line for the operator: no backtrace, even where RUST_BACKTRACE is set.
            eprintln!("error: {error:#}");
            // 1 is an answer: "denied", or "different".
            ExitCode::from(2)
        }
    }
}
