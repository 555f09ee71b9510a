//! The index against a compilation from scratch, and what each kind of event touches.

mod build;
mod random;
mod services;
mod touches;

use std::collections::BTreeMap;

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::NamespacedName;
use sidewall_policy::snapshot::Snapshot;

use super::{Change, Index};
use crate::cluster::{Event, ObjectRef};

/// An index and what whoever follows it has by now.
struct Followed {
    index: Index,
    snapshots: BTreeMap<NamespacedName, Vec<u8>>,
}

impl Followed {
    fn new(options: Options) -> Self {
        Self {
            index: Index::new(options),
            snapshots: BTreeMap::new(),
        }
    }

    /// Applies events and returns the pods that were compiled, as `namespace/name`.
    fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<String> {
        for event in events {
            self.index.apply(event);
        }
        let mut compiled = Vec::new();
        for (pod, change) in self.index.take_changes() {
            match change {
                Change::Snapshot(bytes) => {
                    compiled.push(pod.to_string());
                    self.snapshots.insert(pod, bytes);
                }
                Change::Gone => {
                    self.snapshots.remove(&pod);
                }
            }
        }
        compiled
    }

    /// What a compilation from scratch gives every pod that it knows an address of.
    fn compiled_from_scratch(&self) -> BTreeMap<NamespacedName, Vec<u8>> {
        let cluster = self.index.cluster();
        let compile = |pod: &NamespacedName| {
            let subject = std::slice::from_ref(pod);
            let bytes = compile_snapshot(&cluster, subject, &self.index.options);
            let snapshot = Snapshot::check(bytes.clone()).expect("compiled bytes are good");
            let known = snapshot.subjects().count() > 0;
            known.then(|| (pod.clone(), bytes))
        };
        cluster.pods.keys().filter_map(compile).collect()
    }
}

fn delete(object: &crate::cluster::Object) -> Event {
    Event::Delete(object.reference())
}

fn delete_ref(reference: ObjectRef) -> Event {
    Event::Delete(reference)
}
