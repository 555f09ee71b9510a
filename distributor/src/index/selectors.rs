//! The selector cache: which pods each peer of each policy matches, kept up to date.
//!
//! Peers that read the same share one entry, whoever uses them. A pod is compared only with the
//! selectors that look into its namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sidewall_policy::model::{
    Labels, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers, Pod, PodPeer, Selector,
};

use super::namespaces::Namespaces;
use super::pods::Pods;

/// The pods that each peer matches.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    /// Peers without a namespaceSelector, by the namespace of their policies.
    own: BTreeMap<Arc<str>, Scope>,
    /// Peers with one, by that.
    matching: BTreeMap<Selector, MatchingScope>,
}

/// Pod selectors that look into the same namespaces.
type Scope = BTreeMap<Selector, Entry>;

#[derive(Debug, Default)]
struct MatchingScope {
    /// The known namespaces that the namespaceSelector matches.
    namespaces: BTreeSet<Arc<str>>,
    entries: Scope,
}

#[derive(Debug, Default)]
struct Entry {
    /// The selectable pods that match.
    members: BTreeSet<NamespacedName>,
    /// The policies with such a peer.
    users: BTreeSet<NamespacedName>,
}

impl Selectors {
    /// Adds the peers of a policy.
    pub(super) fn add(&mut self, policy: &NetworkPolicy, pods: &Pods, namespaces: &Namespaces) {
        for peer in pod_peers(policy) {
            match &peer.namespaces {
                NamespaceScope::Own => {
                    let namespace = &policy.id.namespace;
                    let scope = self.own.entry(Arc::clone(namespace)).or_default();
                    let entry = scope
                        .entry(peer.pods.clone())
                        .or_insert_with(|| Entry::over([namespace].into_iter(), &peer.pods, pods));
                    entry.users.insert(policy.id.clone());
                }
                NamespaceScope::Matching(selector) => {
                    let scope = self.matching.entry(selector.clone()).or_insert_with(|| {
                        let all = namespaces.all().values();
                        let matching = all.filter(|ns| selector.matches(&ns.labels));
                        MatchingScope {
                            namespaces: matching.map(|ns| Arc::clone(&ns.name)).collect(),
                            entries: Scope::new(),
                        }
                    });
                    let looked_into = &scope.namespaces;
                    let entry = scope
                        .entries
                        .entry(peer.pods.clone())
                        .or_insert_with(|| Entry::over(looked_into.iter(), &peer.pods, pods));
                    entry.users.insert(policy.id.clone());
                }
            }
        }
    }

    /// Removes the peers of a policy that `successor`, its next version, does not have.
    pub(super) fn remove(&mut self, policy: &NetworkPolicy, successor: Option<&NetworkPolicy>) {
        let kept: BTreeSet<&PodPeer> = successor.into_iter().flat_map(pod_peers).collect();
        for peer in pod_peers(policy).filter(|peer| !kept.contains(peer)) {
            match &peer.namespaces {
                NamespaceScope::Own => {
                    let namespace = &policy.id.namespace;
                    if let Some(scope) = self.own.get_mut(namespace) {
                        abandon(scope, &peer.pods, &policy.id);
                        if scope.is_empty() {
                            self.own.remove(namespace);
                        }
                    }
                }
                NamespaceScope::Matching(selector) => {
                    if let Some(scope) = self.matching.get_mut(selector) {
                        abandon(&mut scope.entries, &peer.pods, &policy.id);
                        if scope.entries.is_empty() {
                            self.matching.remove(selector);
                        }
                    }
                }
            }
        }
    }

    /// Matches a pod that changed, or is gone, with every selector that looks into its namespace.
    /// `dirty` gets the policies to which it means something else now: because it matches or does
    /// not match any more, or, if its addresses or ports are `different`, because it matches.
    pub(super) fn set_pod(
        &mut self,
        id: &NamespacedName,
        pod: Option<&Pod>,
        different: bool,
        dirty: &mut BTreeSet<NamespacedName>,
    ) {
        let pod = pod.filter(|pod| pod.is_selectable());
        for (selector, entry) in self.looking_into(&id.namespace) {
            let is_member = pod.is_some_and(|pod| selector.matches(&pod.labels));
            let changed = if is_member {
                entry.members.insert(id.clone()) || different
            } else {
                entry.members.remove(id)
            };
            if changed {
                dirty.extend(entry.users.iter().cloned());
            }
        }
    }

