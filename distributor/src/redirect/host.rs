//! The seam to the machine: what is run and read, so that failures can be tested.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use super::Error;

/// A program with its arguments and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) program: &'static str,
    pub(super) arguments: Vec<&'static str>,
    /// Its standard input.
    pub(super) input: String,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Its exit code, unless a signal ended it.
    pub(super) code: Option<i32>,
    /// What it said on standard error, trimmed.
    pub(super) stderr: String,
}

/// The machine, or something that plays it.
pub(super) trait Host {
    /// Runs a program to its end.
    fn run(&mut self, invocation: &Invocation) -> io::Result<Outcome>;

    /// Reads a small file.
    fn read(&self, path: &str) -> io::Result<String>;
}

impl Invocation {
    /// A program without input. `line` is split at spaces.
    pub(super) fn new(program: &'static str, line: &'static str) -> Self {
        Self {
            program,
            arguments: line.split(' ').collect(),
            input: String::new(),
        }
    }

    pub(super) fn with_input(self, input: String) -> Self {
        Self { input, ..self }
    }

    /// Runs it; anything but success is an error.
    pub(super) fn run(&self, host: &mut impl Host) -> Result<(), Error> {
        self.ask(host, &[0]).map(drop)
    }

    /// Runs it and returns its exit code, one of those `expected`.
    pub(super) fn ask(&self, host: &mut impl Host, expected: &[i32]) -> Result<i32, Error> {
        tracing::debug!(command = %self, input = self.input, "running");
        let outcome = host.run(self).map_err(|source| Error::Start {
            command: self.to_string(),
            source,
        })?;
        match outcome.code {
            Some(code) if expected.contains(&code) => Ok(code),
            code => Err(Error::Refused {
                command: self.to_string(),
                status: code.map_or_else(
                    || "ended by a signal".to_owned(),
                    |code| format!("exit code {code}"),
                ),
                stderr: outcome.stderr,
            }),
        }
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.arguments.join(" "))
    }
}

/// This machine, in the network namespace of the thread that asks.
pub(super) struct System;

impl Host for System {
    fn run(&mut self, invocation: &Invocation) -> io::Result<Outcome> {
        let mut child = Command::new(invocation.program)
            .args(&invocation.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            // Written while the answer is read, so that neither pipe can fill up. What a program
            // did not read does not matter: its exit code tells.
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(invocation.input.as_bytes())));
            child.wait_with_output()
        })?;
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok(Outcome {
            code: output.status.code(),
            stderr,
        })
    }

    fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(path)
    }
}
