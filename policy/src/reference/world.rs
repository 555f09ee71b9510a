//! Who is who in a cluster, found by looking at everything.

use std::net::IpAddr;

use crate::compile::Options;
use crate::model::{Backend, Cluster, Direction, Mode, NetworkPolicy, Pod};

/// A cluster and the choices made for it.
pub(super) struct World<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) options: &'a Options,
}

impl<'a> World<'a> {
    /// The pod that an address stands for: of all that policies can select and that have this
    /// address, the one with the greatest claim (`semantics C6`, `G11`, `H6`, `H7`).
    pub(super) fn owner(&self, ip: IpAddr) -> Option<&'a Pod> {
        self.cluster
            .pods
            .values()
            .filter(|pod| pod.is_selectable() && pod.ips.contains(&ip))
            .max_by(|a, b| a.claim().cmp(&b.claim()))
    }

    /// Whether an address belongs to the node that a pod runs on.
    pub(super) fn is_own_node(&self, pod: &Pod, ip: IpAddr) -> bool {
        pod.node
            .as_ref()
            .and_then(|name| self.cluster.nodes.get(name))
            .is_some_and(|node| node.addresses.contains(&ip))
    }

    /// The policies that isolate a pod in one direction, sorted (`semantics F1`, `F8`).
    pub(super) fn isolating(&self, direction: Direction, pod: &Pod) -> Vec<&'a NetworkPolicy> {
        self.cluster
            .policies
            .values()
            .filter(|policy| {
                policy.id.namespace == pod.id.namespace
                    && policy.rules(direction).is_some()
                    && policy.pod_selector.matches(&pod.labels)
            })
            .collect()
    }

    /// Whether a policy is only observed, by its own mode or by its namespace's.
    pub(super) fn is_audited(&self, policy: &NetworkPolicy) -> bool {
        let namespace = self.cluster.namespaces.get(&policy.id.namespace);
        policy.mode == Mode::Audit || namespace.is_some_and(|ns| ns.mode == Mode::Audit)
    }

    /// Where a connection of this pod to a service's address, or to a node port of its own node,
    /// may end (`semantics G7`, `I1`); `None` when that is no service port. If several services
    /// claim one address and port, any may get the connection.
    pub(super) fn backends(
        &self,
        subject: &Pod,
        ip: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Option<Vec<Backend>> {
        let on_own_node = self.is_own_node(subject, ip);
        let mut found: Option<Vec<Backend>> = None;
        for service in self.cluster.services.values() {
            for each in &service.ports {
                let by_address = service.addresses().any(|each| each == ip) && each.port == port;
                let by_node = on_own_node && each.node_port == Some(port);
                if each.protocol.number() == protocol && (by_address || by_node) {
                    let same_family = each
                        .backends
                        .iter()
                        .filter(|backend| backend.ip.is_ipv4() == ip.is_ipv4());
                    found.get_or_insert_default().extend(same_family);
                }
            }
        }
        found
    }

    /// Whether an address is a service's alone.
    pub(super) fn is_cluster_ip(&self, ip: IpAddr) -> bool {
        self.cluster
            .services
            .values()
            .any(|service| service.cluster_ips.contains(&ip))
    }
}