    /// Adds the policies with a peer that matches a pod.
    pub(super) fn users_of(&mut self, pod: &NamespacedName, dirty: &mut BTreeSet<NamespacedName>) {
        for (_, entry) in self.looking_into(&pod.namespace) {
            if entry.members.contains(pod) {
                dirty.extend(entry.users.iter().cloned());
            }
        }
    }

    /// Matches a namespace whose labels changed, or became known or unknown, with every
    /// namespaceSelector. `dirty` gets the policies whose peers match other pods now.
    pub(super) fn set_namespace(
        &mut self,
        name: &Arc<str>,
        labels: Option<&Labels>,
        pods: &Pods,
        dirty: &mut BTreeSet<NamespacedName>,
    ) {
        for (selector, scope) in &mut self.matching {
            let matches = labels.is_some_and(|labels| selector.matches(labels));
            let changed = if matches {
                scope.namespaces.insert(Arc::clone(name))
            } else {
                scope.namespaces.remove(name)
            };
            if !changed {
                continue;
            }
            for (selector, entry) in &mut scope.entries {
                let before = entry.members.len();
                for pod in pods.matching(name, selector) {
                    if matches {
                        entry.members.insert(pod.id.clone());
                    } else {
                        entry.members.remove(&pod.id);
                    }
                }
                if entry.members.len() != before {
                    dirty.extend(entry.users.iter().cloned());
                }
            }
        }
    }

    /// The pods that a peer of a policy in this namespace matches. Every peer of a known policy is
    /// in the cache.
    pub(super) fn members(
        &self,
        namespace: &str,
        peer: &PodPeer,
    ) -> impl Iterator<Item = &NamespacedName> {
        let scope = match &peer.namespaces {
            NamespaceScope::Own => self.own.get(namespace),
            NamespaceScope::Matching(selector) => {
                self.matching.get(selector).map(|scope| &scope.entries)
            }
        };
        let entry = scope.and_then(|scope| scope.get(&peer.pods));
        entry.into_iter().flat_map(|entry| &entry.members)
    }

    /// The entries that a pod of this namespace may be a member of.
    fn looking_into(
        &mut self,
        namespace: &Arc<str>,
    ) -> impl Iterator<Item = (&Selector, &mut Entry)> {
        let own = self.own.get_mut(namespace).into_iter().flatten();
        let matching = self
            .matching
            .values_mut()
            .filter(|scope| scope.namespaces.contains(namespace))
            .flat_map(|scope| &mut scope.entries);
        own.chain(matching)
    }
}

impl Entry {
    fn over<'a>(
        namespaces: impl Iterator<Item = &'a Arc<str>>,
        selector: &Selector,
        pods: &Pods,
    ) -> Self {
        let members = namespaces.flat_map(|namespace| {
            let matching = pods.matching(namespace, selector);
            matching.map(|pod| pod.id.clone()).collect::<Vec<_>>()
        });
        Self {
            members: members.collect(),
            users: BTreeSet::new(),
        }
    }
}

/// Takes a user from an entry, and the entry away with its last user.
fn abandon(scope: &mut Scope, selector: &Selector, user: &NamespacedName) {
    if let Some(entry) = scope.get_mut(selector) {
        entry.users.remove(user);
        if entry.users.is_empty() {
            scope.remove(selector);
        }
    }
}

/// Every peer of a policy that chooses pods by labels.
fn pod_peers(policy: &NetworkPolicy) -> impl Iterator<Item = &PodPeer> {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let peers = rules.flat_map(|rule| match &rule.peers {
        Peers::Any => &[],
        Peers::Of(peers) => peers.as_slice(),
    });
    peers.filter_map(|peer| match peer {
        Peer::Pods(peer) => Some(peer),
        Peer::Block(_) => None,
    })
}
