//! Small random clusters, rich in collisions and traps.
//!
//! Few names, labels, addresses and ports, so that everything meets everything: pods that share an
//! address, host-network and terminal pods, unknown namespaces and nodes, port names with several
//! numbers and protocols, blocks that cover pods and cut into each other, services whose ports are
//! not their backends' and whose backends are the client itself or its node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use sidewall_policy::model::{
    Backend, Cluster, IpBlock, Labels, Mode, Namespace, NamespaceScope, NamespacedName,
    NetworkPolicy, Node, Peer, Peers, Phase, Pod, PodPeer, PodPort, PortMatch, PortRange, Ports,
    Protocol, Requirement, Rule, Selector, Service, ServicePort, TcpPath, Test,
};

/// Namespaces that pods and policies may be in; their objects may be missing.
pub const NAMESPACES: [&str; 3] = ["a", "b", "c"];
/// Nodes that pods may be on; `n3` never has an object.
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 3] = ["", "x", "y"];
const PORT_NAMES: [&str; 3] = ["http", "dns", "none"];
/// Ports of pods, rules and backends.
const PORTS: [u16; 6] = [53, 80, 81, 8080, 1, 65535];
/// Ports of services: some are those of pods.
const SERVICE_PORTS: [u16; 3] = [53, 80, 443];
const NODE_PORTS: [u16; 2] = [30080, 30081];

/// A cluster.
pub fn cluster() -> impl Strategy<Value = Cluster> {
    (
        subsequence(NAMESPACES.to_vec(), 0..=3).prop_flat_map(|names| {
            names
                .into_iter()
                .map(|name| namespace(name).boxed())
                .collect::<Vec<_>>()
        }),
        (
            option::weighted(0.9, node("n1")),
            option::weighted(0.9, node("n2")),
        ),
        vec(pod(), 0..8),
        vec(policy(), 0..7),
        vec(service(), 0..4),
    )
        .prop_map(|(namespaces, nodes, pods, policies, services)| Cluster {
            namespaces: namespaces
                .into_iter()
                .map(|n| (n.name.clone(), n))
                .collect(),
            nodes: [nodes.0, nodes.1]
                .into_iter()
                .flatten()
                .map(|n| (n.name.clone(), n))
                .collect(),
            pods: pods.into_iter().map(|p| (p.id.clone(), p)).collect(),
            policies: policies.into_iter().map(|p| (p.id.clone(), p)).collect(),
            services: services.into_iter().map(|s| (s.id.clone(), s)).collect(),
        })
}

/// The addresses of pods: few, so that pods collide.
pub fn pod_addresses() -> Vec<IpAddr> {
    let v4 = (1..=9).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)));
    let v6 = (1..=5).map(|n| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n)));
    v4.chain(v6).collect()
}

/// The addresses that nodes may have: one of each inside the pods' range, as a bridge has it.
pub fn node_addresses(node: &str) -> Vec<IpAddr> {
    let n = if node == "n1" { 1 } else { 2 };
    vec![
        IpAddr::V4(Ipv4Addr::new(192, 168, 0, n)),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 12 + n)),
        IpAddr::V6(Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, n.into())),
    ]
}

/// Addresses outside the cluster.
pub fn external_addresses() -> Vec<IpAddr> {
    [
        "203.0.113.64",
        "203.0.113.70",
        "10.0.0.15",
        "8.8.8.8",
        "2001:db8::1",
        "fd00::99",
    ]
    .map(|text| text.parse().expect("an address"))
    .to_vec()
}

/// The addresses of services, an external one and nodes' own among them.
fn service_addresses() -> Vec<IpAddr> {
    [
        "10.96.0.1",
        "10.96.0.2",
        "fd96::1",
        "203.0.113.70",
        "192.168.0.1",
        "192.168.0.2",
    ]
    .map(|text| text.parse().expect("an address"))
    .to_vec()
}

fn every_address() -> Vec<IpAddr> {
    let mut all = pod_addresses();
    all.extend(node_addresses("n1"));
    all.extend(node_addresses("n2"));
    all.extend(external_addresses());
    all.extend(service_addresses());
    all
}

