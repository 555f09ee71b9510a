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
//! Somebody else's change is noticed by the number of transactions that the kernel counts: those of the
//! agent are known. Whether one concerned the table is seen by reading it, which takes long if it is
//! large. A change does not wait for that: the look is given up, unless the doubt is too old.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sidewall_policy::model::TcpPath;
use sidewall_policy::snapshot::{Revision, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use super::kernel::{Kernel, KernelError};
use super::metrics::Metrics;
use super::ruleset::{Existing, Plan, Planner, Settings, Tallies, only_adds, replace, transition};

/// The pause after a failure, doubled with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The agent gathers new peers for so long after a change of the table: pods that are replaced come in numbers, and
/// each change of a table costs one transaction and one reading of connections. A peer that comes alone is added at
/// once, and every change that removes a peer goes at once: it may be a policy that denies.
const GATHER: Duration = Duration::from_millis(50);

/// How often is looked whether somebody has changed the kernel's rules.
const GLANCE: Duration = Duration::from_millis(500);

/// Where others change rules all the time, reading the table takes one part in so many of it at most.
const LOOK_SHARE: u32 = 10;

/// For how long looks at the table may be given up.
const DOUBT: Duration = Duration::from_secs(10);

/// How the node is doing; printed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// No snapshot has arrived yet.
    Waiting {
        /// The name of this node.
        node: String,
    },
    /// The table is that of this snapshot.
    Enforcing {
        revision: Revision,
        /// Pods that ask for redirection where no Envoy takes their connections, by namespace and name.
        unredirected: Vec<String>,
    },
    /// The table cannot be brought up to date: what it was stays in force.
    Failing(String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { node } => write!(
                f,
                "not ready: no snapshot has arrived yet; pods are closed, or as an earlier agent left them. The \
                 distributor has a snapshot for each Node: is there one named {node}?"
            ),
            Self::Enforcing {
                revision,
                unredirected,
            } => {
                write!(f, "ready: enforcing {revision}")?;
                if let Some(first) = unredirected.first() {
                    write!(
                        f,
                        "; the kernel decides alone for {} pods that ask for redirection, {first} among them: \
                         this agent has no --proxy-port",
                        unredirected.len()
                    )?;
                }
                Ok(())
            }
            Self::Failing(reason) => write!(f, "not ready: {reason}"),
        }
    }
}

/// The agent.
pub(super) struct Agent<K> {
    pub(super) kernel: K,
    pub(super) settings: Settings,
    /// The name of its node.
    pub(super) node: String,
    pub(super) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) condition: watch::Sender<Condition>,
    /// When the agent changed the table last.
    pub(super) changes: watch::Sender<Option<Instant>>,
    /// The counters of single policies in the table.
    pub(super) tallies: watch::Sender<Tallies>,
    pub(super) metrics: Metrics,
}

/// What the agent has done so far.
struct Memory {
    planner: Planner,
    /// What the kernel holds; `None` when that is not known.
    plan: Option<Plan>,
    /// When to try again after a failure, and how long the pause was.
    retry: Option<(Instant, Duration)>,
    /// The generation of the kernel's rules with which the table was as it should be.
    trusted: Option<u32>,
    /// Since when it may not be.
    doubted: Option<Instant>,
    /// When to see to that next.
    glance: Instant,
    /// A look at the table that is under way.
    look: Option<Look>,
    /// What the table was made of last, but for the peers: a change of this waits for nothing.
    structure: Option<u64>,
    /// When the table was changed last.
    changed: Option<Instant>,
    /// When changes of peers that are gathered go.
    gathered: Option<Instant>,
}

type Look = AbortOnDropHandle<Result<Found, KernelError>>;

/// What a look at the table has found.
struct Found {
    /// Before it.
    generation: Option<u32>,
    existing: Existing,
    took: Duration,
}

