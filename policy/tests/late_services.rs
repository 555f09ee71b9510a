//! Services that change are judged as if everything had been compiled anew: the index counts on it.

mod support {
    pub mod cluster;
    pub mod config;
}

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sidewall_policy::compile::{ClusterScan, Group, GroupKey, ServiceTable};
use sidewall_policy::model::{Cluster, Pod, Service};

/// The body of every group of pods, compiled with these services.
fn compiled(cluster: &Cluster, services: &ServiceTable) -> BTreeMap<GroupKey, Group> {
    let scan = ClusterScan::new(cluster);
    let key = |pod: &Pod| {
        let namespace = cluster.namespaces.get(&pod.id.namespace);
        GroupKey::of(pod, cluster.policies.values(), namespace)
    };
    let keys: BTreeSet<GroupKey> = cluster.pods.values().map(key).collect();
    let compile = |key: GroupKey| {
        let group = Group::compile(&key, |id| cluster.policies.get(id), &scan, services);
        (key, group)
    };
    keys.into_iter().map(compile).collect()
}

/// The same service with the backends of another one's ports.
fn with_backends(service: &Service, of: &Service) -> Service {
    let mut service = service.clone();
    for (port, other) in service.ports.iter_mut().zip(of.ports.iter().cycle()) {
        port.backends.clone_from(&other.backends);
    }
    service
}

/// Whether a service shares neither an address nor a node port, with others or between its ports.
fn is_alone(service: &Service, all: &Cluster) -> bool {
    let node_ports = |service: &Service| {
        let ports = service.ports.iter();
        let ports = ports.filter_map(|port| Some((port.protocol, port.node_port?)));
        ports.collect::<Vec<_>>()
    };
    let (addresses, at_nodes): (BTreeSet<_>, BTreeSet<_>) = (
        service.addresses().collect(),
        node_ports(service).into_iter().collect(),
    );
    let ports: BTreeSet<_> = service
        .ports
        .iter()
        .map(|port| (port.protocol, port.port))
        .collect();
    let mut others = all.services.values().filter(|each| each.id != service.id);
    ports.len() == service.ports.len()
        && at_nodes.len() == node_ports(service).len()
        && !others.any(|other| {
            other.addresses().any(|ip| addresses.contains(&ip))
                || node_ports(other).iter().any(|port| at_nodes.contains(port))
        })
}

proptest! {
    #![proptest_config(support::config::tried(256))]

    #[test]
    fn backends_that_change_are_judged_as_if_compiled_anew(
        cluster in support::cluster::cluster(),
        more in vec(support::cluster::service(), 4),
        chosen in any::<Index>(),
    ) {
        let mut cluster = cluster;
        cluster.services.extend(more[1..].iter().map(|each| (each.id.clone(), each.clone())));
        let mut services = ServiceTable::new(cluster.services.values());
        let mut groups = compiled(&cluster, &services);

        let all: Vec<Service> = cluster.services.values().cloned().collect();
        let changed = with_backends(chosen.get(&all), &more[0]);
        let was_alone = is_alone(&changed, &cluster);
        cluster.services.insert(changed.id.clone(), changed.clone());
        let anew = ServiceTable::new(cluster.services.values());
        let Some(places) = services.set_backends(&changed) else {
            // Then everything is laid out and judged anew.
            prop_assert!(!was_alone, "it could have been told apart");
            for group in groups.values_mut() {
                group.judge_services(&anew);
            }
            prop_assert_eq!(groups, compiled(&cluster, &anew));
            return Ok(());
        };
        prop_assert_eq!(&services, &anew);
        for (key, group) in compiled(&cluster, &anew) {
            let known = groups.get_mut(&key).expect("no pod has changed");
            let differs = *known != group;
            prop_assert_eq!(known.judge_backends(&services, &places), differs);
            prop_assert_eq!(&*known, &group);
        }
    }
}
