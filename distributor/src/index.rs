//! Folds events into the state of the cluster and compiles what they change.
//!
//! ```text
//!  Pod ────────▶ pods ──┐  who has which labels, who owns which address
//!  Namespace ──▶ namespaces ─┴▶ selectors   which pods a peer matches, kept up to date
//!  NetworkPolicy ▶ policies ────────┘ │ whose matches changed
//!                      └──▶ groups ◀──┘ pods with the same policies: one compiled body
//!  Service, EndpointSlice ▶ services      and the backends behind them
//!  Node ───────▶ nodes ──▶ snapshots      body + addresses + own node = bytes of a pod;
//!                                         with the node plane also all pods of a node together
//! ```
//!
//! An event touches only what depends on it: a pod's selectors, those selectors' policies, those
//! policies' groups; and a group whose body comes out as it was is left alone. Folding is eager and
//! cheap, compiling waits for [`Index::take_changes`].
//!
//! Pure: no clock, no I/O, no tokio, and the same objects give the same bytes, in whatever order
//! they came. Property tests hold it to `compile_snapshot` of the final state.

mod changes;
mod groups;
mod namespaces;
mod nodes;
mod pods;
mod policies;
mod selectors;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sidewall_policy::compile::Options;
use sidewall_policy::model::{
    self, Cluster, Namespace, NamespacedName, NetworkPolicy, Node, Pod, TcpPath,
};

use crate::cluster::{EndpointSlice, Event, Kind, Object, ObjectRef, Service};
pub use changes::Change;
use groups::Groups;
use namespaces::Namespaces;
use nodes::Nodes;
use pods::Pods;
use policies::Policies;
use selectors::Selectors;
use services::Services;

/// The state of the cluster and what it compiles to.
#[derive(Debug)]
pub struct Index {
    options: Options,
    namespaces: Namespaces,
    nodes: Nodes,
    pods: Pods,
    policies: Policies,
    selectors: Selectors,
    services: Services,
    groups: Groups,
    /// Pods that have been given a snapshot, and the node whose bundle they are in.
    subjects: BTreeMap<NamespacedName, Option<Arc<str>>>,
    /// Nodes that have been given a bundle.
    bundled: BTreeSet<Arc<str>>,
    /// Those of them with a redirected pod: their bundles name the addresses of all Services.
    redirecting: BTreeSet<Arc<str>>,
    dirty: Dirty,
    synced: BTreeSet<Kind>,
}

/// What has to be looked at again.
#[derive(Debug, Default)]
struct Dirty {
    /// Pods that other policies may select now, or whose named ports changed.
    groups_of: BTreeSet<NamespacedName>,
    /// Policies whose rules, or whose peers, changed.
    policies: BTreeSet<NamespacedName>,
    /// Services whose backends, addresses or ports may have changed.
    services: BTreeSet<NamespacedName>,
    /// Pods whose own addresses, node or body changed.
    subjects: BTreeSet<NamespacedName>,
    /// Nodes that are new or gone, or that a pod without an address has left.
    nodes: BTreeSet<Arc<str>>,
}