impl<K: Kernel> Agent<K> {
    /// Runs until `shutdown` is cancelled. The table stays.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut memory = Memory {
            planner: Planner::default(),
            plan: None,
            retry: None,
            trusted: None,
            doubted: None,
            glance: Instant::now() + GLANCE,
            look: None,
            structure: None,
            changed: None,
            gathered: None,
        };
        self.update(&mut memory).await;
        loop {
            let retry = memory.retry.map(|(at, _)| at);
            let is_free = memory.look.is_none() && memory.retry.is_none();
            let glance = is_free.then_some(memory.glance);
            let is_fresh = |doubted: Instant| doubted.elapsed() < DOUBT;
            let may_change = memory.look.is_none() || memory.doubted.is_none_or(is_fresh);
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.snapshots.changed(), if may_change => match changed {
                    Ok(()) => self.gather(&mut memory).await,
                    // Whoever feeds us has ended: so will this process.
                    Err(_) => shutdown.cancelled().await,
                },
                () = at(glance) => self.glance(&mut memory).await,
                found = end_of(&mut memory.look) => self.examine(&mut memory, found).await,
                () = at(retry) => self.update(&mut memory).await,
                () = at(memory.gathered) => self.update(&mut memory).await,
            }
        }
    }

    /// Lets a change that only adds peers wait for others, if the table was changed a moment ago.
    async fn gather(&mut self, memory: &mut Memory) {
        let next = memory.changed.map(|changed| changed + GATHER);
        match next.filter(|next| *next > Instant::now()) {
            Some(next) if self.only_adds_peers(memory) => memory.gathered = Some(next),
            _ => self.update(memory).await,
        }
    }

    fn only_adds_peers(&mut self, memory: &mut Memory) -> bool {
        let snapshot = self.snapshots.borrow_and_update().clone();
        let structure = snapshot.as_deref().map(Snapshot::structure);
        if structure.is_none() || structure != memory.structure {
            return false;
        }
        let plan = memory.planner.plan(&self.settings, snapshot.as_ref());
        let known = memory.plan.as_ref();
        known.is_some_and(|known| only_adds(known, &plan))
    }

    /// Brings the table up to date with the newest snapshot.
    async fn update(&mut self, memory: &mut Memory) {
        memory.gathered = None;
        // What it would find is not what will be there.
        if memory.look.take().is_some() {
            memory.glance = Instant::now() + GLANCE;
        }
        let snapshot = self.snapshots.borrow_and_update().clone();
        memory.structure = snapshot.as_deref().map(Snapshot::structure);
        let started = Instant::now();
        match self.apply(memory, snapshot.as_ref()).await {
            Ok(0) => {
                memory.retry = None;
                self.tell(snapshot.as_deref());
            }
            Ok(steps) => {
                memory.retry = None;
                memory.changed = Some(Instant::now());
                let took = started.elapsed();
                self.metrics.apply_seconds.observe(took.as_secs_f64());
                self.metrics.generation.inc();
                self.tell(snapshot.as_deref());
                debug!(steps, ?took, "applied");
                self.tallies
                    .send_replace(memory.plan.as_ref().map(Plan::tallies).unwrap_or_default());
                self.changes.send_replace(Some(Instant::now()));
            }
            Err(error) => self.fail(memory, &error),
        }
    }

    /// Changes what differs, and returns in how many steps.
    async fn apply(
        &self,
        memory: &mut Memory,
        snapshot: Option<&Arc<Snapshot>>,
    ) -> Result<usize, KernelError> {
        let plan = memory.planner.plan(&self.settings, snapshot);
        let before = self.generation().await;
        let was_trusted = before == memory.trusted.take();
        let (steps, is_certain) = if let Some(known) = memory.plan.take() {
            (transition(&known, &plan), was_trusted)
        } else {
            let existing = self.kernel.list().await?;
            if snapshot.is_none() && !existing.is_absent() {
                info!("the table of an earlier agent stays in force until a snapshot arrives");
                return Ok(0);
            }
            (replace(&existing, &plan), true)
        };
        let mut own = before.filter(|_| is_certain);
        for step in &steps {
            self.kernel.run(step).await?;
            own = own.map(|own| own.wrapping_add(1));
        }
        memory.plan = Some(plan);
        memory.trusted = self.generation().await.filter(|now| own == Some(*now));
        Ok(steps.len())
    }

    /// The generation of the kernel's rules. Without one the table is looked at, and whatever is wrong
    /// is told then.
    async fn generation(&self) -> Option<u32> {
        self.kernel.generation().await.ok()
    }

    /// Begins to look at the table if somebody may have changed it.
    async fn glance(&self, memory: &mut Memory) {
        memory.glance = Instant::now() + GLANCE;
        let generation = self.generation().await;
        if generation.is_some() && generation == memory.trusted {
            memory.doubted = None;
            return;
        }
        memory.doubted.get_or_insert_with(Instant::now);
        let kernel = self.kernel.clone();
        let look = async move {
            let started = Instant::now();
            let existing = kernel.list().await?;
            Ok(Found {
                generation,
                existing,
                took: started.elapsed(),
            })
        };
        memory.look = Some(AbortOnDropHandle::new(tokio::spawn(look)));
    }

    /// Tells whether the table is what it should be, and mends it.
    async fn examine(&mut self, memory: &mut Memory, found: Result<Found, KernelError>) {
        memory.look = None;
        memory.doubted = None;
        let Found {
            generation,
            existing,
            took,
        } = match found {
            Ok(found) => found,
            Err(error) => return self.fail(memory, &error),
        };
        memory.glance = Instant::now() + GLANCE.max(LOOK_SHARE * took);
        let drift = match &memory.plan {
            Some(plan) => existing.drift(plan),
            // Of a table of an earlier agent only its absence can be told.
            None if existing.is_absent() => vec!["the table is gone".to_owned()],
            None => Vec::new(),
        };
        if drift.is_empty() {
            memory.trusted = generation;
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

    /// The pods that ask for an Envoy that this node does not have. The kernel's verdict is the same.
    fn unredirected(&self, snapshot: &Snapshot) -> Vec<String> {
        if self.settings.proxy_port.is_some() {
            return Vec::new();
        }
        let pods = snapshot.pods();
        pods.filter(|pod| pod.tcp_path == TcpPath::NodeProxy)
            .map(|pod| format!("{}/{}", pod.name.namespace, pod.name.name))
            .collect()
    }

    fn tell(&self, snapshot: Option<&Snapshot>) {
        let unredirected = snapshot.map(|it| self.unredirected(it)).unwrap_or_default();
        let count = i64::try_from(unredirected.len()).unwrap_or(i64::MAX);
        self.metrics.unredirected.set(count);
        let condition = match snapshot {
            Some(snapshot) => Condition::Enforcing {
                revision: snapshot.revision(),
                unredirected,
            },
            None => Condition::Waiting {
                node: self.node.clone(),
            },
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
async fn end_of(look: &mut Option<Look>) -> Result<Found, KernelError> {
    match look {
        Some(look) => match look.await {
            Ok(found) => found,
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
