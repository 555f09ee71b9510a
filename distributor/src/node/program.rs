//! Programs of the system, run to their end.

use std::io;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a program said and how it ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    /// Trimmed.
    pub(super) stderr: String,
}

/// Why a program did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there.
    #[error(
        "cannot run `{command}`: {source}; {} must be installed in this image",
        package(command)
    )]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It refused.
    #[error(
        "`{command}` failed ({status}): {stderr}; this needs root with the capability NET_ADMIN in \
         the node's network namespace"
    )]
    Refused {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
}

/// Runs `program` with the arguments in `line`, split at spaces, and `input` to read.
pub(super) async fn run(program: &str, line: &str, input: &str) -> Result<Outcome, ProgramError> {
    let failed = |source| ProgramError::Start {
        command: format!("{program} {line}"),
        source,
    };
    let mut child = Command::new(program)
        .args(line.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // What a program did not read does not matter: its exit status tells.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(failed)?;
    Ok(Outcome {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs a program; anything but success is an error.
pub(super) async fn must(program: &str, line: &str, input: &str) -> Result<String, ProgramError> {
    let outcome = run(program, line, input).await?;
    if outcome.status.success() {
        Ok(outcome.stdout)
    } else {
        Err(refused(program, line, outcome))
    }
}

pub(super) fn refused(program: &str, line: &str, outcome: Outcome) -> ProgramError {
    ProgramError::Refused {
        command: format!("{program} {line}"),
        status: outcome.status,
        stderr: outcome.stderr,
    }
}

fn package(command: &str) -> &'static str {
    if command.starts_with("nft ") {
        "nftables"
    } else {
        "iproute2"
    }
}
