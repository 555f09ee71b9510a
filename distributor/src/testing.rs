//! A snapshot source for tests, filled by hand with real snapshots, and how hard random tests look.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{Cluster, Labels, Mode, Namespace, NamespacedName, Phase, Pod};
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;

use crate::snapshots::{Published, Recipient, SnapshotSource};

#[path = "../../policy/tests/support/config.rs"]
pub(crate) mod config;
#[path = "../tests/support/pki.rs"]
pub(crate) mod pki;

/// A pod of the namespace `default`.
pub(crate) fn pod(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// Its sidecar.
pub(crate) fn recipient(name: &str) -> Recipient {
    Recipient::Pod(pod(name))
}

/// A real snapshot for a pod without policies. Another address makes another revision.
pub(crate) fn snapshot(pod: &NamespacedName, ip: &str) -> Published {
    let pods = std::slice::from_ref(pod);
    let bytes = compile_snapshot(&cluster(pod, ip), pods, &Options::default());
    let revision = Snapshot::check(bytes.clone()).unwrap().revision();
    Published {
        revision,
        bytes: Bytes::from(bytes),
        published_at: SystemTime::now(),
    }
}

/// A cluster of this pod alone.
pub(crate) fn cluster(pod: &NamespacedName, ip: &str) -> Cluster {
    let mut cluster = Cluster::default();
    let namespace = Namespace {
        tcp_path: None,
        name: pod.namespace.clone(),
        labels: Labels::default(),
        mode: Mode::Enforce,
    };
    cluster.namespaces.insert(pod.namespace.clone(), namespace);
    let object = Pod {
        id: pod.clone(),
        labels: Labels::default(),
        node: None,
        ips: vec![ip.parse().unwrap()],
        host_network: false,
        uid: None,
        phase: Phase::Running,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    };
    cluster.pods.insert(pod.clone(), object);
    cluster
}

/// The source: what is put on it is published.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pods: Mutex<BTreeMap<Recipient, watch::Sender<Option<Published>>>>,
    synced: AtomicBool,
}

impl Shelf {
    /// Publishes a pod's snapshot as it follows from its address.
    pub(crate) fn put(&self, pod: &NamespacedName, ip: &str) -> Published {
        let published = snapshot(pod, ip);
        self.put_raw(&Recipient::Pod(pod.clone()), published.clone());
        published
    }

    /// Publishes anything, also what no publisher should.
    pub(crate) fn put_raw(&self, recipient: &Recipient, published: Published) {
        self.with(recipient, |sender| sender.send_replace(Some(published)));
    }

    pub(crate) fn set_synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    fn with<T>(
        &self,
        recipient: &Recipient,
        use_it: impl FnOnce(&watch::Sender<Option<Published>>) -> T,
    ) -> T {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(
            pods.entry(recipient.clone())
                .or_insert_with(|| watch::Sender::new(None)),
        )
    }
}

impl SnapshotSource for Shelf {
    fn subscribe(&self, recipient: &Recipient) -> watch::Receiver<Option<Published>> {
        self.with(recipient, watch::Sender::subscribe)
    }

    fn published(&self) -> Vec<(Recipient, Published)> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.iter()
            .filter_map(|(name, sender)| Some((name.clone(), sender.borrow().clone()?)))
            .collect()
    }

    fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }
}
