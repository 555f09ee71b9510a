//! Groups: pods that share one compiled body.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sidewall_policy::compile::{Group, GroupKey, PodSource, ServiceTable, Table};
use sidewall_policy::model::{NamespacedName, NetworkPolicy};

use super::services::TableChange;

/// Compiled bodies and who shares them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_key: BTreeMap<Arc<GroupKey>, Entry>,
    by_pod: BTreeMap<NamespacedName, Arc<GroupKey>>,
    /// The groups that a policy is part of.
    by_policy: BTreeMap<NamespacedName, BTreeSet<Arc<GroupKey>>>,
    /// Groups that have to be compiled again.
    stale: BTreeSet<Arc<GroupKey>>,
}

#[derive(Debug, Default)]
struct Entry {
    pods: BTreeSet<NamespacedName>,
    /// The body as it was compiled last.
    body: Option<Arc<Group>>,
}

impl Entry {
    /// Whether the body says something of services.
    fn judges_services(&self) -> bool {
        self.body.as_ref().is_some_and(|body| {
            let tables = [Some(&body.egress.enforced), body.egress.audit.as_ref()];
            tables.into_iter().flatten().any(Table::is_isolated)
        })
    }
}

impl Groups {
    /// Puts a pod into its group; `None` takes it out of all. Returns whether that is another one.
    pub(super) fn assign(&mut self, pod: &NamespacedName, key: Option<GroupKey>) -> bool {
        if self.by_pod.get(pod).map(AsRef::as_ref) == key.as_ref() {
            return false;
        }
        if let Some(old) = self.by_pod.remove(pod) {
            self.leave(pod, &old);
        }
        if let Some(key) = key {
            let key = Arc::new(key);
            if !self.by_key.contains_key(&key) {
                self.stale.insert(Arc::clone(&key));
                for (policy, _) in &key.policies {
                    let groups = self.by_policy.entry(policy.clone()).or_default();
                    groups.insert(Arc::clone(&key));
                }
            }
            let entry = self.by_key.entry(Arc::clone(&key)).or_default();
            entry.pods.insert(pod.clone());
            self.by_pod.insert(pod.clone(), key);
        }
        true
    }

    fn leave(&mut self, pod: &NamespacedName, key: &Arc<GroupKey>) {
        let Some(entry) = self.by_key.get_mut(key) else {
            return;
        };
        entry.pods.remove(pod);
        if !entry.pods.is_empty() {
            return;
        }
        self.by_key.remove(key);
        self.stale.remove(key);
        for (policy, _) in &key.policies {
            if let Some(groups) = self.by_policy.get_mut(policy) {
                groups.remove(key);
                if groups.is_empty() {
                    self.by_policy.remove(policy);
                }
            }
        }
    }

    /// Notes that a policy, or the pods that its peers match, changed.
    pub(super) fn outdate(&mut self, policy: &NamespacedName) {
        let groups = self.by_policy.get(policy).into_iter().flatten();
        self.stale.extend(groups.cloned());
    }

    /// Compiles what is stale, and judges the services that changed. Returns the pods whose
    /// snapshots depend on something that came out different: their body, or the layout of the
    /// services that it knows.
    pub(super) fn compile(
        &mut self,
        policies: &BTreeMap<NamespacedName, NetworkPolicy>,
        pods: &dyn PodSource,
        services: &ServiceTable,
        change: &TableChange,
    ) -> BTreeSet<NamespacedName> {
        let mut affected = BTreeSet::new();
        let stale = std::mem::take(&mut self.stale);
        for (key, entry) in &mut self.by_key {
            let judges_services = !change.is_none() && entry.judges_services();
            let is_laid_out_anew = judges_services && change.is_laid_out_anew;
            let is_another = if stale.contains(key) {
                let body = Group::compile(key, |id| policies.get(id), pods, services);
                let is_another = entry.body.as_deref() != Some(&body);
                entry.body = Some(Arc::new(body));
                is_another || is_laid_out_anew
            } else if let Some(body) = entry.body.as_mut().filter(|_| judges_services) {
                let body = Arc::make_mut(body);
                if is_laid_out_anew {
                    body.judge_services(services);
                    true
                } else {
                    body.judge_backends(services, &change.places)
                }
            } else {
                false
            };
            if is_another {
                affected.extend(entry.pods.iter().cloned());
            }
        }
        affected
    }

    /// Whether the body of a pod says something of services.
    pub(super) fn judges_services(&self, pod: &NamespacedName) -> bool {
        let entry = self.by_pod.get(pod).and_then(|key| self.by_key.get(key));
        entry.is_some_and(Entry::judges_services)
    }

    /// The body of a pod, as it was compiled last.
    pub(super) fn of(&self, pod: &NamespacedName) -> Option<&Arc<Group>> {
        self.by_key.get(self.by_pod.get(pod)?)?.body.as_ref()
    }
}
