//! From events to published snapshots: folds, waits a moment, compiles what changed, checks it, and
//! hands it on through [`crate::snapshots::SnapshotSource`].
//!
//! ```text
//!  batches of events ─▶ index ─(quiet for a moment)─▶ compile ─▶ check ─▶ a watch for each pod and node
//!                         └──────────────▶ problems ─────────────────────▶ a watch of all
//! ```
//!
//! Nothing is published before every kind of object has synced, and nothing that
//! `Snapshot::check` refuses: the last good snapshot stays, and a problem says so. It knows neither
//! Kubernetes nor Envoy.

mod board;
mod problems;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sidewall_policy::compile::Options;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster::Batch;
use crate::problem::Problem;
use crate::snapshots::{Published, Recipient, SnapshotSource};
use board::Board;

/// What has been published, for whoever serves or shows it.
#[derive(Debug)]
pub struct Publisher {
    board: Arc<Board>,
    problems: watch::Receiver<Arc<Vec<Problem>>>,
    synced: watch::Receiver<bool>,
}

/// Starts publishing what follows from `events`, until they end or `cancellation` says so.
///
/// Must be called within a tokio runtime.
pub fn start(
    events: mpsc::Receiver<Batch>,
    options: Options,
    cancellation: CancellationToken,
) -> Arc<Publisher> {
    let board = Arc::new(Board::default());
    let (problems_tx, problems) = watch::channel(Arc::default());
    let (synced_tx, synced) = watch::channel(false);
    let task = task::Task::new(options, Arc::clone(&board), problems_tx, synced_tx);
    tokio::spawn(task.run(events, cancellation));
    Arc::new(Publisher {
        board,
        problems,
        synced,
    })
}

impl Publisher {
    /// Follows everything that is wrong with the objects and sources: sorted, without doubles.
    pub fn problems(&self) -> watch::Receiver<Arc<Vec<Problem>>> {
        self.problems.clone()
    }

    /// Follows whether every store has synced and what followed has been published.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.clone()
    }

    /// How many snapshots were compiled and then refused by their check, since the start. Anything
    /// but zero is a fault of the compiler.
    pub fn refused(&self) -> u64 {
        self.board.refused()
    }
}

impl SnapshotSource for Publisher {
    fn subscribe(&self, recipient: &Recipient) -> watch::Receiver<Option<Published>> {
        self.board.subscribe(recipient)
    }

    fn published(&self) -> Vec<(Recipient, Published)> {
        self.board.published()
    }

    /// False again once publishing has ended: what is published then is not the state any more.
    fn is_synced(&self) -> bool {
        *self.synced.borrow() && self.synced.has_changed().is_ok()
    }
}
