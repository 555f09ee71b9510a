//! Compiles what events have changed: bodies, then the snapshots that are made of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use sidewall_policy::compile::{Group, PodSource};
use sidewall_policy::model::{NamespacedName, Pod, PodPeer, TcpPath};
use sidewall_policy::snapshot::{Bundle, SubjectEntry, pending_address};

use super::Index;
use super::pods::Pods;
use super::selectors::Selectors;
use super::services::TableChange;
use crate::snapshots::Recipient;

/// What became of a pod or a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its snapshot, compiled anew. The bytes may be those it had.
    Snapshot(Vec<u8>),
    /// It is gone; or, of a pod, has no address of its own any more.
    Gone,
}

impl Index {
    /// Compiles what events have changed since the last call: every pod, and with the node plane
    /// every node, whose snapshot may be another one now; sorted by name, pods first.
    pub fn take_changes(&mut self) -> Vec<(Recipient, Change)> {
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
        let services = self.services.update(services);
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
            .compile(self.policies.all(), &view, &table, &services);
        dirty.subjects.extend(recompiled);
        dirty.subjects.extend(self.behind(&services));

        let mut changes = Vec::new();
        let mut nodes = dirty.nodes;
        if services.is_laid_out_anew {
            nodes.extend(self.redirecting.iter().cloned());
        }
        for id in dirty.subjects {
            let node = self.pods.get(&id).and_then(|pod| pod.node.clone());
            nodes.extend(node.clone());
            let was = if let Some(subject) = self.subject(&id) {
                let mut bundle = Bundle::new(self.options, Arc::clone(&table));
                bundle.add(subject);
                let snapshot = Change::Snapshot(bundle.encode());
                changes.push((Recipient::Pod(id.clone()), snapshot));
                self.subjects.insert(id, node)
            } else {
                let was = self.subjects.remove(&id);
                if was.is_some() {
                    changes.push((Recipient::Pod(id), Change::Gone));
                }
                was
            };
            nodes.extend(was.flatten());
        }
        if self.options.node_plane {
            changes.extend(nodes.into_iter().filter_map(|node| self.bundle(node)));
        }
        changes
    }

    /// The pods that know a service of which backends changed because of who they are.
    fn behind(&self, services: &TableChange) -> BTreeSet<NamespacedName> {
        let addresses = &services.addresses;
        let owners = addresses.iter().filter_map(|ip| self.pods.owner(*ip));
        let nodes = self.nodes.with_address(addresses);
        let of_nodes = nodes.flat_map(|node| self.nodes.pods(node));
        owners
            .chain(of_nodes)
            .filter(|id| self.groups.judges_services(id))
            .cloned()
            .collect()
    }

    /// A pod as part of a snapshot; `None` for one that policies do not select, or without an
    /// address.
    fn subject(&self, id: &NamespacedName) -> Option<SubjectEntry> {
        let pod = self.pods.get(id)?;
        let group = self.groups.of(id)?;
        let ips: Vec<IpAddr> = pod
            .ips
            .iter()
            .copied()
            .filter(|ip| self.pods.owner(*ip) == Some(id))
            .collect();
        (!ips.is_empty()).then(|| self.entry(pod, group, ips))
    }

    /// A pod without an address, as a part of its node's snapshot.
    fn pending(&self, id: &NamespacedName) -> Option<SubjectEntry> {
        let pod = self.pods.get(id)?;
        let group = self.groups.of(id)?;
        let address = pending_address(pod.pending()?);
        Some(self.entry(pod, group, vec![address.into()]))
    }

    fn entry(&self, pod: &Pod, group: &Arc<Group>, ips: Vec<IpAddr>) -> SubjectEntry {
        SubjectEntry {
            id: pod.id.clone(),
            ips,
            node_addresses: self.nodes.addresses(pod.node.as_ref()),
            tcp_path: TcpPath::of(
                pod,
                self.namespaces.get(&pod.id.namespace),
                self.options.tcp_path,
            ),
            group: Arc::clone(group),
        }
    }

    /// The bundle of a node: all its pods and no verdicts on Services, because kube-proxy has replaced the Service's
    /// address before the node judges a packet. A packet that still has a Service's address reaches no backend, and
    /// the node must not redirect it. A node with a redirected pod gets the addresses of Services for this alone.
    fn bundle(&mut self, node: Arc<str>) -> Option<(Recipient, Change)> {
        let subjects: Vec<SubjectEntry> = self
            .nodes
            .pods(&node)
            .filter_map(|id| self.subject(id).or_else(|| self.pending(id)))
            .collect();
        let is_redirected = |subject: &SubjectEntry| subject.tcp_path == TcpPath::NodeProxy;
        let redirects = subjects.iter().any(is_redirected);
        if redirects {
            self.redirecting.insert(Arc::clone(&node));
        } else {
            self.redirecting.remove(&node);
        }
        let change = if !subjects.is_empty() || self.nodes.all().contains_key(&node) {
            self.bundled.insert(Arc::clone(&node));
            let mut bundle = Bundle::new(self.options, Arc::default());
            if redirects {
                bundle.name_services(self.services.table());
            }
            subjects.into_iter().for_each(|each| bundle.add(each));
            Change::Snapshot(bundle.encode())
        } else if self.bundled.remove(&node) {
            Change::Gone
        } else {
            return None;
        };
        Some((Recipient::Node(node), change))
    }
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
