//! The seam between those who compile snapshots and those who serve them.
//!
//! [`crate::xds`] and [`crate::admin`] see compiled policy through this trait alone, so that a
//! server can be tested without an index and an index without a server.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use sidewall_policy::model::NamespacedName;
use sidewall_policy::snapshot::Revision;
use tokio::sync::watch;

/// Whom a snapshot is for; printed as `namespace/name` or `node name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Recipient {
    /// The sidecar of a pod: it gets that pod's rules.
    Pod(NamespacedName),
    /// The agent and the Envoy of a node: they get the rules of all its pods.
    Node(Arc<str>),
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => pod.fmt(f),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// A snapshot, ready to be sent.
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
    /// Follows one recipient's snapshot. `None` until every store has synced and the pod is known
    /// with an address, or the node is known; who goes away keeps its last value, for taking a
    /// snapshot back would not close a sidecar but break it.
    fn subscribe(&self, recipient: &Recipient) -> watch::Receiver<Option<Published>>;

    /// Everybody who has a snapshot: pods and then nodes, sorted by name.
    fn published(&self) -> Vec<(Recipient, Published)>;

    /// Whether every store has synced.
    fn is_synced(&self) -> bool;
}
