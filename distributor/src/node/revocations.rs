//! Judges live connections again after changes of the table, beside the agent: the next change does
//! not wait until a long connection table has been read.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use sidewall_policy::record::Record;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::agent::at;
use super::conntrack::{self, Stage};
use super::metrics::Metrics;
use super::ruleset::Settings;

/// How long after a change connections fall silent: at once; and again, for a packet that was judged
/// before the change may have opened a connection after that.
const SILENCE_AFTER: [Duration; 2] = [Duration::ZERO, Duration::from_millis(50)];

/// How long after a change, when nothing is on its way any more, all that it denies is deleted, whoever
/// carries it: a proxy should have closed its own by then.
const END_AFTER: Duration = Duration::from_millis(300);

/// A change of the table that is in force.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) at: Instant,
    pub(super) snapshot: Arc<Snapshot>,
}

/// Ends live connections.
pub(super) struct Revocations {
    /// The last change.
    pub(super) changes: watch::Receiver<Option<Change>>,
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
        let mut schedule = Schedule::default();
        loop {
            let next = schedule.next();
            tokio::select! {
                biased;
                changed = self.changes.changed() => match changed {
                    Ok(()) => {
                        let change = self.changes.borrow_and_update().clone();
                        change.into_iter().for_each(|change| schedule.plan(change));
                    }
                    // There is no agent any more: so will be this process.
                    Err(_) => std::future::pending().await,
                },
                () = at(next) => {
                    if let Some(stage) = schedule.take() {
                        self.revoke(&stage).await;
                    }
                }
            }
        }
    }

    async fn revoke(&self, stage: &Stage) {
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
        if let Err(error) = conntrack::revoke(snapshots, settings, stage, report).await {
            error!("{error}");
        }
        let took = started.elapsed();
        self.metrics.scan_seconds.observe(took.as_secs_f64());
    }
}

/// What is to come, the soonest last.
#[derive(Debug, Default)]
struct Schedule(Vec<(Instant, Stage)>);

impl Schedule {
    /// Plans what follows a change. The next end stays planned, or changes in quick succession would
    /// put it off for ever.
    fn plan(&mut self, change: Change) {
        let is_end = |(_, stage): &&(Instant, Stage)| matches!(stage, Stage::End(_));
        let kept = self.0.iter().rfind(is_end).cloned();
        let silence = SILENCE_AFTER.map(|after| (change.at + after, Stage::Silence));
        let end = (change.at + END_AFTER, Stage::End(change.snapshot));
        self.0 = kept.into_iter().chain(silence).chain([end]).collect();
        self.0.sort_by_key(|(at, _)| Reverse(*at));
    }

    /// When the next one is due.
    fn next(&self) -> Option<Instant> {
        self.0.last().map(|(at, _)| *at)
    }

    /// Takes the next one out.
    fn take(&mut self) -> Option<Stage> {
        self.0.pop().map(|(_, stage)| stage)
    }
}

#[cfg(test)]
mod tests {
    use sidewall_policy::compile::{Options, compile_snapshot};
    use sidewall_policy::model::Cluster;

    use super::*;

    fn change(at: Instant) -> Change {
        let bytes = compile_snapshot(&Cluster::default(), &[], &Options::default());
        let snapshot = Arc::new(Snapshot::check(bytes).unwrap());
        Change { at, snapshot }
    }

    /// When what happens, and for an end, whether `last` is the change that it belongs to.
    fn drain(
        mut schedule: Schedule,
        since: Instant,
        last: &Change,
    ) -> Vec<(u128, &'static str, bool)> {
        std::iter::from_fn(|| {
            let at = schedule.next()?;
            let (stage, is_of_last) = match schedule.take()? {
                Stage::Silence => ("silence", true),
                Stage::End(snapshot) => ("end", Arc::ptr_eq(&snapshot, &last.snapshot)),
            };
            Some(((at - since).as_millis(), stage, is_of_last))
        })
        .collect()
    }

    #[test]
    fn a_change_is_followed_by_three() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(), None);
        let change = change(now);
        schedule.plan(change.clone());
        assert_eq!(
            drain(schedule, now, &change),
            [
                (0, "silence", true),
                (50, "silence", true),
                (300, "end", true)
            ]
        );
    }

    #[test]
    fn changes_in_quick_succession_do_not_put_it_off_or_pile_up() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        let changes = (0..10).map(|each| change(now + each * Duration::from_millis(20)));
        let changes: Vec<_> = changes.collect();
        changes
            .iter()
            .cloned()
            .for_each(|change| schedule.plan(change));
        assert_eq!(
            drain(schedule, now, &changes[9]),
            [
                (180, "silence", true),
                (230, "silence", true),
                (300, "end", false),
                (480, "end", true),
            ]
        );
    }
}
