//! Pods that share one compiled body.

use std::collections::BTreeSet;

use super::PodSource;
use super::ports;
use super::services::ServiceTable;
use super::table::Table;
use crate::model::{Direction, Mode, Namespace, NamespacedName, NetworkPolicy, Pod, PodPort};

/// What a compiled body depends on, of its pods: their namespace by way of their policies, and the
/// numbers of the named ports that the ingress rules mention.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// Every policy that selects the pods, sorted, with whether it is enforced or only observed.
    pub policies: Vec<(NamespacedName, Audited)>,
    /// The named ports that ingress rules of those policies resolve on the pods, sorted.
    pub ports: Vec<PodPort>,
}

/// Whether a policy is only observed, by its own mode or by its namespace's.
pub type Audited = bool;

impl GroupKey {
    /// Finds the policies that select a pod. `policies` may be all of them or those of the pod's
    /// namespace.
    pub fn of<'a>(
        pod: &Pod,
        policies: impl Iterator<Item = &'a NetworkPolicy>,
        namespace: Option<&Namespace>,
    ) -> Self {
        let audited = namespace.is_some_and(|ns| ns.mode == Mode::Audit);
        let selecting: Vec<&NetworkPolicy> = policies
            .filter(|policy| {
                policy.id.namespace == pod.id.namespace && policy.pod_selector.matches(&pod.labels)
            })
            .collect();
        let named: BTreeSet<_> = selecting
            .iter()
            .flat_map(|policy| policy.ingress.iter().flatten())
            .flat_map(|rule| ports::named_ports(&rule.ports))
            .collect();
        let mut ports: Vec<PodPort> = pod
            .ports
            .iter()
            .filter(|port| named.contains(&(port.name.as_ref(), port.protocol)))
            .cloned()
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let mut policies: Vec<(NamespacedName, Audited)> = selecting
            .iter()
            .map(|policy| (policy.id.clone(), audited || policy.mode == Mode::Audit))
            .collect();
        policies.sort_unstable();
        Self { policies, ports }
    }
}

/// A compiled body: both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Connections that the pods accept.
    pub ingress: GroupTables,
    /// Connections that the pods open.
    pub egress: GroupTables,
}

/// The tables of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupTables {
    /// What is enforced.
    pub enforced: Table,
    /// What would be, if audited policies were enforced too; `None` without any.
    pub audit: Option<Table>,
}

impl Group {
    /// Compiles the body of a group. A policy that `policy_by_id` does not know is left out.
    pub fn compile<'a>(
        key: &GroupKey,
        policy_by_id: impl Fn(&NamespacedName) -> Option<&'a NetworkPolicy>,
        pods: &dyn PodSource,
        services: &ServiceTable,
    ) -> Self {
        let policies: Vec<(&NetworkPolicy, Audited)> = key
            .policies
            .iter()
            .filter_map(|(id, audited)| Some((policy_by_id(id)?, *audited)))
            .collect();
        let tables = |direction: Direction| {
            let isolating = || {
                policies
                    .iter()
                    .filter(move |(policy, _)| policy.rules(direction).is_some())
            };
            let compile = |policies: &[&NetworkPolicy]| {
                Table::compile(direction, policies, &key.ports, pods, services)
            };
            let enforced: Vec<&NetworkPolicy> = isolating()
                .filter(|(_, audited)| !audited)
                .map(|(policy, _)| *policy)
                .collect();
            let all: Vec<&NetworkPolicy> = isolating().map(|(policy, _)| *policy).collect();
            GroupTables {
                audit: (all.len() > enforced.len()).then(|| compile(&all)),
                enforced: compile(&enforced),
            }
        };
        Self {
            ingress: tables(Direction::Ingress),
            egress: tables(Direction::Egress),
        }
    }

    /// Judges all services, which changed. The body is then as if it had been compiled with them.
    pub fn judge_services(&mut self, services: &ServiceTable) {
        for table in self.isolated_egress() {
            table.services = services.judge(table);
        }
    }

    /// The same when [`ServiceTable::set_backends`] changed nothing but what these places hold.
    /// Returns whether that makes it another body.
    pub fn judge_backends(&mut self, services: &ServiceTable, places: &[usize]) -> bool {
        let mut is_another = false;
        for table in self.isolated_egress() {
            is_another |= services.judge_again(places, table);
        }
        is_another
    }

    fn isolated_egress(&mut self) -> impl Iterator<Item = &mut Table> {
        let tables = [Some(&mut self.egress.enforced), self.egress.audit.as_mut()];
        let tables = tables.into_iter().flatten();
        tables.filter(|table| table.is_isolated())
    }
}
