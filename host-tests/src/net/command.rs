//! Running `ip` and `nft` with a script on standard input.

use std::io::{self, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

/// A program that could not be run, or refused its script.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It did not start.
    #[error("cannot run `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}): {stderr}\nits input was:\n{script}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, trimmed.
        stderr: String,
        /// What it was told.
        script: String,
    },
}

/// A program that is reading its script.
pub(super) struct Running {
    command: String,
    script: String,
    child: Child,
}

/// Starts a program and hands it its script, without waiting for the end: several run at once.
pub(super) fn start(mut command: Command, script: String) -> Result<Running, CommandError> {
    let line = line(&command);
    let started = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|source| CommandError::Start {
        command: line.clone(),
        source,
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        let script = script.clone();
        // On a thread of its own, for a program may answer before it has read everything. What it
        // did not read does not matter: its exit status tells.
        thread::spawn(move || {
            let _ = stdin.write_all(script.as_bytes());
        });
    }
    Ok(Running {
        command: line,
        script,
        child,
    })
}

impl Running {
    /// Waits for the end.
    pub(super) fn wait(self) -> Result<(), CommandError> {
        let Self {
            command,
            script,
            child,
        } = self;
        let output = match child.wait_with_output() {
            Ok(output) => output,
            Err(source) => return Err(CommandError::Start { command, source }),
        };
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(CommandError::Failed {
            command,
            status: output.status,
            stderr,
            script,
        })
    }
}

/// `ip -n NAMESPACE -batch -`.
pub(super) fn ip(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["-n", namespace, "-batch", "-"]);
    command
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
