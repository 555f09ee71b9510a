//! Rows of `semantics 1B` to `1I` that need no packets, told as small worlds.
//!
//! Every verdict asked for here is asked of the compiled snapshot as well.

mod combination;
mod identity;
mod ports;
mod services;

use std::net::IpAddr;

use super::{Opinion, judge};
use crate::compile::{Options, compile_snapshot};
use crate::eval::{Flow, Verdict};
use crate::model::{
    Backend, Cluster, Direction, IpBlock, Labels, Mode, Namespace, NamespaceScope, NamespacedName,
    NetworkPolicy, Node, Peer, Peers, Phase, Pod, PodPeer, PodPort, PortMatch, PortRange, Ports,
    Protocol, Requirement, Rule, Selector, Service, ServicePort, Test,
};
use crate::snapshot::Snapshot;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Namespaces `shop` (team=a) and `bank` (team=b) on nodes `n1` (192.168.0.1, 10.0.0.254 and
/// fd01::1) and `n2` (192.168.0.2):
///
/// | pod      | addresses         | node | ports                        |
/// |----------|-------------------|------|------------------------------|
/// | shop/web | 10.0.0.1, fd00::1 | n1   | http TCP 8080                |
/// | shop/db  | 10.0.0.2          | n2   | http TCP 81, dns UDP 53      |
/// | bank/web | 10.0.0.3          | n1   | http TCP 80, dns TCP 53      |
///
/// Each is labelled `app` with its name.
fn world() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, team) in [("shop", "a"), ("bank", "b")] {
        let namespace = Namespace {
            tcp_path: None,
            name: name.into(),
            labels: Labels::from_iter([("team", team), ("kubernetes.io/metadata.name", name)]),
            mode: Mode::Enforce,
        };
        cluster.namespaces.insert(name.into(), namespace);
    }
    for (name, addresses) in [
        ("n1", &["192.168.0.1", "10.0.0.254", "fd01::1"][..]),
        ("n2", &["192.168.0.2"]),
    ] {
        let node = Node {
            name: name.into(),
            addresses: addresses.iter().map(|a| ip(a)).collect(),
        };
        cluster.nodes.insert(name.into(), node);
    }
    for (namespace, name, addresses, node, ports) in [
        (
            "shop",
            "web",
            &["10.0.0.1", "fd00::1"][..],
            "n1",
            &[("http", Protocol::Tcp, 8080)][..],
        ),
        (
            "shop",
            "db",
            &["10.0.0.2"],
            "n2",
            &[("http", Protocol::Tcp, 81), ("dns", Protocol::Udp, 53)],
        ),
        (
            "bank",
            "web",
            &["10.0.0.3"],
            "n1",
            &[("http", Protocol::Tcp, 80), ("dns", Protocol::Tcp, 53)],
        ),
    ] {
        let pod = Pod {
            id: NamespacedName::new(namespace, name),
            labels: Labels::from_iter([("app", name)]),
            node: Some(node.into()),
            ips: addresses.iter().map(|a| ip(a)).collect(),
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            tcp_path: None,
            ports: ports
                .iter()
                .map(|(name, protocol, number)| PodPort {
                    name: (*name).into(),
                    protocol: *protocol,
                    number: *number,
                })
                .collect(),
        };
        cluster.pods.insert(pod.id.clone(), pod);
    }
    cluster
}

const WEB: &str = "10.0.0.1";
const DB: &str = "10.0.0.2";
const BANK: &str = "10.0.0.3";
const OUTSIDE: &str = "203.0.113.9";

fn pod<'c>(cluster: &'c mut Cluster, namespace: &str, name: &str) -> &'c mut Pod {
    cluster
        .pods
        .get_mut(&NamespacedName::new(namespace, name))
        .expect("a pod of the world")
}

/// `key in (value)`.
fn label(key: &str, value: &str) -> Selector {
    requirement(key, Test::In(vec![value.into()]))
}

