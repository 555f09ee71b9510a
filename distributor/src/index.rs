//! Folds events into the state of the cluster and compiles what they change.
//!
//! Pure: no clock, no I/O, no tokio. The same objects give the same bytes, in whatever order they
//! came.

mod services;

use std::collections::{BTreeMap, BTreeSet};

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{Cluster, NamespacedName};

use crate::cluster::{Event, Kind, Object, ObjectRef, Pod};
use services::Services;

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its snapshot, compiled anew.
    Snapshot(Vec<u8>),
    /// It is gone, or has no address any more.
    Gone,
}

/// The state of the cluster and what it compiles to.
#[derive(Debug)]
pub struct Index {
    options: Options,
    cluster: Cluster,
    pods: BTreeMap<NamespacedName, Pod>,
    services: Services,
    published: BTreeSet<NamespacedName>,
    synced: BTreeSet<Kind>,
}

impl Index {
    /// An empty index.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            cluster: Cluster::default(),
            pods: BTreeMap::new(),
            services: Services::default(),
            published: BTreeSet::new(),
            synced: BTreeSet::new(),
        }
    }

    /// Whether every kind of object has been read in full.
    pub fn is_synced(&self) -> bool {
        self.synced.len() == Kind::ALL.len()
    }

    /// Folds one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Apply(object) => {
                let reference = object.reference();
                self.set(reference, Some(object));
            }
            Event::Delete(reference) => self.set(reference, None),
            Event::Synced(kind) => {
                self.synced.insert(kind);
            }
            Event::Report(..) => {}
        }
    }

    fn set(&mut self, reference: ObjectRef, object: Option<Object>) {
        let ObjectRef { kind, id } = reference;
        macro_rules! put {
            ($map:expr, $key:expr, $variant:ident) => {
                match object {
                    Some(Object::$variant(it)) => drop($map.insert($key, it)),
                    _ => drop($map.remove(&$key)),
                }
            };
        }
        match kind {
            Kind::Namespace => put!(self.cluster.namespaces, id.name, Namespace),
            Kind::Node => put!(self.cluster.nodes, id.name, Node),
            Kind::NetworkPolicy => put!(self.cluster.policies, id, NetworkPolicy),
            Kind::Pod => put!(self.pods, id, Pod),
            Kind::Service => match object {
                Some(Object::Service(service)) => self.services.set(&id, Some(service)),
                _ => self.services.set(&id, None),
            },
            Kind::EndpointSlice => match object {
                Some(Object::EndpointSlice(slice)) => {
                    self.services.set_slice(&id, Some(slice));
                }
                _ => {
                    self.services.set_slice(&id, None);
                }
            },
        }
    }

    /// What is different since the last call.
    pub fn take_changes(&mut self) -> Vec<(NamespacedName, Change)> {
        self.cluster.pods = self
            .pods
            .iter()
            .map(|(id, pod)| (id.clone(), pod.pod.clone()))
            .collect();
        self.cluster.services = self
            .services
            .ids()
            .filter_map(|id| {
                let pods = self
                    .pods
                    .values()
                    .filter(|pod| pod.pod.id.namespace == id.namespace);
                Some((id.clone(), self.services.resolve(id, pods)?))
            })
            .collect();
        let mut changes = Vec::new();
        let ready: BTreeSet<NamespacedName> = self
            .cluster
            .pods
            .values()
            .filter(|pod| pod.is_selectable() && !pod.ips.is_empty())
            .map(|pod| pod.id.clone())
            .collect();
        for gone in self.published.difference(&ready) {
            changes.push((gone.clone(), Change::Gone));
        }
        for pod in &ready {
            let bytes = compile_snapshot(&self.cluster, std::slice::from_ref(pod), &self.options);
            changes.push((pod.clone(), Change::Snapshot(bytes)));
        }
        self.published = ready;
        changes
    }
}
