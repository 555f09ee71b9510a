//! Cases as data: who reaches whom under which policies, held by several engines.
//!
//! ```text
//!  cases/*/*.yaml ──▶ spec: steps, tables, entries ─▶ questions: one connection each
//!  cases/*/world/ ──▶ state: the manifests ─▶ compiled: folded and compiled as a distributor does
//!
//!  run ─┬─▶ engine: the snapshots, judged offline, beside the reference evaluator
//!       ├─▶ wasm: the built filter, with the snapshots of the client's and the server's sidecar
//!       └─▶ kernel: the table of each node in a kernel, and packets by hand
//!  packets: a running lab, probed
//! ```

mod compiled;
mod engine;
mod kernel;
mod packets;
mod questions;
mod route;
mod run;
mod spec;
mod state;
mod told;
mod wasm;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::lab;

pub use compiled::Compiled;
pub use engine::judge;
pub use kernel::Kernel;
pub use packets::{Runner, Tally};
pub use questions::{Question, questions};
pub use run::{Enforcer, run};
pub use spec::{Case, Entry, Pairs, PlaneName, Restart, Step, Table, World, read};
pub use state::State;
pub use told::Told;
pub use wasm::Wasm;

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
        case: String,
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
    /// A node's kernel, or what talks to it.
    #[error("kernel of {node}: {reason}")]
    Kernel {
        /// The node.
        node: String,
        /// What went wrong.
        reason: String,
    },
    /// The filter, under wasmtime.
    #[error(transparent)]
    Filter(#[from] crate::wasm_host::LoadError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] lab::Error),
}

/// The folder of the upstream suite's cases.
#[must_use]
pub fn upstream() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/upstream")
}

/// The folder of the cases that no suite has.
#[must_use]
pub fn extra() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/extra")
}

/// Something that is not as a table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The step of the case, from 1; 0 is before the first, when there is no policy.
    pub step: usize,
    /// What was found, in words.
    pub found: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.found)
    }
}
