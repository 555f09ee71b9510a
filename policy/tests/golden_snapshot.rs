//! The bytes of each format version that is read. A distributor and a filter of neighbouring releases
//! meet on a cluster: what one writes the other must read; of others it refuses them by their version.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidewall-policy --test golden_snapshot` writes the files of the current
//! version anew. That is right only together with a new version, or before the first release. The files
//! of an older version are what its release wrote, and stay for as long as it is read.

#[path = "support/verdicts.rs"]
mod verdicts;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::Verdict;
use sidewall_policy::model::{
    Backend, Cluster, IpBlock, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Node,
    Peer, Peers, Phase, Pod, PodPeer, PodPort, PortMatch, PortRange, Ports, Protocol, Requirement,
    Rule, Selector, Service, ServicePort, TcpPath, Test,
};
use sidewall_policy::snapshot::{READABLE, Snapshot, VERSION};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Two pods of both families. `db` takes `web` at its port named `sql`, and a block with an exception
/// at a range of UDP ports; what it sends is observed only.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, v4, v6) in [
        ("db", "10.244.1.10", "fd00:244:1::10"),
        ("web", "10.244.2.11", "fd00:244:2::11"),
    ] {
        let pod = Pod {
            id: NamespacedName::new("shop", name),
            labels: Labels::from_iter([("app", name)]),
            node: Some("n1".into()),
            ips: vec![ip(v4), ip(v6)],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            tcp_path: None,
            ports: vec![PodPort {
                name: "sql".into(),
                protocol: Protocol::Tcp,
                number: 5432,
            }],
        };
        cluster.pods.insert(pod.id.clone(), pod);
    }
    let rule = |index, peer, protocol, port| Rule {
        index,
        peers: Peers::Of(vec![peer]),
        ports: Ports::Of(vec![PortMatch { protocol, port }]),
    };
    let block = |cidr: &str, except: &str| {
        Peer::Block(IpBlock {
            cidr: cidr.parse().expect("a network"),
            except: vec![except.parse().expect("a network")],
        })
    };
    let everybody = Peer::Pods(PodPeer {
        namespaces: NamespaceScope::Own,
        pods: Selector::everything(),
    });
    let range = PortRange::Numbers {
        low: 100,
        high: 200,
    };
    for (name, ingress, egress, mode) in [
        (
            "in",
            Some(vec![
                rule(0, everybody, Protocol::Tcp, PortRange::Named("sql".into())),
                rule(
                    1,
                    block("172.16.0.0/12", "172.17.0.0/16"),
                    Protocol::Udp,
                    range.clone(),
                ),
                rule(
                    2,
                    block("2001:db8::/32", "2001:db8:1::/48"),
                    Protocol::Udp,
                    range,
                ),
            ]),
            None,
            Mode::Enforce,
        ),
        ("out", None, Some(Vec::new()), Mode::Audit),
    ] {
        let policy = NetworkPolicy {
            id: NamespacedName::new("shop", name),
            pod_selector: Selector::everything(),
            ingress,
            egress,
            mode,
        };
        cluster.policies.insert(policy.id.clone(), policy);
    }
    cluster
}

/// The same pods on their node, which carries the TCP of `web`; and a Service, at a ClusterIP and on a
/// port of nodes, of which `web` may reach one backend.
fn node_cluster() -> Cluster {
    let mut cluster = cluster();
    let node = Node {
        name: "n1".into(),
        addresses: vec![ip("192.168.50.1"), ip("fd50::1")],
    };
    cluster.nodes.insert(Arc::clone(&node.name), node);
    for (name, path) in [("db", TcpPath::Sidecar), ("web", TcpPath::Kernel)] {
        let pod = cluster.pods.get_mut(&NamespacedName::new("shop", name));
        pod.expect("it is there").tcp_path = Some(path);
    }
    let to_db = NetworkPolicy {
        id: NamespacedName::new("shop", "to-db"),
        pod_selector: Selector::new(vec![Requirement {
            key: "app".into(),
            test: Test::In(vec!["web".into()]),
        }]),
        ingress: None,
        egress: Some(vec![Rule {
            index: 0,
            peers: Peers::Of(vec![Peer::Pods(PodPeer {
                namespaces: NamespaceScope::Own,
                pods: Selector::everything(),
            })]),
            ports: Ports::Any,
        }]),
        mode: Mode::Enforce,
    };
    cluster.policies.insert(to_db.id.clone(), to_db);
    let backend = |address, port| Backend {
        ip: ip(address),
        port,
    };
    let service = Service {
        id: NamespacedName::new("shop", "db"),
        cluster_ips: vec![ip("10.96.0.7")],
        external_ips: Vec::new(),
        ports: vec![ServicePort {
            protocol: Protocol::Tcp,
            port: 5432,
            node_port: Some(30543),
            backends: vec![backend("10.244.1.10", 5432), backend("203.0.113.9", 5432)],
        }],
    };
    cluster.services.insert(service.id.clone(), service);
    cluster
}

/// The golden files of a version: what a sidecar gets and what a node gets.
fn golden(version: u16, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}.{name}"))
}

#[test]
fn the_bytes_that_are_written_are_what_they_were() {
    let subjects = ["db", "web"].map(|name| NamespacedName::new("shop", name));
    let node_plane = Options {
        node_plane: true,
        ..Options::default()
    };
    let redirecting = Options {
        tcp_path: TcpPath::NodeProxy,
        ..Options::default()
    };
    for (name, written) in [
        (
            "snapshot",
            compile_snapshot(&cluster(), &subjects[..1], &redirecting),
        ),
        (
            "node.snapshot",
            compile_snapshot(&node_cluster(), &subjects, &node_plane),
        ),
    ] {
        let path = golden(VERSION, name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &written).expect("written");
        }
        assert!(
            written == std::fs::read(&path).expect("the golden file"),
            "{}: the bytes of a snapshot have changed: raise VERSION in policy/src/snapshot/layout.rs",
            path.display()
        );
    }
}

/// What this release reads it reads as the release that wrote it: the verdicts of each file stand
/// beside it.
#[test]
fn every_version_that_is_read_is_read_as_it_was_meant() {
    assert!(READABLE.contains(&VERSION));
    for version in READABLE {
        for name in ["snapshot", "node.snapshot"] {
            let path = golden(version, name);
            let bytes =
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let snapshot = Snapshot::check(bytes).expect("it is still read");
            let verdicts = std::fs::read_to_string(path.with_extension("verdicts"));
            let flows = verdicts::read(&verdicts.expect("the verdicts beside it"));
            assert!(flows.iter().any(|(_, allowed)| *allowed));
            for (flow, allowed) in flows {
                let judged = snapshot.judge(&flow).verdict == Verdict::Allow;
                assert_eq!(judged, allowed, "{}: {flow:?}", path.display());
            }
        }
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    let bytes = std::fs::read(golden(VERSION, "snapshot")).expect("the golden file");
    for version in [READABLE.start() - 1, READABLE.end() + 1, u16::MAX] {
        let mut other = bytes.clone();
        other[8..10].copy_from_slice(&version.to_le_bytes());
        let refused = Snapshot::check(other)
            .expect_err("it is not read")
            .to_string();
        let named = format!("format version {version} is not one that is read here");
        assert!(
            refused.starts_with(&named) && refused.contains("upgrade the older ones"),
            "{refused}"
        );
    }
}
