//! A node's snapshot at size: local pods in groups, and pods elsewhere in teams that the groups' policies
//! name.

use std::net::Ipv4Addr;
use std::sync::Arc;

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{
    Cluster, Labels, Mode, Namespace, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers,
    Phase, Pod, PodPeer, PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Test,
};
use sidewall_policy::snapshot::Snapshot;

pub const TEAMS: u32 = 50;
const NODE: &str = "node-1";
const NAMESPACE: &str = "bench";

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Pods of the node.
    pub locals: u32,
    /// Groups that they belong to, each with a policy of its own.
    pub groups: u32,
    /// Pods elsewhere, in [`TEAMS`] teams.
    pub peers: u32,
    /// Teams that each policy names in either direction, with three port ranges of their own.
    pub teams_of_group: u32,
}

/// A cluster with that node in it.
#[derive(Clone, Debug)]
pub struct World {
    pub size: Size,
    cluster: Cluster,
}

/// A pod of the node.
pub fn local(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0af4_0102 + number)
}

/// A pod elsewhere.
pub fn peer(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a80_0000 + number)
}

/// The team that a group's rule of this number names.
pub fn team(group: u32, rule: u32) -> u32 {
    (group + rule * 7) % TEAMS
}

/// The ports that a rule of this number allows.
pub fn ports(rule: u32) -> [(Protocol, u16, u16); 3] {
    let rule = rule as u16;
    // Rules differ in their ports, or all of a table would be one port class.
    [
        (Protocol::Tcp, 8000 + rule, 8000 + rule),
        (Protocol::Tcp, 20_000 + 100 * rule, 20_050 + 100 * rule),
        (Protocol::Udp, 5000 + rule, 5000 + rule),
    ]
}

impl World {
    pub fn new(size: Size) -> Self {
        let mut cluster = Cluster::default();
        let namespace = Namespace {
            name: NAMESPACE.into(),
            labels: Labels::default(),
            mode: Mode::Enforce,
            tcp_path: None,
        };
        cluster.namespaces.insert(NAMESPACE.into(), namespace);
        let mut world = Self { size, cluster };
        for number in 0..size.locals {
            world.add_local(number);
        }
        for number in 0..size.peers {
            world.add_peer(number);
        }
        for group in 0..size.groups {
            let policy = policy(group, size.teams_of_group);
            world.cluster.policies.insert(policy.id.clone(), policy);
        }
        world
    }

    /// Lets nobody reach the pods of a group.
    pub fn isolate(&mut self, group: u32) {
        let policy = policy(group, 0);
        self.cluster.policies.insert(policy.id.clone(), policy);
    }

    /// The same with something more.
    pub fn with(&self, more: impl FnOnce(&mut Self)) -> Self {
        let mut world = self.clone();
        more(&mut world);
        world
    }

    /// Adds the node's pod of this number.
    pub fn add_local(&mut self, number: u32) {
        let app = ("app", format!("app-{}", number % self.size.groups));
        self.add(&format!("local-{number}"), NODE, local(number), app);
    }

    /// Adds the pod elsewhere of this number.
    pub fn add_peer(&mut self, number: u32) {
        let team = ("team", format!("team-{}", number % TEAMS));
        self.add(&format!("peer-{number}"), "elsewhere", peer(number), team);
    }

    fn add(&mut self, name: &str, node: &str, ip: Ipv4Addr, label: (&str, String)) {
        let id = NamespacedName::new(NAMESPACE, name);
        let pod = Pod {
            id: id.clone(),
            labels: Labels::from_iter([label]),
            node: Some(node.into()),
            ips: vec![ip.into()],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            tcp_path: None,
            ports: Vec::new(),
        };
        self.cluster.pods.insert(id, pod);
    }

    /// What the node is told.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let local = |pod: &&Pod| pod.node.as_deref() == Some(NODE);
        let pods = self.cluster.pods.values().filter(local);
        let subjects: Vec<_> = pods.map(|pod| pod.id.clone()).collect();
        let bytes = compile_snapshot(&self.cluster, &subjects, &Options::default());
        Arc::new(Snapshot::check(bytes).expect("the compiler's own output passes its check"))
    }
}

fn policy(group: u32, teams: u32) -> NetworkPolicy {
    let rules = || {
        let rule = |index: u32| Rule {
            index,
            peers: Peers::Of(vec![Peer::Pods(PodPeer {
                namespaces: NamespaceScope::Own,
                pods: labelled("team", format!("team-{}", team(group, index))),
            })]),
            ports: Ports::Of(ports(index).map(port).into()),
        };
        Some((0..teams).map(rule).collect())
    };
    NetworkPolicy {
        id: NamespacedName::new(NAMESPACE, format!("policy-{group}")),
        pod_selector: labelled("app", format!("app-{group}")),
        ingress: rules(),
        egress: rules(),
        mode: Mode::Enforce,
    }
}

fn labelled(key: &str, value: String) -> Selector {
    Selector::new(vec![Requirement {
        key: key.into(),
        test: Test::In(vec![value.into()]),
    }])
}

fn port((protocol, low, high): (Protocol, u16, u16)) -> PortMatch {
    PortMatch {
        protocol,
        port: PortRange::Numbers { low, high },
    }
}
