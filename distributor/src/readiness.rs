//! The readiness gate [`CONDITION`]: a pod that has it gets no traffic before its Envoy has its policies.
//!
//! ```text
//!  pods whose gate is closed ──Gates──▶ who has acknowledged? ──▶ Marker ──▶ the pod's status
//!                                             ▲
//!                            xds ──Clients────┘
//! ```
//!
//! Only the distributor that holds the pod's stream has seen its acknowledgement, so only that one writes,
//! and it writes `True` and nothing else, ever: a stream that breaks, a distributor that restarts, or a
//! snapshot that comes later closes no gate. What waits is the list of closed gates and no queue: however
//! long the API server is away, there is nothing to be lost and nothing that grows. Streams are never held
//! up; they only ring a bell.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use sidewall_policy::model::NamespacedName;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::metrics::{KubeMetrics, Written};
use crate::snapshots::{Published, Recipient, SnapshotSource};
use crate::xds::{Clients, Stream};

/// The `conditionType` of the gate, and the condition that opens it.
pub const CONDITION: &str = "sidewall.dev/policy-applied";

/// How many pods are written at the same time.
const AT_ONCE: usize = 8;

/// How long acknowledgements are gathered before all closed gates are gone through.
const GATHER: Duration = Duration::from_millis(50);

/// When a gate that was opened, and that the API server still shows closed, is opened again.
const AGAIN: Duration = Duration::from_secs(30);

/// Between two attempts at one pod: from half a second on to 30 seconds, with jitter.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_max_delay(Duration::from_secs(30))
    .without_max_times()
    .with_jitter();

/// A pod whose gate is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Which of all pods that have had this name.
    pub uid: Arc<str>,
    /// When it was created, to the second and by the API server's clock.
    pub created: SystemTime,
    /// Its addresses; none before it is started.
    pub ips: Vec<IpAddr>,
}

/// The closed gates, as the API server shows them. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    closed: Mutex<BTreeMap<NamespacedName, Gate>>,
    changed: Notify,
}

impl Gates {
    /// A pod is there; with a gate if it has one that is closed.
    pub fn set(&self, pod: &NamespacedName, gate: Option<Gate>) {
        match gate {
            Some(gate) => {
                self.closed().insert(pod.clone(), gate);
                self.shared.changed.notify_one();
            }
            None => {
                self.closed().remove(pod);
            }
        }
    }

    /// These are all that are closed.
    pub fn replace(&self, gates: BTreeMap<NamespacedName, Gate>) {
        *self.closed() = gates;
        self.shared.changed.notify_one();
    }

    fn all(&self) -> Vec<(NamespacedName, Gate)> {
        let copied = |(pod, gate): (&NamespacedName, &Gate)| (pod.clone(), gate.clone());
        self.closed().iter().map(copied).collect()
    }

    fn closed(&self) -> MutexGuard<'_, BTreeMap<NamespacedName, Gate>> {
        // No method leaves it half changed.
        let closed = self.shared.closed.lock();
        closed.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a gate was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMarked {
    /// The pod has gone, or another one has its name. The watch will tell of it, too.
    #[error("it has gone: {0}")]
    Gone(String),
    /// The API server did not do it.
    #[error("{0}")]
    Failed(String),
}

/// Who can open a gate: the API server.
pub trait Marker: Send + Sync + 'static {
    /// Sets the condition of the pod that has this uid, and of no other.
    fn mark<'a>(
        &'a self,
        pod: &'a NamespacedName,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<(), NotMarked>>;
}

/// Opens gates.
pub struct Readiness {
    /// Those that are closed.
    pub gates: Gates,
    /// Who opens them.
    pub marker: Arc<dyn Marker>,
    /// Where that is counted.
    pub metrics: KubeMetrics,
}

/// What has been tried for one closed gate.
struct Attempt {
    next: Instant,
    pauses: ExponentialBackoff,
}

/// What has been tried so far.
#[derive(Default)]
struct Progress {
    /// By pod and uid; only of gates that are closed.
    attempts: HashMap<(NamespacedName, Arc<str>), Attempt>,
    /// Whether people know that the API server refuses.
    complained: bool,
}