impl Index {
    /// An empty index.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            namespaces: Namespaces::default(),
            nodes: Nodes::default(),
            pods: Pods::default(),
            policies: Policies::default(),
            selectors: Selectors::default(),
            services: Services::default(),
            groups: Groups::default(),
            subjects: BTreeMap::new(),
            bundled: BTreeSet::new(),
            redirecting: BTreeSet::new(),
            dirty: Dirty::default(),
            synced: BTreeSet::new(),
        }
    }

    /// Whether every kind of object has been read in full.
    pub fn is_synced(&self) -> bool {
        self.synced.len() == Kind::ALL.len()
    }

    /// The state as plain data.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            namespaces: self.namespaces.all().clone(),
            nodes: self.nodes.all().clone(),
            pods: self
                .pods
                .iter()
                .map(|pod| (pod.id.clone(), pod.clone()))
                .collect(),
            policies: self.policies.all().clone(),
            services: self
                .services
                .ids()
                .filter_map(|id| Some((id.clone(), self.resolve_service(id)?)))
                .collect(),
        }
    }

    /// Folds one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Apply(Object::Namespace(namespace)) => {
                let name = Arc::clone(&namespace.name);
                self.set_namespace(&name, Some(namespace));
            }
            Event::Apply(Object::Node(node)) => {
                let name = Arc::clone(&node.name);
                self.set_node(&name, Some(node));
            }
            Event::Apply(Object::Pod(pod)) => self.set_pod(&pod.id.clone(), Some(pod)),
            Event::Apply(Object::Service(service)) => {
                self.set_service(&service.id.clone(), Some(service));
            }
            Event::Apply(Object::EndpointSlice(slice)) => {
                self.set_endpoint_slice(&slice.id.clone(), Some(slice));
            }
            Event::Apply(Object::NetworkPolicy(policy)) => {
                self.set_policy(&policy.id.clone(), Some(policy));
            }
            Event::Delete(ObjectRef { kind, id }) => match kind {
                Kind::Namespace => self.set_namespace(&id.name, None),
                Kind::Node => self.set_node(&id.name, None),
                Kind::Pod => self.set_pod(&id, None),
                Kind::Service => self.set_service(&id, None),
                Kind::EndpointSlice => self.set_endpoint_slice(&id, None),
                Kind::NetworkPolicy => self.set_policy(&id, None),
            },
            Event::Synced(kind) => {
                self.synced.insert(kind);
            }
            // Problems are for people; nothing is compiled from them.
            Event::Report(..) => {}
        }
    }

    fn set_namespace(&mut self, name: &Arc<str>, namespace: Option<Namespace>) {
        let changed = self.namespaces.set(name, namespace);
        if changed.labels {
            let labels = self.namespaces.labels(name);
            let dirty = &mut self.dirty.policies;
            self.selectors
                .set_namespace(name, labels, &self.pods, dirty);
        }
        if changed.mode {
            let pods = self.pods.in_namespace(name);
            let pods = pods.map(|pod| pod.id.clone());
            self.dirty.groups_of.extend(pods);
        }
        if changed.tcp_path {
            let pods = self.pods.in_namespace(name);
            let pods = pods.map(|pod| pod.id.clone());
            self.dirty.subjects.extend(pods);
        }
    }

    fn set_node(&mut self, name: &Arc<str>, node: Option<Node>) {
        self.dirty.nodes.insert(Arc::clone(name));
        if self.nodes.set(name, node) {
            self.dirty.subjects.extend(self.nodes.pods(name).cloned());
        }
    }

    fn set_pod(&mut self, id: &NamespacedName, pod: Option<Pod>) {
        let namespace = &id.namespace;
        let replaced = self.pods.set(id, pod);
        let (old, new) = (replaced.old.as_ref(), self.pods.get(id));
        if old == new {
            return;
        }
        let differs = |part: fn(&Pod) -> Part<'_>| old.map(part) != new.map(part);

        let rescheduled = differs(|pod| Part::Node(pod.node.as_deref()));
        if rescheduled {
            self.nodes.move_pod(id, old, new);
        }
        if differs(|pod| Part::TcpPath(pod.tcp_path)) {
            self.dirty.subjects.insert(id.clone());
        }
        if rescheduled || differs(|pod| Part::Pending(pod.pending())) {
            self.dirty.subjects.insert(id.clone());
            let old = old.filter(|pod| pod.pending().is_some());
            self.dirty
                .nodes
                .extend(old.and_then(|pod| pod.node.clone()));
        }
        let moved = differs(|pod| Part::Addresses(pod.is_selectable(), &pod.ips));
        let renamed = differs(|pod| Part::Ports(&pod.ports));
        let relabelled = differs(|pod| Part::Labels(pod.is_selectable(), &pod.labels));
        if moved {
            self.dirty.subjects.insert(id.clone());
        }
        if relabelled || renamed {
            self.dirty.groups_of.insert(id.clone());
        }
        if relabelled || moved || renamed {
            let dirty = &mut self.dirty.policies;
            self.selectors.set_pod(id, new, moved || renamed, dirty);
            let named = |pod: Option<&Pod>| pod.is_some_and(|pod| !pod.ports.is_empty());
            if named(old) || named(new) {
                self.dirty
                    .policies
                    .extend(self.policies.naming_ports().cloned());
            }
        }
        // Whoever gained or lost an address to another pod means something else to peers now.
        for other in replaced.owners {
            self.selectors.users_of(&other, &mut self.dirty.policies);
            self.dirty
                .policies
                .extend(self.policies.naming_ports().cloned());
            self.dirty.subjects.insert(other);
        }
        self.dirty
            .services
            .extend(self.services.selecting(namespace, [old, new]));
    }

    fn set_policy(&mut self, id: &NamespacedName, policy: Option<NetworkPolicy>) {
        let old = self.policies.set(id, policy);
        let new = self.policies.get(id);
        if old.as_ref() == new {
            return;
        }
        if let Some(new) = new {
            self.selectors.add(new, &self.pods, &self.namespaces);
        }
        if let Some(old) = &old {
            self.selectors.remove(old, new);
        }
        for policy in [old.as_ref(), new].into_iter().flatten() {
            let selected = self.pods.matching(&id.namespace, &policy.pod_selector);
            let selected = selected.map(|pod| pod.id.clone());
            self.dirty.groups_of.extend(selected);
        }
        self.dirty.policies.insert(id.clone());
    }

    fn set_service(&mut self, id: &NamespacedName, service: Option<Service>) {
        self.services.set(id, service);
        self.dirty.services.insert(id.clone());
    }

    fn set_endpoint_slice(&mut self, id: &NamespacedName, slice: Option<EndpointSlice>) {
        self.dirty
            .services
            .extend(self.services.set_slice(id, slice));
    }

    fn resolve_service(&self, id: &NamespacedName) -> Option<model::Service> {
        self.services.resolve(id, &self.pods)
    }
}

/// A part of a pod that something depends on.
#[derive(PartialEq)]
enum Part<'a> {
    Node(Option<&'a str>),
    TcpPath(Option<TcpPath>),
    Addresses(bool, &'a [IpAddr]),
    Ports(&'a [model::PodPort]),
    Pending(Option<&'a Arc<str>>),
    Labels(bool, &'a model::Labels),
}

/// The entries of one namespace in a map of namespaced objects.
fn in_namespace<'a, T>(
    map: &'a BTreeMap<NamespacedName, T>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a NamespacedName, &'a T)> + Clone + use<'a, T> {
    map.range(NamespacedName::new(namespace, "")..)
        .take_while(move |(id, _)| id.namespace.as_ref() == namespace)
}
