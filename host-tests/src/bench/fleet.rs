//! A large cluster as events: nodes, and namespaces that all look alike.
//!
//! A namespace holds four apps with a Service each, and five policies: nothing passes unless it is
//! allowed; an app takes the app before it and the monitoring namespace; everybody may ask the DNS
//! servers of the first namespace; the last app may leave the cluster.

mod objects;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;
use sidewall_distributor::cluster::{Event, Kind, Object, Service, ServicePort, Target};
use sidewall_policy::model::{
    IpBlock, Labels, Mode, Namespace, NamespaceScope, NamespacedName, NetworkPolicy, Node, Peer,
    Peers, Phase, Pod, PodPeer, PodPort, PortMatch, PortRange, Ports, Protocol, Requirement, Rule,
    Selector, TcpPath, Test,
};

/// The apps of a namespace.
const APPS: usize = 4;
/// The policies of a namespace.
pub const POLICIES: usize = 5;
const DNS: &str = "kubernetes.io/metadata.name";

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// Nodes; pods are spread over them.
    pub nodes: usize,
    /// Namespaces.
    pub namespaces: usize,
    /// Pods in each namespace.
    pub pods: usize,
}

impl Fleet {
    /// Every object, and that these are all.
    pub fn events(self) -> impl Iterator<Item = Event> {
        let nodes = (0..self.nodes).map(node).map(Object::Node);
        let namespaces = (0..self.namespaces).flat_map(move |number| {
            let namespace = std::iter::once(Object::Namespace(namespace(number)));
            let policies = policies(number).into_iter().map(Object::NetworkPolicy);
            let services = (0..APPS).map(move |app| Object::Service(service(number, app)));
            let pods = (0..self.pods).map(move |pod| Object::Pod(self.pod(number, pod, 0)));
            namespace.chain(policies).chain(services).chain(pods)
        });
        let synced = Kind::ALL.into_iter().map(Event::Synced);
        nodes.chain(namespaces).map(Event::Apply).chain(synced)
    }

    /// A pod of a namespace. Each generation of it has another name and another address.
    #[must_use]
    pub fn pod(self, namespace: usize, number: usize, generation: usize) -> Pod {
        let place = namespace * self.pods + number;
        let ip = 0x0a00_0000 + u32::try_from(place + generation * 0x10_0000).unwrap_or_default();
        Pod {
            id: NamespacedName::new(name(namespace), format!("pod-{number}-{generation}")),
            labels: Labels::from_iter([("app", app(number % APPS))]),
            node: Some(format!("node-{}", place % self.nodes).into()),
            ips: vec![IpAddr::V4(Ipv4Addr::from(ip))],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            ports: vec![PodPort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                number: 8080,
            }],
            tcp_path: Some(TcpPath::Sidecar),
        }
    }
}

fn name(namespace: usize) -> String {
    format!("team-{namespace}")
}

fn app(app: usize) -> String {
    format!("app-{app}")
}

fn node(number: usize) -> Node {
    let ip = 0xac10_0000 + u32::try_from(number).unwrap_or_default();
    Node {
        name: format!("node-{number}").into(),
        addresses: vec![IpAddr::V4(Ipv4Addr::from(ip))],
    }
}

fn namespace(number: usize) -> Namespace {
    Namespace {
        name: name(number).into(),
        labels: Labels::from_iter([(DNS, name(number))]),
        mode: Mode::Enforce,
        tcp_path: Some(TcpPath::Sidecar),
    }
}

fn service(namespace: usize, number: usize) -> Service {
    let place = u32::try_from(namespace * APPS + number).unwrap_or_default();
    Service {
        id: NamespacedName::new(name(namespace), app(number)),
        cluster_ips: vec![IpAddr::V4(Ipv4Addr::from(0x0ac0_0001 + place))],
        external_ips: Vec::new(),
        selector: Some(label("app", app(number))),
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            target: Target::Name("http".into()),
        }],
    }
}

fn policies(namespace: usize) -> Vec<NetworkPolicy> {
    let policy = |name_of: &str, pods, ingress, egress| NetworkPolicy {
        id: NamespacedName::new(name(namespace), name_of),
        pod_selector: pods,
        ingress,
        egress,
        mode: Mode::Enforce,
    };
    let everyone = Selector::everything;
    let neighbours = |scope, selector| {
        Peer::Pods(PodPeer {
            namespaces: scope,
            pods: selector,
        })
    };
    let http = || Ports::Of(vec![port(PortRange::Named("http".into()))]);
    let in_namespace = |number: usize| NamespaceScope::Matching(label(DNS, name(number)));
    let outside = Peer::Block(IpBlock {
        cidr: Ipv4Net::default().into(),
        except: vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8).into()],
    });
    let from_before = neighbours(NamespaceScope::Own, label("app", app(0)));
    let from_monitoring = neighbours(in_namespace(1), everyone());
    let dns = neighbours(in_namespace(0), label("app", app(0)));
    let anywhere = neighbours(NamespaceScope::Own, everyone());
    vec![
        policy("default-deny", everyone(), Some(vec![]), Some(vec![])),
        policy(
            "web",
            label("app", app(1)),
            Some(vec![rule(vec![from_before, from_monitoring], http())]),
            None,
        ),
        policy(
            "dns",
            everyone(),
            None,
            Some(vec![rule(vec![dns], Ports::Any)]),
        ),
        policy(
            "inside",
            everyone(),
            Some(vec![rule(vec![anywhere.clone()], Ports::Any)]),
            Some(vec![rule(vec![anywhere], http())]),
        ),
        policy(
            "leave",
            label("app", app(APPS - 1)),
            None,
            Some(vec![rule(vec![outside], Ports::Any)]),
        ),
    ]
}

fn rule(peers: Vec<Peer>, ports: Ports) -> Rule {
    Rule {
        index: 0,
        peers: Peers::Of(peers),
        ports,
    }
}

fn port(port: PortRange) -> PortMatch {
    PortMatch {
        protocol: Protocol::Tcp,
        port,
    }
}

fn label(key: &str, value: String) -> Selector {
    Selector::new(vec![Requirement {
        key: key.into(),
        test: Test::In(vec![Arc::from(value)]),
    }])
}
