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
use super::resets::Resets;
use super::ruleset::Settings;

/// How long after a change connections are judged again: a packet that was judged before the change may
/// have opened one since. Also the pause between two readings, unless there is a change.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// The pause after a reading that failed; it doubles with each that follows, up to the other.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const AFTER_FAILURES: Duration = Duration::from_secs(30);

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
    pub(super) resets: Resets,
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
        let mut failures: u32 = 0;
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
                    let is_read = self.revoke(&mut docket).await;
                    failures = if is_read { 0 } else { failures.saturating_add(1) };
                    next = next_reading(Instant::now(), failures, second_look.take(), docket.next());
                }
            }
        }
    }

    /// Reads the table once, and returns whether all that is denied in it has been dealt with.
    async fn revoke(&self, docket: &mut Docket) -> bool {
        let report = |record: &Record| {
            self.metrics.cut.inc();
            warn!("{}", record.line());
        };
        let started = Instant::now();
        let Self {
            snapshots,
            settings,
            resets,
            ..
        } = self;
        let outcome = conntrack::revoke(snapshots, settings, docket, resets, report).await;
        let took = started.elapsed();
        self.metrics.scan_seconds.observe(took.as_secs_f64());
        outcome.inspect_err(|error| error!("{error}")).is_ok()
    }
}

/// After a reading that ended now, when is the next: for a second look at a change, for what is due, or,
/// after so many failures in a row, because some that are denied may go on.
fn next_reading(
    now: Instant,
    failures: u32,
    second_look: Option<Instant>,
    due: Option<Instant>,
) -> Option<Instant> {
    let later = match failures.checked_sub(1) {
        None => due.map(|due| due.max(now + SECOND_LOOK)),
        Some(repeated) => {
            let pause = AFTER_FAILURE.saturating_mul(2_u32.saturating_pow(repeated));
            Some(now + pause.min(AFTER_FAILURES))
        }
    };
    second_look.into_iter().chain(later).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_go_on_while_something_is_due_and_not_without_a_pause() {
        let now = Instant::now();
        let after = |milliseconds| Some(now + Duration::from_millis(milliseconds));
        assert_eq!(next_reading(now, 0, None, None), None);
        assert_eq!(next_reading(now, 0, after(20), None), after(20));
        assert_eq!(next_reading(now, 0, after(20), after(900)), after(20));
        assert_eq!(next_reading(now, 0, None, after(900)), after(900));
        let overdue = now.checked_sub(Duration::from_secs(1));
        assert_eq!(next_reading(now, 0, None, overdue), after(50));
    }

    #[test]
    fn a_reading_that_failed_is_repeated_even_if_nothing_is_due() {
        let now = Instant::now();
        let after = |seconds| Some(now + Duration::from_secs(seconds));
        for (failures, pause) in [(1, 1), (2, 2), (5, 16), (6, 30), (u32::MAX, 30)] {
            assert_eq!(next_reading(now, failures, None, None), after(pause));
        }
        assert_eq!(next_reading(now, 2, None, Some(now)), after(2));
        assert_eq!(next_reading(now, 2, Some(now), None), Some(now));
    }
}
