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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::compile::ClusterScan;
    use crate::model::{
        Backend, Cluster, Labels, Peers, Phase, Ports, Protocol, Rule, Selector, Service,
        ServicePort,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn id(name: &str) -> NamespacedName {
        NamespacedName::new("shop", name)
    }

    fn pod() -> Pod {
        Pod {
            id: id("web"),
            labels: Labels::default(),
            node: None,
            ips: vec![ip("10.0.0.1")],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            ports: Vec::new(),
            tcp_path: None,
        }
    }

    /// Isolates egress; with a rule it allows everything.
    fn policy(name: &str, mode: Mode, rules: u32) -> NetworkPolicy {
        let rule = |index| Rule {
            index,
            peers: Peers::Any,
            ports: Ports::Any,
        };
        NetworkPolicy {
            id: id(name),
            pod_selector: Selector::everything(),
            ingress: None,
            egress: Some((0..rules).map(rule).collect()),
            mode,
        }
    }

    fn services() -> ServiceTable {
        let backend = |address| Backend {
            ip: ip(address),
            port: 80,
        };
        ServiceTable::new(
            [Service {
                id: id("svc"),
                cluster_ips: vec![ip("10.96.0.1")],
                external_ips: Vec::new(),
                ports: vec![ServicePort {
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: None,
                    backends: vec![backend("10.0.0.2"), backend("10.0.0.3")],
                }],
            }]
            .iter(),
        )
    }

    fn compiled(policies: &[NetworkPolicy], services: &ServiceTable) -> Group {
        let key = GroupKey::of(&pod(), policies.iter(), None);
        let by_id = |id: &NamespacedName| policies.iter().find(|policy| policy.id == *id);
        Group::compile(
            &key,
            by_id,
            &ClusterScan::new(&Cluster::default()),
            services,
        )
    }

    #[test]
    fn only_audited_policies_make_a_second_table() {
        let enforced = policy("a", Mode::Enforce, 1);
        let group = compiled(std::slice::from_ref(&enforced), &services());
        assert_eq!((group.egress.audit, group.ingress.audit), (None, None));
        assert!(group.egress.enforced.is_isolated());
        assert!(!group.ingress.enforced.is_isolated());

        let group = compiled(&[enforced, policy("b", Mode::Audit, 0)], &services());
        assert!(group.egress.audit.is_some_and(|table| table.is_isolated()));
        assert_eq!(group.ingress.audit, None, "it is about egress");
    }

    #[test]
    fn services_that_come_later_are_judged_as_if_they_had_been_there() {
        for (policies, tables) in [
            (vec![policy("a", Mode::Enforce, 1)], 1),
            (vec![policy("a", Mode::Audit, 1)], 1),
            (
                vec![policy("a", Mode::Audit, 0), policy("b", Mode::Enforce, 1)],
                2,
            ),
            // Where nothing is allowed, or all is, services make no difference.
            (vec![policy("a", Mode::Enforce, 0)], 0),
            (vec![], 0),
        ] {
            let with_services = compiled(&policies, &services());
            let known = |group: &Group| {
                let tables = [Some(&group.egress.enforced), group.egress.audit.as_ref()];
                let tables = tables.into_iter().flatten();
                tables
                    .map(|table| table.services.places().count())
                    .sum::<usize>()
            };
            let mut group = compiled(&policies, &ServiceTable::default());
            assert_eq!((known(&group), known(&with_services)), (0, tables));
            group.judge_services(&services());
            assert_eq!(group, with_services);
        }
    }
}
