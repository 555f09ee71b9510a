//! One view of the node: the distributor's snapshot with the addresses that the runtime knows already.
//!
//! Everything that enforces or judges reads this view, so the kernel's table, the decision records and the judgement
//! of live connections agree.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidewall_policy::snapshot::{Claim, Snapshot};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::claims::Claims;

type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// Makes the view.
#[derive(Clone, Debug)]
pub(super) struct View {
    snapshots: Snapshots,
    claims: Arc<Mutex<Claims>>,
    bound: watch::Sender<Option<Arc<Snapshot>>>,
}

impl View {
    /// The view without any claim.
    pub fn new(snapshots: Snapshots) -> Self {
        let view = Self {
            snapshots,
            claims: Arc::default(),
            bound: watch::Sender::default(),
        };
        view.refresh(&view.claims());
        view
    }

    /// The view as it changes.
    pub fn subscribe(&self) -> Snapshots {
        self.bound.subscribe()
    }

    /// Follows the distributor until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut snapshots = self.snapshots.clone();
        let follow = async {
            while snapshots.changed().await.is_ok() {
                self.refresh(&self.claims());
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    /// Changes the claims, and returns what `change` returns. What it changed is in the view afterwards.
    pub fn change<T>(&self, change: impl FnOnce(&mut Claims) -> T) -> T {
        let mut claims = self.claims();
        let before = claims.clone();
        let changed = change(&mut claims);
        if *claims != before {
            self.refresh(&claims);
        }
        changed
    }

    /// The view in which every address of a claim stands for its pod; `None` while there is none.
    pub fn holding(&self, claim: &Claim) -> Option<Arc<Snapshot>> {
        let bound = self.bound.borrow().clone()?;
        let owns = |address: &_| {
            bound.owner(*address).is_some_and(|pod| {
                pod.namespace == claim.namespace.as_str() && pod.name == claim.name.as_str()
            })
        };
        let holds = claim.addresses.iter().all(owns);
        holds.then_some(bound)
    }

    /// A panic under the lock leaves complete claims: one call changes them.
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self, claims: &Claims) {
        let snapshot = self.snapshots.borrow().clone();
        let bound = snapshot.map(|snapshot| {
            if !snapshot.has_pending() {
                return snapshot;
            }
            match snapshot.bind(claims.all()) {
                Ok(bound) => Arc::new(bound),
                Err(error) => {
                    error!(
                        "cannot bind addresses of new pods to the node's snapshot; they stay closed until the \
                         distributor knows them: {error}"
                    );
                    snapshot
                }
            }
        });
        self.bound.send_if_modified(|last| {
            let revision = |of: &Option<Arc<Snapshot>>| of.as_ref().map(|it| it.revision());
            let differs = revision(last) != revision(&bound);
            *last = bound;
            differs
        });
    }
}