fn requirement(key: &str, test: Test) -> Selector {
    Selector::new(vec![Requirement {
        key: key.into(),
        test,
    }])
}

fn own(pods: Selector) -> Peer {
    Peer::Pods(PodPeer {
        namespaces: NamespaceScope::Own,
        pods,
    })
}

fn everywhere(namespaces: Selector, pods: Selector) -> Peer {
    Peer::Pods(PodPeer {
        namespaces: NamespaceScope::Matching(namespaces),
        pods,
    })
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let net = |text: &str| text.parse().expect("a CIDR");
    Peer::Block(IpBlock {
        cidr: net(cidr),
        except: except.iter().map(|e| net(e)).collect(),
    })
}

fn number(protocol: Protocol, low: u16, high: u16) -> Ports {
    Ports::Of(vec![PortMatch {
        protocol,
        port: PortRange::Numbers { low, high },
    }])
}

fn named(protocol: Protocol, name: &str) -> Ports {
    Ports::Of(vec![PortMatch {
        protocol,
        port: PortRange::Named(name.into()),
    }])
}

/// Adds a policy of one direction with these rules.
fn policy(
    cluster: &mut Cluster,
    (namespace, name): (&str, &str),
    selector: Selector,
    direction: Direction,
    rules: Vec<(Peers, Ports)>,
) {
    let rules: Vec<Rule> = (0..)
        .zip(rules)
        .map(|(index, (peers, ports))| Rule {
            index,
            peers,
            ports,
        })
        .collect();
    let (ingress, egress) = match direction {
        Direction::Ingress => (Some(rules), None),
        Direction::Egress => (None, Some(rules)),
    };
    let policy = NetworkPolicy {
        id: NamespacedName::new(namespace, name),
        pod_selector: selector,
        ingress,
        egress,
        mode: Mode::Enforce,
    };
    cluster.policies.insert(policy.id.clone(), policy);
}

/// Isolates every pod of `shop` in one direction, but for what these rules allow.
fn isolate(cluster: &mut Cluster, direction: Direction, rules: Vec<(Peers, Ports)>) {
    let name = format!("only-{direction}");
    policy(
        cluster,
        ("shop", &name),
        Selector::everything(),
        direction,
        rules,
    );
}

/// Adds a service `shop/svc` at 10.96.0.1 and fd96::1, port 80 and node port 30080.
fn service(cluster: &mut Cluster, backends: &[(&str, u16)]) {
    let service = Service {
        id: NamespacedName::new("shop", "svc"),
        cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")],
        external_ips: Vec::new(),
        ports: vec![ServicePort {
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
            backends: backends
                .iter()
                .map(|(address, port)| Backend {
                    ip: ip(address),
                    port: *port,
                })
                .collect(),
        }],
    };
    cluster.services.insert(service.id.clone(), service);
}

fn flow(source: &str, destination: &str, protocol: u8, port: u16) -> Flow {
    Flow {
        source: ip(source),
        destination: ip(destination),
        protocol,
        port,
    }
}

/// The opinion on a flow, which the compiled snapshot must share.
fn opinion(cluster: &Cluster, options: &Options, flow: &Flow) -> Opinion {
    let opinion = judge(cluster, options, flow);
    let subjects: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
    let snapshot = Snapshot::check(compile_snapshot(cluster, &subjects, options))
        .expect("a snapshot of the compiler");
    let decision = snapshot.judge(flow);
    assert_eq!(
        (opinion.allowed, opinion.would_deny),
        (decision.verdict == Verdict::Allow, decision.would_deny()),
        "{flow:?}: the reference says {opinion:?}, the snapshot {decision:?}"
    );
    opinion
}

fn allows(cluster: &Cluster, flow: Flow) -> bool {
    opinion(cluster, &Options::default(), &flow).allowed
}

fn tcp(cluster: &Cluster, source: &str, destination: &str, port: u16) -> bool {
    allows(cluster, flow(source, destination, TCP, port))
}
