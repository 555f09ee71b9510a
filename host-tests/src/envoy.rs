//! Real Envoys: the pinned binary, bootstraps from the templates that users deploy, processes in
//! network namespaces, and what they say on their admin port and in their logs.
//!
//! It downloads nothing and builds nothing: what is missing is named with the command that makes
//! it ([`artifact`]). Configuration comes from the repository's `envoy/` folder alone
//! ([`template`]), so that a test that passes here passes with the file a user gets.

pub mod artifact;
pub(crate) mod logs;
mod plaintext;
mod process;
mod stats;
pub mod template;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

pub use artifact::Artifact;
pub use plaintext::plaintext;
pub use process::{ADMIN, Envoy, Spec, UID, validate};
pub use stats::Stats;

/// What can go wrong with an Envoy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that somebody has to make first.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The template and its values do not fit.
    #[error(transparent)]
    Template(#[from] template::Error),
    /// The network namespace could not be entered.
    #[error(transparent)]
    Network(#[from] crate::net::Error),
    /// A file of the process could not be written or read.
    #[error("{name}: {step} {path}: {source}")]
    File {
        /// Which Envoy.
        name: String,
        /// What was attempted, such as `writing`.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process did not start.
    #[error("{name}: cannot start Envoy: {source}")]
    Start {
        /// Which Envoy.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The process has ended by itself.
    #[error("{name}: Envoy has ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which Envoy.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// It did not become ready.
    #[error("{name}: Envoy is not ready after {waited:?}: {answer}; the end of its log:\n{log}")]
    NotReady {
        /// Which Envoy.
        name: String,
        /// For how long was waited.
        waited: Duration,
        /// What `/ready` answered last.
        answer: String,
        /// The last lines of its log.
        log: String,
    },
    /// The admin port did not answer.
    #[error("{name}: admin port: GET {path}: {source}")]
    Admin {
        /// Which Envoy.
        name: String,
        /// What was asked for.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// Envoy refused a configuration.
    #[error("Envoy refuses {path}: {log}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What Envoy said.
        log: String,
    },
}
