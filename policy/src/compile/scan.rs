//! Answers the compiler's questions by looking at every pod of a [`Cluster`].

use std::collections::HashMap;
use std::net::IpAddr;

use super::PodSource;
use crate::model::{Cluster, NamespaceScope, NamespacedName, Pod, PodPeer};

/// A [`PodSource`] over a plain cluster: right, simple and linear in the number of pods.
pub struct ClusterScan<'a> {
    cluster: &'a Cluster,
    owners: HashMap<IpAddr, &'a NamespacedName>,
}

impl<'a> ClusterScan<'a> {
    /// Works out who owns each address (`semantics H7`).
    pub fn new(cluster: &'a Cluster) -> Self {
        let mut owners: HashMap<IpAddr, &Pod> = HashMap::new();
        for pod in cluster.pods.values().filter(|pod| pod.is_selectable()) {
            for ip in &pod.ips {
                let owner = owners.entry(*ip).or_insert(pod);
                if owner.claim() < pod.claim() {
                    *owner = pod;
                }
            }
        }
        Self {
            cluster,
            owners: owners.into_iter().map(|(ip, pod)| (ip, &pod.id)).collect(),
        }
    }

    fn selectable(&self) -> impl Iterator<Item = &'a Pod> {
        self.cluster.pods.values().filter(|pod| pod.is_selectable())
    }
}

impl PodSource for ClusterScan<'_> {
    fn visit_matching(&self, namespace: &str, peer: &PodPeer, visit: &mut dyn FnMut(&Pod)) {
        for pod in self.selectable() {
            let in_scope = match &peer.namespaces {
                NamespaceScope::Own => pod.id.namespace.as_ref() == namespace,
                // An unknown namespace has no known labels and matches nothing (`semantics B10`).
                NamespaceScope::Matching(selector) => self
                    .cluster
                    .namespaces
                    .get(&pod.id.namespace)
                    .is_some_and(|ns| selector.matches(&ns.labels)),
            };
            if in_scope && peer.pods.matches(&pod.labels) {
                visit(pod);
            }
        }
    }

    fn visit_all(&self, visit: &mut dyn FnMut(&Pod)) {
        self.selectable().for_each(visit);
    }

    fn owns(&self, pod: &Pod, ip: IpAddr) -> bool {
        self.owners.get(&ip).is_some_and(|owner| **owner == pod.id)
    }
}
