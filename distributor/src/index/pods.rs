//! Pods: by name, by label, and who owns which address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use sidewall_policy::model::{NamespacedName, Pod, Selector, Test};

use super::in_namespace;

/// All pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    by_name: BTreeMap<NamespacedName, Pod>,
    /// Selectable pods by label key and value.
    by_label: HashMap<(Arc<str>, Arc<str>), BTreeSet<NamespacedName>>,
    /// Selectable pods that claim an address, and the one of them that it stands for.
    by_address: HashMap<IpAddr, Claims>,
}

#[derive(Debug)]
struct Claims {
    owner: NamespacedName,
    claimants: BTreeSet<NamespacedName>,
}

/// What a change of a pod left behind.
#[derive(Debug)]
pub(super) struct Replaced {
    /// The pod as it was.
    pub(super) old: Option<Pod>,
    /// Pods that gained or lost an address by it, itself among them.
    pub(super) owners: BTreeSet<NamespacedName>,
}

impl Pods {
    /// Adds, replaces or removes a pod.
    pub(super) fn set(&mut self, id: &NamespacedName, pod: Option<Pod>) -> Replaced {
        let old = match pod {
            Some(pod) => self.by_name.insert(id.clone(), pod),
            None => self.by_name.remove(id),
        };
        let new = self.by_name.get(id);
        let selectable = |pod: Option<&Pod>| {
            let pod = pod?;
            pod.is_selectable().then(|| pod.clone())
        };
        let (before, after) = (selectable(old.as_ref()), selectable(new));
        self.relabel(id, before.as_ref(), after.as_ref());
        let owners = self.reassign(id, before.as_ref(), after.as_ref());
        Replaced { old, owners }
    }

    fn relabel(&mut self, id: &NamespacedName, old: Option<&Pod>, new: Option<&Pod>) {
        if old.map(|pod| &pod.labels) == new.map(|pod| &pod.labels) {
            return;
        }
        for (key, value) in old.iter().flat_map(|pod| pod.labels.iter()) {
            let label = (key.into(), value.into());
            if let Some(pods) = self.by_label.get_mut(&label) {
                pods.remove(id);
                if pods.is_empty() {
                    self.by_label.remove(&label);
                }
            }
        }
        for (key, value) in new.iter().flat_map(|pod| pod.labels.iter()) {
            let pods = self.by_label.entry((key.into(), value.into())).or_default();
            pods.insert(id.clone());
        }
    }

    /// Settles anew who owns the addresses that a pod claimed or claims (`semantics H7`).
    fn reassign(
        &mut self,
        id: &NamespacedName,
        old: Option<&Pod>,
        new: Option<&Pod>,
    ) -> BTreeSet<NamespacedName> {
        let ips = |pod: Option<&Pod>| pod.map_or(&[][..], |pod| &pod.ips).to_vec();
        let (before, after) = (ips(old), ips(new));
        let mut affected = BTreeSet::new();
        let touched: BTreeSet<IpAddr> = before.iter().chain(&after).copied().collect();
        for ip in touched {
            let previous = self.by_address.remove(&ip);
            let (owner, mut claimants) = match previous {
                Some(claims) => (Some(claims.owner), claims.claimants),
                None => (None, BTreeSet::new()),
            };
            if after.contains(&ip) {
                claimants.insert(id.clone());
            } else {
                claimants.remove(id);
            }
            let strongest = claimants
                .iter()
                .filter_map(|claimant| self.by_name.get(claimant))
                .max_by(|a, b| a.claim().cmp(&b.claim()))
                .map(|pod| pod.id.clone());
            if owner != strongest {
                affected.extend(owner);
                affected.extend(strongest.clone());
            }
            if let Some(owner) = strongest {
                self.by_address.insert(ip, Claims { owner, claimants });
            }
        }
        affected
    }

    pub(super) fn get(&self, id: &NamespacedName) -> Option<&Pod> {
        self.by_name.get(id)
    }

    /// All pods, sorted by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.by_name.values()
    }

    /// The pods of a namespace.
    pub(super) fn in_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Pod> + Clone {
        in_namespace(&self.by_name, namespace).map(|(_, pod)| pod)
    }

    /// The pod that an address stands for.
    pub(super) fn owner(&self, ip: IpAddr) -> Option<&NamespacedName> {
        self.by_address.get(&ip).map(|claims| &claims.owner)
    }

    /// The selectable pods of a namespace that a selector matches.
    pub(super) fn matching<'a>(
        &'a self,
        namespace: &'a str,
        selector: &'a Selector,
    ) -> Box<dyn Iterator<Item = &'a Pod> + 'a> {
        let matches = |pod: &&Pod| pod.is_selectable() && selector.matches(&pod.labels);
        match self.candidates(selector) {
            None => {
                let pods = self.in_namespace(namespace);
                Box::new(pods.filter(matches))
            }
            Some(lists) => {
                let pods = lists
                    .into_iter()
                    .flat_map(move |pods| {
                        pods.range(NamespacedName::new(namespace, "")..)
                            .take_while(move |id| id.namespace.as_ref() == namespace)
                    })
                    .filter_map(|id| self.by_name.get(id));
                Box::new(pods.filter(matches))
            }
        }
    }

    /// Lists of pods that hold every match of a selector: those with the wanted values of the label
    /// that fewest pods have. `None` when the selector wants no value of any label.
    fn candidates(&self, selector: &Selector) -> Option<Vec<&BTreeSet<NamespacedName>>> {
        let lists = |values: &[Arc<str>], key: &Arc<str>| -> Vec<&BTreeSet<NamespacedName>> {
            let labels = values
                .iter()
                .map(|value| (Arc::clone(key), Arc::clone(value)));
            labels
                .filter_map(|label| self.by_label.get(&label))
                .collect()
        };
        selector
            .requirements()
            .iter()
            .filter_map(|requirement| match &requirement.test {
                Test::In(values) => Some(lists(values, &requirement.key)),
                Test::NotIn(_) | Test::Exists | Test::DoesNotExist => None,
            })
            .min_by_key(|lists| lists.iter().map(|pods| pods.len()).sum::<usize>())
    }
}
