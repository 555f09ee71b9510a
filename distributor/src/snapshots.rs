//! The seam between those who compile snapshots and those who serve them.
//!
//! [`crate::xds`] and [`crate::admin`] see compiled policy through this trait alone, so that a
//! server can be tested without an index and an index without a server.

use std::time::SystemTime;

use bytes::Bytes;
use sidewall_policy::model::NamespacedName;
use sidewall_policy::snapshot::Revision;
use tokio::sync::watch;

/// One pod's snapshot, ready to be sent.
#[derive(Clone, Debug)]
pub struct Published {
    /// What the bytes say, as a hash: equal state gives equal revisions on every replica.
    pub revision: Revision,
    /// The snapshot; it has passed `Snapshot::check`.
    pub bytes: Bytes,
    /// When this revision was compiled.
    pub published_at: SystemTime,
}

/// Where the snapshots come from.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Follows one pod's snapshot. `None` until every store has synced and the pod is known with
    /// an address; a pod that goes away keeps its last value, for taking a snapshot back would
    /// not close its sidecar but break it.
    fn subscribe(&self, pod: &NamespacedName) -> watch::Receiver<Option<Published>>;

    /// Every pod that has a snapshot, sorted by name.
    fn published(&self) -> Vec<(NamespacedName, Published)>;

    /// Whether every store has synced.
    fn is_synced(&self) -> bool;
}
