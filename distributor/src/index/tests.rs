//! The index against a compilation from scratch, and what each kind of event touches.

mod build;
mod nodes;
mod random;
mod services;
mod touches;

use std::collections::{BTreeMap, BTreeSet};

use sidewall_policy::compile::{Options, compile_node_snapshot, compile_snapshot};
use sidewall_policy::model::{Cluster, NamespacedName};
use sidewall_policy::snapshot::Snapshot;

use super::{Change, Index};
use crate::cluster::{Event, ObjectRef};
use crate::snapshots::Recipient;

/// An index and what whoever follows it has by now.
struct Followed {
    index: Index,
    snapshots: BTreeMap<Recipient, Vec<u8>>,
}

impl Followed {
    fn new(options: Options) -> Self {
        Self {
            index: Index::new(options),
            snapshots: BTreeMap::new(),
        }
    }

    /// Applies events and returns who was compiled for: `namespace/name` or `node name`.
    fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<String> {
        for event in events {
            self.index.apply(event);
        }
        let mut compiled = Vec::new();
        for (recipient, change) in self.index.take_changes() {
            match change {
                Change::Snapshot(bytes) => {
                    compiled.push(recipient.to_string());
                    self.snapshots.insert(recipient, bytes);
                }
                Change::Gone => {
                    self.snapshots.remove(&recipient);
                }
            }
        }
        compiled
    }

    /// What a compilation from scratch gives every pod that it knows an address of, and with the
    /// node plane every node.
    fn compiled_from_scratch(&self) -> BTreeMap<Recipient, Vec<u8>> {
        let cluster = self.index.cluster();
        type Compile = fn(&Cluster, &[NamespacedName], &Options) -> Vec<u8>;
        let compile = |how: Compile, cluster: &Cluster, pods: &[NamespacedName]| {
            let bytes = how(cluster, pods, &self.index.options);
            let snapshot = Snapshot::check(bytes.clone()).expect("compiled bytes are good");
            (snapshot.subjects().count() > 0, bytes)
        };
        let sidecar = |pod: &NamespacedName| {
            let (known, bytes) = compile(compile_snapshot, &cluster, std::slice::from_ref(pod));
            known.then(|| (Recipient::Pod(pod.clone()), bytes))
        };
        let mut all: BTreeMap<_, _> = cluster.pods.keys().filter_map(sidecar).collect();
        if self.index.options.node_plane {
            let backends_only = Cluster {
                services: BTreeMap::new(),
                ..cluster.clone()
            };
            let of_pods = cluster.pods.values().filter_map(|pod| pod.node.clone());
            let nodes: BTreeSet<_> = of_pods.chain(cluster.nodes.keys().cloned()).collect();
            for node in nodes {
                let local = cluster.pods.values();
                let local = local.filter(|pod| pod.node.as_ref() == Some(&node));
                let local: Vec<_> = local.map(|pod| pod.id.clone()).collect();
                let (has_pods, bytes) = compile(compile_node_snapshot, &backends_only, &local);
                if has_pods || cluster.nodes.contains_key(&node) {
                    all.insert(Recipient::Node(node), bytes);
                }
            }
        }
        all
    }
}

fn delete(object: &crate::cluster::Object) -> Event {
    Event::Delete(object.reference())
}

fn delete_ref(reference: ObjectRef) -> Event {
    Event::Delete(reference)
}
