//! Conformance cases as data: who reaches whom under which policies, held by several engines.
//!
//! ```text
//!  cases/upstream/*.yaml ──▶ spec: steps and tables ─┬─▶ engine: the compiled snapshots, judged offline
//!  cases/upstream/world/ ──▶ state: the manifests   ─┴─▶ packets: a running lab, probed
//! ```

mod engine;
mod packets;
mod spec;
mod state;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::lab;
use crate::probe::Protocol;

pub use engine::judge;
pub use packets::{Runner, Tally};
pub use spec::{Case, Pairs, PlaneName, Step, Table, read};
pub use state::State;

/// Why cases could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of cases or of their world.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// A case speaks of somebody who does not exist at that time.
    #[error("case {case}: there is no {what}")]
    Unknown {
        /// The case.
        case: u32,
        /// Who or what.
        what: String,
    },
    /// What the compiler made does not pass its own check.
    #[error("{recipient}: {source}")]
    Snapshot {
        /// Whose snapshot.
        recipient: String,
        /// What is wrong.
        source: sidewall_policy::snapshot::SnapshotError,
    },
    /// The lab.
    #[error(transparent)]
    Lab(#[from] lab::Error),
}

/// The folder of the upstream suite's cases.
#[must_use]
pub fn upstream() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/upstream")
}

/// Something that is not as a table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The step of the case, from 1; 0 is before the first, when there is no policy.
    pub step: usize,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// What was found, in words.
    pub found: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.found)
    }
}
