//! Questions that are answered from manifests alone, without a cluster and without traffic:
//! `sidewall explain`, `sidewall matrix`, `sidewall diff` and `sidewall lint`.
//!
//! ```text
//!  manifests ──▶ world: cluster + one snapshot of every pod ──▶ ruling of a flow, both sides
//!                                                                 ├─▶ explain   one connection
//!                                                                 ├─▶ matrix    every pair of pods
//!                                                                 └─▶ diff      two matrices
//!  policies ──▶ lint: what is legal and may not be what was meant
//! ```
//!
//! The engine is the one that decides traffic: the same compiler, the same snapshot bytes, the same
//! `judge`; `explain --verify` asks the reference evaluator as well. Nothing here decides anything by itself, and nothing here writes anywhere but to the
//! writer it is given.

mod diff;
mod explain;
mod lint;
mod matrix;
pub(crate) mod paint;
mod party;
mod ports;
mod ruling;
mod world;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;
use sidewall_policy::verify::Disagreement;

use crate::problem::Problem;
pub use diff::DiffArgs;
pub use explain::ExplainArgs;
pub use lint::LintArgs;
pub use matrix::MatrixArgs;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder could not be read.
    #[error("cannot read the manifests in {path}: {reason}", path = path.display())]
    Manifests {
        /// The folder.
        path: PathBuf,
        /// What was in the way.
        reason: String,
    },
    /// Nobody of that name or address.
    #[error(transparent)]
    Party(#[from] party::PartyError),
    /// A port that the target does not have.
    #[error(
        "{target} has no {protocol} port named {name:?}; name a container port, or give a number"
    )]
    Port {
        /// The pod.
        target: String,
        /// The protocol.
        protocol: &'static str,
        /// The name.
        name: String,
    },
    /// `--protocol` without its `--port`, or the other way round.
    #[error(
        "{protocols} times --protocol and {ports} times --port: give each port its protocol, or no protocol at all for TCP"
    )]
    Pairs {
        /// How many ports.
        ports: usize,
        /// How many protocols.
        protocols: usize,
    },
    /// `sidewall diff` compares two folders.
    #[error("--manifests is given {given} times: give it twice, the old folder first")]
    Folders {
        /// How many there were.
        given: usize,
    },
    /// The two ends have no address family in common.
    #[error("{from} and {to} have no address family in common")]
    Family {
        /// The source.
        from: String,
        /// The destination.
        to: String,
    },
    /// No policy can have a say.
    #[error(
        "neither {from} nor {to} is a pod of these manifests: NetworkPolicy has no say in what passes between them"
    )]
    NoPod {
        /// The source.
        from: String,
        /// The destination.
        to: String,
    },
    /// The engine and the reference evaluator do not agree.
    #[error(
        "{connection}: {disagreement}. This is a mistake of Sidewall, not of the manifests: do not rely on the answer, and please report it with them"
    )]
    Disagreement {
        /// What was asked.
        connection: String,
        /// What differs.
        disagreement: Disagreement,
    },
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Write(#[from] io::Error),
}

/// In which form an answer is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// For programs; docs/how-to/ask-offline.md lists the fields
    Json,
}

/// `0`: nothing is denied or different. `1`: something is. Errors end with `2`.
fn exit(something: bool) -> ExitCode {
    ExitCode::from(u8::from(something))
}

/// Standard output; colours are left out when it is no terminal.
fn stdout() -> impl Write {
    anstream::stdout().lock()
}

/// One line of JSON, indented, for programs and for people who look at what programs get.
fn write_json(out: &mut impl Write, value: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Tells of what is wrong with the manifests, beside the answer.
fn warn_of(problems: &[Problem]) -> Result<(), Error> {
    let mut out = anstream::stderr().lock();
    for problem in problems {
        writeln!(out, "{}: {problem}", paint::warning("warning"))?;
    }
    Ok(())
}
