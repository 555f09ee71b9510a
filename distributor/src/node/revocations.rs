//! Judges live connections again after changes of the table, beside the agent: the next change does
//! not wait until a long connection table has been read.

use std::sync::Arc;
use std::time::Duration;

use sidewall_policy::record::Record;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::agent::at;
use super::conntrack::{self, Docket, Graces};
use super::metrics::Metrics;
use super::ruleset::Settings;

/// How long after a change connections are judged again: a packet that was judged before the change may
/// have opened one since. Also the pause between two readings, unless there is a change.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// The pause after a reading that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A proxy closes what it carries within milliseconds. A server that is kept waiting for its processor
/// may answer late.
const GRACES: Graces = Graces {
    proxied: Duration::from_millis(300),
    silenced: Duration::from_secs(1),
};

/// Ends live connections.
pub(super) struct Revocations {
    /// When the table was changed last.
    pub(super) changes: watch::Receiver<Option<Instant>>,
    pub(super) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
}

impl Revocations {
    /// Follows changes until `shutdown` is cancelled.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(mut self) {
        let mut docket = Docket::new(GRACES);
        let mut next = None;
        let mut second_look = None;
        loop {
            tokio::select! {
                biased;
                changed = self.changes.changed() => match changed {
                    Ok(()) => {
                        next = *self.changes.borrow_and_update();
                        second_look = next.map(|change| change + SECOND_LOOK);
                    }
                    // There is no agent any more: so will be this process.
                    Err(_) => std::future::pending().await,
                },
                () = at(next) => {
                    let pause = self.revoke(&mut docket).await;
                    let earliest = Instant::now() + pause;
                    next = next_reading(earliest, second_look.take(), docket.next());
                }
            }
        }
    }

    /// Reads the table once, and returns how long to wait at least before what is due next.
    async fn revoke(&self, docket: &mut Docket) -> Duration {
        let report = |record: &Record| {
            self.metrics.cut.inc();
            warn!("{}", record.line());
        };
        let started = Instant::now();
        let Self {
            snapshots,
            settings,
            ..
        } = self;
        let outcome = conntrack::revoke(snapshots, settings, docket, report).await;
        let took = started.elapsed();
        self.metrics.scan_seconds.observe(took.as_secs_f64());
        match outcome {
            Ok(()) => SECOND_LOOK,
            Err(error) => {
                error!("{error}");
                AFTER_FAILURE
            }
        }
    }
}

/// After one reading, when is the next: for a second look at a change, or for what is due.
fn next_reading(
    earliest: Instant,
    second_look: Option<Instant>,
    due: Option<Instant>,
) -> Option<Instant> {
    let due = due.map(|due| due.max(earliest));
    second_look.into_iter().chain(due).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_go_on_while_something_is_due_and_not_without_a_pause() {
        let now = Instant::now();
        let after = |milliseconds| Some(now + Duration::from_millis(milliseconds));
        let earliest = now + Duration::from_millis(50);
        assert_eq!(next_reading(earliest, None, None), None);
        assert_eq!(next_reading(earliest, after(20), None), after(20));
        assert_eq!(next_reading(earliest, after(20), after(900)), after(20));
        assert_eq!(next_reading(earliest, None, after(900)), after(900));
        let overdue = now.checked_sub(Duration::from_secs(1));
        assert_eq!(next_reading(earliest, None, overdue), after(50));
    }
}
