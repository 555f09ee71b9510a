//! The loop that holds the kernel's table to the newest snapshot.
//!
//! ```text
//!  snapshot ─▶ plan ─▶ steps ─▶ kernel ─▶ change: connections that are denied now are ended elsewhere
//!                ▲                 │
//!                └── drift: somebody else changed the table
//! ```
//!
//! It remembers what it wrote last and changes only what differs. What it does not remember, after
//! a restart, a failure or somebody else's change, it reads and replaces, without a moment in which
//! the table is not there. A table of an earlier agent stays in force until the first snapshot
//! arrives; without one everything in the pod ranges is closed.
//!
//! Looking for drift reads the whole table, which takes long if that is large. A change does not wait
//! for it: the look is given up, unless the last one that was not is too long ago.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sidewall_policy::snapshot::{Revision, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use super::kernel::{Kernel, KernelError};
use super::metrics::Metrics;
use super::revocations::Change;
use super::ruleset::{Existing, Plan, Settings, replace, transition};

/// The pause after a failure, doubled with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// For how long looks at the table may be given up.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);

/// How the node is doing; printed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// No snapshot has arrived yet.
    Waiting,
    /// The table is that of this snapshot.
    Enforcing(Revision),
    /// The table cannot be brought up to date: what it was stays in force.
    Failing(String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str(
                "not ready: no snapshot has arrived yet; pods are closed, or as an earlier agent left them",
            ),
            Self::Enforcing(revision) => write!(f, "ready: enforcing {revision}"),
            Self::Failing(reason) => write!(f, "not ready: {reason}"),
        }
    }
}

/// The agent.
pub(super) struct Agent<K> {
    pub(super) kernel: K,
    pub(super) settings: Settings,
    pub(super) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Says that the table may not be what it should be.
    pub(super) doubts: watch::Receiver<u64>,
    pub(super) condition: watch::Sender<Condition>,
    /// Is told of every change of the table, once it is in force.
    pub(super) changes: watch::Sender<Option<Change>>,
    pub(super) metrics: Metrics,
}

/// What the agent has done so far.
struct Memory {
    /// What the kernel holds; `None` when that is not known.
    plan: Option<Plan>,
    /// When to try again after a failure, and how long the pause was.
    retry: Option<(Instant, Duration)>,
    /// A look at the table that is under way.
    look: Option<Look>,
    /// When one ended that was not given up.
    looked: Instant,
}

type Look = AbortOnDropHandle<Result<Existing, KernelError>>;

impl<K: Kernel> Agent<K> {
    /// Runs until `shutdown` is cancelled. The table stays.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut memory = Memory {
            plan: None,
            retry: None,
            look: None,
            looked: Instant::now(),
        };
        self.update(&mut memory).await;
        loop {
            let retry = memory.retry.map(|(at, _)| at);
            let may_change = memory.look.is_none() || memory.looked.elapsed() < LOOKED_WITHIN;
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.snapshots.changed(), if may_change => match changed {
                    Ok(()) => self.update(&mut memory).await,
                    // Whoever feeds us has ended: so will this process.
                    Err(_) => shutdown.cancelled().await,
                },
                Ok(()) = self.doubts.changed(), if memory.look.is_none() => {
                    memory.look = Some(self.look());
                }
                existing = end_of(&mut memory.look) => self.examine(&mut memory, existing).await,
                () = at(retry) => self.update(&mut memory).await,
            }
        }
    }

    /// Brings the table up to date with the newest snapshot.
    async fn update(&mut self, memory: &mut Memory) {
        // What it would find is not what will be there.
        memory.look = None;
        let snapshot = self.snapshots.borrow_and_update().clone();
        let started = Instant::now();
        match self.apply(memory, snapshot.as_deref()).await {
            Ok(0) => {
                memory.retry = None;
                self.tell(snapshot.as_deref());
            }
            Ok(steps) => {
                memory.retry = None;
                let took = started.elapsed();
                self.metrics.apply_seconds.observe(took.as_secs_f64());
                self.metrics.generation.inc();
                self.tell(snapshot.as_deref());
                debug!(steps, ?took, "applied");
                let at = Instant::now();
                if let Some(snapshot) = snapshot {
                    self.changes.send_replace(Some(Change { at, snapshot }));
                }
            }
            Err(error) => self.fail(memory, &error),
        }
    }

    /// Changes what differs, and returns in how many steps.
    async fn apply(
        &self,
        memory: &mut Memory,
        snapshot: Option<&Snapshot>,
    ) -> Result<usize, KernelError> {
        let plan = Plan::new(&self.settings, snapshot);
        let steps = if let Some(known) = memory.plan.take() {
            transition(&known, &plan)
        } else {
            let existing = self.kernel.list().await?;
            if snapshot.is_none() && !existing.is_absent() {
                info!("the table of an earlier agent stays in force until a snapshot arrives");
                return Ok(0);
            }
            replace(&existing, &plan)
        };
        for step in &steps {
            self.kernel.run(step).await?;
        }
        memory.plan = Some(plan);
        Ok(steps.len())
    }

    /// Begins to look at the table.
    fn look(&self) -> Look {
        let kernel = self.kernel.clone();
        AbortOnDropHandle::new(tokio::spawn(async move { kernel.list().await }))
    }

    /// Tells whether the table is what it should be, and mends it.
    async fn examine(&mut self, memory: &mut Memory, existing: Result<Existing, KernelError>) {
        memory.look = None;
        memory.looked = Instant::now();
        let existing = match existing {
            Ok(existing) => existing,
            Err(error) => return self.fail(memory, &error),
        };
        let drift = match &memory.plan {
            Some(plan) => existing.drift(plan),
            // Of a table of an earlier agent only its absence can be told.
            None if existing.is_absent() => vec!["the table is gone".to_owned()],
            None => Vec::new(),
        };
        if drift.is_empty() {
            return;
        }
        warn!(
            "somebody else changed the node's table, which is put right: {}",
            drift.join("; ")
        );
        memory.plan = None;
        self.update(memory).await;
        if memory.plan.is_some() {
            self.metrics.repairs.inc();
        }
    }

    fn tell(&self, snapshot: Option<&Snapshot>) {
        let condition = match snapshot {
            Some(snapshot) => Condition::Enforcing(snapshot.revision()),
            None => Condition::Waiting,
        };
        self.condition.send_if_modified(|last| {
            let differs = *last != condition;
            if differs {
                info!("{condition}");
                *last = condition;
            }
            differs
        });
    }

    fn fail(&self, memory: &mut Memory, error: &KernelError) {
        let pause = memory
            .retry
            .map_or(FIRST_PAUSE, |(_, pause)| (2 * pause).min(LONGEST_PAUSE));
        error!(
            retry_in = ?pause,
            "cannot bring the node's table up to date, what it was stays in force: {error}"
        );
        self.metrics.failures.inc();
        memory.plan = None;
        memory.retry = Some((Instant::now() + pause, pause));
        self.condition
            .send_replace(Condition::Failing(error.to_string()));
    }
}

/// What a look has found. It must be taken away then. Without a look, waits for ever.
async fn end_of(look: &mut Option<Look>) -> Result<Existing, KernelError> {
    match look {
        Some(look) => match look.await {
            Ok(existing) => existing,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
        None => std::future::pending().await,
    }
}

/// Waits for a moment, or for ever.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
