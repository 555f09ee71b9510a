//! NetworkPolicies.

use std::collections::{BTreeMap, BTreeSet};

use sidewall_policy::compile::GroupKey;
use sidewall_policy::model::{
    Namespace, NamespacedName, NetworkPolicy, Peer, Peers, Pod, PortRange, Ports, Rule,
};

use super::in_namespace;

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    by_name: BTreeMap<NamespacedName, NetworkPolicy>,
    /// Policies with an egress rule that names ports and whose destinations are not, or not only,
    /// chosen by labels: every pod of the cluster that has such a port is one of its peers
    /// (`semantics E11`, `E12`).
    naming_ports: BTreeSet<NamespacedName>,
}

impl Policies {
    /// Adds, replaces or removes a policy. Returns it as it was.
    pub(super) fn set(
        &mut self,
        id: &NamespacedName,
        policy: Option<NetworkPolicy>,
    ) -> Option<NetworkPolicy> {
        self.naming_ports.remove(id);
        match policy {
            Some(policy) => {
                if policy.egress.iter().flatten().any(names_ports_of_any_pod) {
                    self.naming_ports.insert(id.clone());
                }
                self.by_name.insert(id.clone(), policy)
            }
            None => self.by_name.remove(id),
        }
    }

    pub(super) fn get(&self, id: &NamespacedName) -> Option<&NetworkPolicy> {
        self.by_name.get(id)
    }

    pub(super) fn all(&self) -> &BTreeMap<NamespacedName, NetworkPolicy> {
        &self.by_name
    }

    /// The policies whose peers are all pods with a named port.
    pub(super) fn naming_ports(&self) -> impl Iterator<Item = &NamespacedName> {
        self.naming_ports.iter()
    }

    /// The group of a pod.
    pub(super) fn group_key(&self, pod: &Pod, namespace: Option<&Namespace>) -> GroupKey {
        let policies = in_namespace(&self.by_name, &pod.id.namespace);
        GroupKey::of(pod, policies.map(|(_, policy)| policy), namespace)
    }
}

fn names_ports_of_any_pod(rule: &Rule) -> bool {
    let named = match &rule.ports {
        Ports::Any => false,
        Ports::Of(ports) => ports
            .iter()
            .any(|port| matches!(port.port, PortRange::Named(_))),
    };
    named
        && match &rule.peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| matches!(peer, Peer::Block(_))),
        }
}