impl Readiness {
    /// Opens the gates of pods whose snapshot from `source` is acknowledged by one of `clients`. Never ends.
    pub async fn run(self, source: &dyn SnapshotSource, clients: &Clients) {
        let mut progress = Progress::default();
        loop {
            self.round(source, clients, &mut progress).await;
            let again = progress.attempts.values().map(|attempt| attempt.next).min();
            tokio::select! {
                () = clients.acknowledged() => {}
                () = self.gates.shared.changed.notified() => {}
                () = until(again) => {}
            }
            sleep(GATHER).await;
        }
    }

    /// Goes through all closed gates once.
    async fn round(&self, source: &dyn SnapshotSource, clients: &Clients, progress: &mut Progress) {
        let Progress { attempts, .. } = progress;
        let closed: HashMap<_, _> = self
            .gates
            .all()
            .into_iter()
            .map(|(pod, gate)| ((pod, Arc::clone(&gate.uid)), gate))
            .collect();
        attempts.retain(|key, _| closed.contains_key(key));
        let now = Instant::now();
        let is_due = |key| attempts.get(key).is_none_or(|attempt| attempt.next <= now);
        let due: Vec<_> = closed
            .iter()
            .filter(|(key, gate)| is_due(*key) && has_applied(&key.0, gate, source, clients))
            .map(|(key, _)| key.clone())
            .collect();
        let mut outcomes = futures::stream::iter(due)
            .map(|key| async { (self.marker.mark(&key.0, &key.1).await, key) })
            .buffer_unordered(AT_ONCE);
        while let Some((outcome, key)) = outcomes.next().await {
            self.note(outcome, key, progress);
        }
    }

    fn note(
        &self,
        outcome: Result<(), NotMarked>,
        key: (NamespacedName, Arc<str>),
        progress: &mut Progress,
    ) {
        let Progress {
            attempts,
            complained,
        } = progress;
        let pod = key.0.clone();
        let attempt = attempts.entry(key).or_insert_with(|| Attempt {
            next: Instant::now(),
            pauses: PAUSES.build(),
        });
        let pause = match outcome {
            Ok(()) => {
                info!(%pod, condition = CONDITION, "its first snapshot is acknowledged: the pod may become ready");
                self.metrics.count(Written::ReadinessGate, true);
                *complained = false;
                AGAIN
            }
            Err(NotMarked::Gone(reason)) => {
                debug!(%pod, reason, "the pod of this gate has gone");
                AGAIN
            }
            Err(NotMarked::Failed(reason)) => {
                self.metrics.count(Written::ReadinessGate, false);
                let pause = attempt.pauses.next().unwrap_or(AGAIN);
                if std::mem::replace(complained, true) {
                    debug!(%pod, reason, ?pause, "its readiness gate is still closed");
                } else {
                    warn!(%pod, condition = CONDITION, "the readiness gate cannot be opened, and pods that have it \
                        do not become ready: {reason}; it is tried again and again");
                }
                pause
            }
        };
        attempt.next = Instant::now() + pause;
    }
}

/// Whether the Envoy of this very pod has acknowledged what the pod should run now.
fn has_applied(
    pod: &NamespacedName,
    gate: &Gate,
    source: &dyn SnapshotSource,
    clients: &Clients,
) -> bool {
    let recipient = Recipient::Pod(pod.clone());
    let streams = clients.streams(&recipient);
    let mut acked = streams
        .iter()
        .filter(|stream| is_of(stream, gate))
        .filter_map(|stream| Some(stream.acked?.revision))
        .peekable();
    if acked.peek().is_none() {
        return false;
    }
    let published = source.subscribe(&recipient).borrow().clone();
    published.is_some_and(|wanted| {
        acked.any(|revision| revision == wanted.revision) && tells_of(&wanted, gate)
    })
}

/// A stream of an earlier pod of the same name may outlive that pod. Where no token says which one it is, a
/// stream that is older than the pod is none of its.
fn is_of(stream: &Stream, gate: &Gate) -> bool {
    match &stream.pod_uid {
        Some(uid) => *uid == gate.uid,
        None => stream.connected_at >= gate.created,
    }
}

/// Whether a snapshot is for a pod with these addresses. What is published under a name can be an
/// earlier pod's for a moment.
fn tells_of(published: &Published, gate: &Gate) -> bool {
    let Ok(snapshot) = Snapshot::check(published.bytes.to_vec()) else {
        return false;
    };
    let known: Vec<IpAddr> = snapshot.pods().flat_map(|pod| pod.addresses).collect();
    !gate.ips.is_empty() && gate.ips.iter().all(|ip| known.contains(ip))
}

/// Waits until then; for ever if there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
