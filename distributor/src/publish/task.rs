//! The task that owns the index.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sidewall_policy::compile::Options;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::problems::Problems;
use crate::cluster::{Batch, Event, Kind, ObjectRef, Origin};
use crate::index::{Change, Index};
use crate::problem::Problem;
use crate::snapshots::{Published, Recipient};

/// How long events must pause before what they add up to is compiled. A rollout arrives as a
/// burst, and one push for the burst is cheaper for every Envoy than one for each event; a few
/// milliseconds are below what anybody sees of a policy change.
const QUIET: Duration = Duration::from_millis(3);

/// The longest that a burst can hold up what it started with.
const LONGEST_BURST: Duration = Duration::from_millis(50);

/// Folds events, compiles and publishes.
pub(super) struct Task {
    index: Index,
    board: Arc<Board>,
    problems: Problems,
    synced: watch::Sender<bool>,
}

impl Task {
    pub(super) fn new(
        options: Options,
        board: Arc<Board>,
        problems: watch::Sender<Arc<Vec<Problem>>>,
        synced: watch::Sender<bool>,
    ) -> Self {
        Self {
            index: Index::new(options),
            board,
            problems: Problems::new(problems),
            synced,
        }
    }

    /// Runs until the events end or the token is cancelled. What has been published stays.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<Batch>,
        cancellation: CancellationToken,
    ) {
        let mut cancelled = pin!(cancellation.cancelled());
        loop {
            let first = tokio::select! {
                () = &mut cancelled => return,
                batch = events.recv() => batch,
            };
            let Some(batch) = first else { return };
            self.fold(batch);
            let latest = Instant::now() + LONGEST_BURST;
            loop {
                let quiet = (Instant::now() + QUIET).min(latest);
                tokio::select! {
                    () = &mut cancelled => return,
                    batch = events.recv() => match batch {
                        Some(batch) => self.fold(batch),
                        None => break,
                    },
                    () = sleep_until(quiet) => break,
                }
            }
            // Compiling a large cluster takes a while: not on a thread that serves others.
            match tokio::task::spawn_blocking(move || self.publish()).await {
                Ok(task) => self = task,
                Err(error) => {
                    tracing::error!(%error, "compiling failed; the last snapshots stay in force");
                    return;
                }
            }
        }
    }

    fn fold(&mut self, batch: Batch) {
        for event in batch {
            match event {
                Event::Report(origin, problems) => self.problems.report(origin, problems),
                event => self.index.apply(event),
            }
        }
    }

    fn publish(mut self) -> Self {
        if self.index.is_synced() {
            for (recipient, change) in self.index.take_changes() {
                match change {
                    Change::Snapshot(bytes) => self.offer(&recipient, bytes),
                    Change::Gone => {
                        self.board.retire(&recipient);
                        self.problems.report(refusal(&recipient), Vec::new());
                    }
                }
            }
            self.board.sweep();
            self.synced
                .send_if_modified(|synced| !std::mem::replace(synced, true));
        }
        self.problems.publish();
        self
    }

    /// Checks a snapshot and publishes it.
    fn offer(&mut self, recipient: &Recipient, bytes: Vec<u8>) {
        let length = bytes.len();
        let problems = match Snapshot::check(bytes) {
            Ok(snapshot) => {
                let revision = snapshot.revision();
                let published = Published {
                    revision,
                    bytes: Bytes::copy_from_slice(snapshot.bytes()),
                    published_at: SystemTime::now(),
                };
                if self.board.publish(recipient, published) {
                    tracing::debug!(%recipient, %revision, bytes = length, "published");
                }
                Vec::new()
            }
            Err(error) => {
                self.board.count_refused();
                vec![Problem {
                    object: object(recipient).to_string(),
                    field: String::new(),
                    reason: format!("its compiled snapshot of {length} bytes is refused: {error}"),
                    consequence: "its last good snapshot stays in force; this is a fault of the \
                                  compiler, please report it with the manifests"
                        .to_owned(),
                }]
            }
        };
        self.problems.report(refusal(recipient), problems);
    }
}

/// The object that a recipient stands for.
fn object(recipient: &Recipient) -> ObjectRef {
    match recipient {
        Recipient::Pod(pod) => ObjectRef::new(Kind::Pod, pod.clone()),
        Recipient::Node(node) => ObjectRef::cluster_scoped(Kind::Node, Arc::clone(node)),
    }
}

/// Under which origin a refused snapshot is reported.
fn refusal(recipient: &Recipient) -> Origin {
    Origin::Source(format!("snapshot of {recipient}").into())
}