/// A namespace, mostly with labels.
pub fn namespace(name: &'static str) -> impl Strategy<Value = Namespace> {
    (labels(), mode(), option::weighted(0.5, tcp_path())).prop_map(
        move |(mut labels, mode, tcp_path)| {
            labels.insert("kubernetes.io/metadata.name", name);
            Namespace {
                tcp_path,
                name: name.into(),
                labels,
                mode,
            }
        },
    )
}

/// A node with some of its addresses.
pub fn node(name: &'static str) -> impl Strategy<Value = Node> {
    subsequence(node_addresses(name), 1..=3).prop_map(move |addresses| Node {
        name: name.into(),
        addresses,
    })
}

fn labels() -> impl Strategy<Value = Labels> {
    vec((select(&KEYS[..]), select(&VALUES[..])), 0..3).prop_map(Labels::from_iter)
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![5 => Just(Mode::Enforce), 1 => Just(Mode::Audit)]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

/// A pod in any state.
pub fn pod() -> impl Strategy<Value = Pod> {
    let id = (select(&NAMESPACES[..]), 0..4)
        .prop_map(|(namespace, n)| NamespacedName::new(namespace, format!("pod-{n}")));
    let phase = prop_oneof![
        6 => Just(Phase::Running),
        1 => Just(Phase::Pending),
        1 => Just(Phase::Unknown),
        2 => Just(Phase::Terminal),
    ];
    let port = (select(&PORT_NAMES[..2]), protocol(), select(&PORTS[..])).prop_map(
        |(name, protocol, number)| PodPort {
            name: name.into(),
            protocol,
            number,
        },
    );
    (
        id,
        labels(),
        option::weighted(0.9, select(&NODES[..])),
        vec(select(pod_addresses()), 0..4),
        prop::bool::weighted(0.15),
        phase,
        0..2i64,
        vec(port, 0..4),
        option::weighted(0.5, tcp_path()),
    )
        .prop_map(
            |(id, labels, node, ips, host_network, phase, created, ports, tcp_path)| Pod {
                id,
                labels,
                // `semantics G12`: a host-network pod has its node's addresses.
                ips: match node {
                    Some(node) if host_network => node_addresses(node),
                    _ => ips,
                },
                node: node.map(Arc::from),
                host_network,
                uid: None,
                phase,
                created,
                ports,
                tcp_path,
            },
        )
}

fn tcp_path() -> impl Strategy<Value = TcpPath> {
    select(&[TcpPath::Sidecar, TcpPath::NodeProxy, TcpPath::Kernel][..])
}

/// A selector; empty ones among them.
pub fn selector() -> impl Strategy<Value = Selector> {
    let values = || vec(select(&VALUES[..]).prop_map(Arc::from), 1..3);
    let test = prop_oneof![
        3 => values().prop_map(Test::In),
        2 => values().prop_map(Test::NotIn),
        1 => Just(Test::Exists),
        1 => Just(Test::DoesNotExist),
    ];
    let requirement = (select(&KEYS[..]), test).prop_map(|(key, test)| Requirement {
        key: key.into(),
        test,
    });
    prop_oneof![
        1 => Just(Selector::everything()),
        2 => vec(requirement, 1..3).prop_map(Selector::new),
    ]
}

fn by_name() -> impl Strategy<Value = Selector> {
    select(&NAMESPACES[..]).prop_map(|name| {
        Selector::new(vec![Requirement {
            key: "kubernetes.io/metadata.name".into(),
            test: Test::In(vec![name.into()]),
        }])
    })
}

/// A block around some address of interest, with excepts that mostly lie around others.
fn block() -> impl Strategy<Value = IpBlock> {
    let prefixes = || select(&[0u8, 4, 8, 16, 24, 27, 28, 29, 30, 31, 32][..]);
    let excepts = vec((any::<Index>(), prefixes()), 0..4);
    (select(every_address()), prefixes(), excepts).prop_map(|(ip, prefix, excepts)| {
        let cidr = around(ip, prefix);
        let within: Vec<IpAddr> = every_address()
            .into_iter()
            .filter(|ip| cidr.contains(ip))
            .collect();
        let except = excepts
            .into_iter()
            .map(|(index, prefix)| around(*index.get(&within), prefix))
            .filter(|net| net.prefix_len() > cidr.prefix_len())
            .collect();
        IpBlock { cidr, except }
    })
}

/// A network around an address. IPv6 prefixes are 96 longer, or none at all.
fn around(ip: IpAddr, prefix: u8) -> IpNet {
    let prefix = match ip {
        IpAddr::V6(_) if prefix > 0 => prefix + 96,
        _ => prefix,
    };
    IpNet::new(ip, prefix).expect("a prefix").trunc()
}

fn peers() -> impl Strategy<Value = Peers> {
    let scope = prop_oneof![
        Just(NamespaceScope::Own),
        selector().prop_map(NamespaceScope::Matching),
        by_name().prop_map(NamespaceScope::Matching),
    ];
    let pods = (scope, selector()).prop_map(|(namespaces, pods)| PodPeer { namespaces, pods });
    let peer = prop_oneof![
        3 => pods.prop_map(Peer::Pods),
        2 => block().prop_map(Peer::Block),
    ];
    prop_oneof![
        1 => Just(Peers::Any),
        4 => vec(peer, 0..4).prop_map(Peers::Of),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    let range = prop_oneof![
        1 => Just(PortRange::All),
        4 => (select(&PORTS[..]), select(&PORTS[..])).prop_map(|(a, b)| PortRange::Numbers {
            low: a.min(b),
            high: a.max(b),
        }),
        2 => select(&PORTS[..]).prop_map(|n| PortRange::Numbers { low: n, high: n }),
        4 => select(&PORT_NAMES[..]).prop_map(|name| PortRange::Named(name.into())),
    ];
    let port = (protocol(), range).prop_map(|(protocol, port)| PortMatch { protocol, port });
    prop_oneof![
        2 => Just(Ports::Any),
        4 => vec(port, 0..4).prop_map(Ports::Of),
    ]
}

fn rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let rules = vec((peers(), ports()), 0..4).prop_map(|rules| {
        (0..)
            .zip(rules)
            .map(|(index, (peers, ports))| Rule {
                index,
                peers,
                ports,
            })
            .collect()
    });
    option::weighted(0.6, rules)
}

/// A policy.
pub fn policy() -> impl Strategy<Value = NetworkPolicy> {
    (
        select(&NAMESPACES[..]),
        0..4,
        selector(),
        rules(),
        rules(),
        mode(),
    )
        .prop_map(
            |(namespace, n, pod_selector, ingress, egress, mode)| NetworkPolicy {
                id: NamespacedName::new(namespace, format!("policy-{n}")),
                pod_selector,
                ingress,
                egress,
                mode,
            },
        )
}

/// A service with its backends.
pub fn service() -> impl Strategy<Value = Service> {
    let elsewhere = [
        node_addresses("n1"),
        node_addresses("n2"),
        external_addresses(),
    ]
    .concat();
    let ip = prop_oneof![3 => select(pod_addresses()), 1 => select(elsewhere)];
    let backend = (ip, select(&PORTS[..4])).prop_map(|(ip, port)| Backend { ip, port });
    let port = (
        protocol(),
        select(&SERVICE_PORTS[..]),
        option::weighted(0.3, select(&NODE_PORTS[..])),
        vec(backend, 0..6),
    )
        .prop_map(|(protocol, port, node_port, backends)| ServicePort {
            protocol,
            port,
            node_port,
            backends,
        });
    (
        (select(&NAMESPACES[..]), 0..3),
        subsequence(service_addresses(), 0..=2),
        subsequence(service_addresses(), 0..=2),
        vec(port, 1..3),
    )
        .prop_map(
            |((namespace, n), cluster_ips, external_ips, ports)| Service {
                id: NamespacedName::new(namespace, format!("service-{n}")),
                cluster_ips,
                external_ips,
                ports,
            },
        )
}
