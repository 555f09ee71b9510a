//! Bound snapshots against what the compiler makes once it knows the address.

use std::net::IpAddr;

use super::{Claim, pending_address};
use crate::compile::{Options, compile_node_snapshot};
use crate::model::{Cluster, Labels, NamespacedName, Node, Phase, Pod};
use crate::snapshot::Snapshot;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn pod(name: &str, uid: &str, ips: &[&str]) -> Pod {
    Pod {
        id: NamespacedName::new("shop", name),
        labels: Labels::from_iter([("app", name)]),
        node: Some("n1".into()),
        ips: ips.iter().map(|text| ip(text)).collect(),
        host_network: false,
        uid: Some(uid.into()),
        phase: Phase::Pending,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    }
}

fn snapshot(pods: &[Pod]) -> Snapshot {
    let mut cluster = Cluster::default();
    let node = Node {
        name: "n1".into(),
        addresses: vec![ip("192.168.0.1")],
    };
    cluster.nodes.insert(node.name.clone(), node);
    for pod in pods {
        cluster.pods.insert(pod.id.clone(), pod.clone());
    }
    let ids: Vec<_> = cluster.pods.keys().cloned().collect();
    Snapshot::check(compile_node_snapshot(&cluster, &ids, &Options::default())).expect("good")
}

fn claim(name: &str, uid: &str, addresses: &[&str]) -> Claim {
    Claim {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
    }
}

fn owner(snapshot: &Snapshot, address: &str) -> Option<String> {
    snapshot.owner(ip(address)).map(|pod| pod.name.to_owned())
}

#[test]
fn a_bound_snapshot_has_the_bytes_that_the_compiler_makes_of_the_address() {
    let other = pod("b", "u2", &["10.0.0.2", "fd00::2"]);
    let pending = snapshot(&[pod("a", "u1", &[]), other.clone()]);
    assert!(pending.has_pending());
    let bound = pending
        .bind(&[claim("a", "u1", &["10.0.0.1", "fd00::1"])])
        .unwrap();
    let known = snapshot(&[pod("a", "u1", &["10.0.0.1", "fd00::1"]), other]);
    assert_eq!(bound.bytes(), known.bytes());
    assert_eq!(bound.revision(), known.revision());
    assert!(!bound.has_pending());
    let again = known.bind(&[claim("a", "u1", &["10.0.0.1"])]).unwrap();
    assert_eq!(again.bytes(), known.bytes());
}

#[test]
fn a_pod_of_another_uid_or_name_is_not_bound() {
    let pending = snapshot(&[pod("a", "u1", &[])]);
    for wrong in [
        claim("a", "u0", &["10.0.0.1"]),
        claim("b", "u1", &["10.0.0.1"]),
        claim("a", "u1", &["192.168.0.1"]),
    ] {
        let bound = pending.bind(std::slice::from_ref(&wrong)).unwrap();
        assert_eq!(owner(&bound, "10.0.0.1"), None, "{wrong:?}");
        assert_eq!(owner(&bound, "192.168.0.1"), None, "{wrong:?}");
        assert_eq!(bound.owner(pending_address("u1").into()), None);
    }
}

#[test]
fn an_address_goes_to_the_pod_that_has_it_now() {
    let reused = snapshot(&[pod("a", "u1", &[]), pod("gone", "u0", &["10.0.0.1"])]);
    assert_eq!(owner(&reused, "10.0.0.1").as_deref(), Some("gone"));
    let bound = reused.bind(&[claim("a", "u1", &["10.0.0.1"])]).unwrap();
    assert_eq!(owner(&bound, "10.0.0.1").as_deref(), Some("a"));
}
