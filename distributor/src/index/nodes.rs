//! Nodes, and which pods they run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sidewall_policy::model::{NamespacedName, Node, Pod};

/// Nodes by name.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_name: BTreeMap<Arc<str>, Node>,
    /// The pods of each node, known or not.
    pods: BTreeMap<Arc<str>, BTreeSet<NamespacedName>>,
}

impl Nodes {
    /// Adds, replaces or removes a node. Returns whether its addresses are different now.
    pub(super) fn set(&mut self, name: &Arc<str>, node: Option<Node>) -> bool {
        let before = self.addresses(Some(name));
        match node {
            Some(node) => self.by_name.insert(Arc::clone(name), node),
            None => self.by_name.remove(name),
        };
        before != self.addresses(Some(name))
    }

    /// Notes that a pod is on another node now.
    pub(super) fn move_pod(&mut self, id: &NamespacedName, old: Option<&Pod>, new: Option<&Pod>) {
        if let Some(node) = old.and_then(|pod| pod.node.as_ref())
            && let Some(pods) = self.pods.get_mut(node)
        {
            pods.remove(id);
            if pods.is_empty() {
                self.pods.remove(node);
            }
        }
        if let Some(node) = new.and_then(|pod| pod.node.as_ref()) {
            let pods = self.pods.entry(Arc::clone(node)).or_default();
            pods.insert(id.clone());
        }
    }

    /// The pods of a node.
    pub(super) fn pods(&self, name: &str) -> impl Iterator<Item = &NamespacedName> {
        self.pods.get(name).into_iter().flatten()
    }

    /// The addresses of a node; none for one that is not known.
    pub(super) fn addresses(&self, name: Option<&Arc<str>>) -> Vec<IpAddr> {
        name.and_then(|name| self.by_name.get(name))
            .map_or_else(Vec::new, |node| node.addresses.clone())
    }

    /// The nodes that have one of these addresses.
    pub(super) fn with_address(&self, ips: &BTreeSet<IpAddr>) -> impl Iterator<Item = &Arc<str>> {
        let nodes = self.by_name.iter().filter(|_| !ips.is_empty());
        nodes
            .filter(|(_, node)| node.addresses.iter().any(|ip| ips.contains(ip)))
            .map(|(name, _)| name)
    }

    pub(super) fn all(&self) -> &BTreeMap<Arc<str>, Node> {
        &self.by_name
    }
}
