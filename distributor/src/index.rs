//! Folds events into the state of the cluster and compiles what they change.
//!
//! ```text
//!  Pod ────────▶ pods ──┐  who has which labels, who owns which address
//!  Namespace ──▶ namespaces ─┴▶ selectors   which pods a peer matches, kept up to date
//!  NetworkPolicy ▶ policies ────────┘ │ whose matches changed
//!                      └──▶ groups ◀──┘ pods with the same policies: one compiled body
//!  Service, EndpointSlice ▶ services      and the backends behind them
//!  Node ───────▶ nodes ──▶ snapshots      body + addresses + own node = bytes of a pod
//! ```
//!
//! An event touches only what depends on it: a pod's selectors, those selectors' policies, those
//! policies' groups; and a group whose body comes out as it was is left alone. Folding is eager and
//! cheap, compiling waits for [`Index::take_changes`].
//!
//! Pure: no clock, no I/O, no tokio, and the same objects give the same bytes, in whatever order
//! they came. Property tests hold it to `compile_snapshot` of the final state.

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

use sidewall_policy::compile::{Options, PodSource, ServiceTable};
use sidewall_policy::model::{
    self, Cluster, Namespace, NamespacedName, NetworkPolicy, Node, Pod, PodPeer, TcpPath,
};
use sidewall_policy::snapshot::{Bundle, SubjectEntry};

use crate::cluster::{EndpointSlice, Event, Kind, Object, ObjectRef, Service};
use groups::Groups;
use namespaces::Namespaces;
use nodes::Nodes;
use pods::Pods;
use policies::Policies;
use selectors::Selectors;
use services::Services;

/// What became of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its snapshot, compiled anew. The bytes may be those it had.
    Snapshot(Vec<u8>),
    /// It is gone, or has no address of its own any more.
    Gone,
}

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
    /// Pods that have been given a snapshot.
    subjects: BTreeSet<NamespacedName>,
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
            subjects: BTreeSet::new(),
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

        if differs(|pod| Part::Node(pod.node.as_deref())) {
            self.nodes.move_pod(id, old, new);
            self.dirty.subjects.insert(id.clone());
        }
        if differs(|pod| Part::TcpPath(pod.tcp_path)) {
            self.dirty.subjects.insert(id.clone());
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

    /// Compiles what events have changed since the last call: every pod whose snapshot may be
    /// another one now, sorted by name.
    pub fn take_changes(&mut self) -> Vec<(NamespacedName, Change)> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in &dirty.groups_of {
            let pod = self.pods.get(id);
            let pod = pod.filter(|pod| pod.is_selectable());
            let key = pod.map(|pod| {
                let namespace = self.namespaces.get(&id.namespace);
                self.policies.group_key(pod, namespace)
            });
            if self.groups.assign(id, key) {
                dirty.subjects.insert(id.clone());
            }
        }
        let services: Vec<_> = dirty
            .services
            .iter()
            .map(|id| (id.clone(), self.resolve_service(id)))
            .collect();
        let services_changed = self.services.update(services);
        for policy in &dirty.policies {
            self.groups.outdate(policy);
        }
        let view = View {
            pods: &self.pods,
            selectors: &self.selectors,
        };
        let table = self.services.table();
        let recompiled = self
            .groups
            .compile(self.policies.all(), &view, &table, services_changed);
        dirty.subjects.extend(recompiled);

        let mut changes = Vec::new();
        for id in dirty.subjects {
            if let Some(bytes) = self.encode(&id, &table) {
                self.subjects.insert(id.clone());
                changes.push((id, Change::Snapshot(bytes)));
            } else if self.subjects.remove(&id) {
                changes.push((id, Change::Gone));
            }
        }
        changes
    }

    /// A pod's snapshot; `None` for one that policies do not select, or without an address.
    fn encode(&self, id: &NamespacedName, services: &Arc<ServiceTable>) -> Option<Vec<u8>> {
        let pod = self.pods.get(id)?;
        let group = self.groups.of(id)?;
        let ips: Vec<IpAddr> = pod
            .ips
            .iter()
            .copied()
            .filter(|ip| self.pods.owner(*ip) == Some(id))
            .collect();
        if ips.is_empty() {
            return None;
        }
        let mut bundle = Bundle::new(self.options, Arc::clone(services));
        bundle.add(SubjectEntry {
            id: id.clone(),
            ips,
            node_addresses: self.nodes.addresses(pod.node.as_ref()),
            tcp_path: TcpPath::of(pod, self.namespaces.get(&id.namespace)),
            group: Arc::clone(group),
        });
        Some(bundle.encode())
    }
}

/// A part of a pod that something depends on.
#[derive(PartialEq)]
enum Part<'a> {
    Node(Option<&'a str>),
    TcpPath(Option<TcpPath>),
    Addresses(bool, &'a [IpAddr]),
    Ports(&'a [model::PodPort]),
    Labels(bool, &'a model::Labels),
}

/// Answers the compiler from the caches.
struct View<'a> {
    pods: &'a Pods,
    selectors: &'a Selectors,
}

impl PodSource for View<'_> {
    fn visit_matching(&self, namespace: &str, peer: &PodPeer, visit: &mut dyn FnMut(&Pod)) {
        self.selectors
            .members(namespace, peer)
            .filter_map(|id| self.pods.get(id))
            .for_each(visit);
    }

    fn visit_all(&self, visit: &mut dyn FnMut(&Pod)) {
        self.pods
            .iter()
            .filter(|pod| pod.is_selectable())
            .for_each(visit);
    }

    fn owns(&self, pod: &Pod, ip: IpAddr) -> bool {
        self.pods.owner(ip) == Some(&pod.id)
    }
}

/// The entries of one namespace in a map of namespaced objects.
fn in_namespace<'a, T>(
    map: &'a BTreeMap<NamespacedName, T>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a NamespacedName, &'a T)> + Clone + use<'a, T> {
    map.range(NamespacedName::new(namespace, "")..)
        .take_while(move |(id, _)| id.namespace.as_ref() == namespace)
}
