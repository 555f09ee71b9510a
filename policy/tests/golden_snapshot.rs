//! The bytes of format version 1. A distributor and a filter of neighbouring releases meet on a
//! cluster: what one writes the other must read, or refuse by its version.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidewall-policy --test golden_snapshot` writes the file anew. That
//! is right only together with a new version, or before the first release.

use std::net::IpAddr;
use std::path::Path;

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::model::{
    Cluster, IpBlock, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers,
    Phase, Pod, PodPeer, PodPort, PortMatch, PortRange, Ports, Protocol, Rule, Selector,
};
use sidewall_policy::snapshot::Snapshot;

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

#[test]
fn the_format_of_version_1_is_what_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.snapshot");
    let subject = NamespacedName::new("shop", "db");
    let written = compile_snapshot(&cluster(), &[subject], &Options::default());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &written).expect("written");
    }
    let golden = std::fs::read(&path).expect("the golden file");
    assert!(
        written == golden,
        "the bytes of a snapshot have changed: raise VERSION in policy/src/snapshot/layout.rs"
    );

    let snapshot = Snapshot::check(golden).expect("it is still read");
    for (from, to, protocol, port, allowed) in [
        ("10.244.2.11", "10.244.1.10", 6, 5432, true),
        ("fd00:244:2::11", "fd00:244:1::10", 6, 5432, true),
        ("10.244.2.11", "10.244.1.10", 6, 5433, false),
        ("10.244.2.11", "10.244.1.10", 17, 5432, false),
        ("172.16.0.9", "10.244.1.10", 17, 150, true),
        ("172.17.0.9", "10.244.1.10", 17, 150, false),
        ("2001:db8::9", "fd00:244:1::10", 17, 200, true),
        ("2001:db8:1::9", "fd00:244:1::10", 17, 200, false),
        ("10.244.1.10", "8.8.8.8", 6, 443, true),
    ] {
        let flow = Flow {
            source: ip(from),
            destination: ip(to),
            protocol,
            port,
        };
        let verdict = if allowed {
            Verdict::Allow
        } else {
            Verdict::Deny
        };
        assert_eq!(snapshot.judge(&flow).verdict, verdict, "{flow:?}");
    }
}
