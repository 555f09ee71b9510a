//! What each kind of event compiles again in the bundles of nodes.

use std::net::IpAddr;

use sidewall_policy::compile::Options;
use sidewall_policy::model::{Phase, Pod, TcpPath};
use sidewall_policy::snapshot::{Snapshot, pending_address};

use super::build::*;
use super::{Followed, delete};
use crate::cluster::Object;
use crate::snapshots::Recipient;

#[test]
fn only_a_node_with_a_redirected_pod_follows_the_addresses_of_services() {
    let mut followed = Followed::new(Options {
        node_plane: true,
        ..Options::default()
    });
    let on = |node: &str, address: &str, tcp_path| {
        apply(Object::Pod(Pod {
            node: Some(node.into()),
            tcp_path,
            ..pod("x", node, "web", address)
        }))
    };
    let redirected = Some(TcpPath::NodeProxy);
    followed.apply([
        apply(namespace("x", "red")),
        on("n1", "10.0.0.1", redirected),
        on("n2", "10.0.0.2", None),
        apply(Object::Service(service("x", "s", "web", "10.96.0.1"))),
    ]);
    let known = |followed: &Followed, node: &str| {
        let bytes = &followed.snapshots[&Recipient::Node(node.into())];
        let snapshot = Snapshot::check(bytes.clone()).unwrap();
        snapshot.service_addresses().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(known(&followed, "n1"), [ip("10.96.0.1")]);
    assert_eq!(known(&followed, "n2"), [] as [IpAddr; 0]);

    let moved = apply(Object::Service(service("x", "s", "web", "10.96.0.2")));
    assert_eq!(followed.apply([moved]), ["node n1"]);
    assert_eq!(known(&followed, "n1"), [ip("10.96.0.2")]);
    let backend = apply(Object::EndpointSlice(slice("x", "s-1", "s", "10.0.0.9")));
    assert_eq!(followed.apply([backend]), [""; 0]);

    // The pods swap what they ask for.
    followed.apply([on("n1", "10.0.0.1", None), on("n2", "10.0.0.2", redirected)]);
    assert_eq!(known(&followed, "n1"), [] as [IpAddr; 0]);
    assert_eq!(known(&followed, "n2"), [ip("10.96.0.2")]);
    let added = apply(Object::Service(service("x", "t", "web", "10.96.0.3")));
    assert_eq!(followed.apply([added]), ["node n2"]);
}

#[test]
fn a_node_has_its_pods_together_and_follows_only_them() {
    let mut followed = Followed::new(Options {
        node_plane: true,
        ..Options::default()
    });
    let on = |pod: Pod, node: &str| {
        apply(Object::Pod(Pod {
            node: Some(node.into()),
            ..pod
        }))
    };
    let web = || pod("x", "web", "web", "10.0.0.1");
    let db = || pod("x", "db", "db", "10.0.0.2");
    let compiled = followed.apply([
        apply(namespace("x", "red")),
        apply(node("n1", &["192.168.0.1"])),
        apply(node("n3", &["192.168.0.3"])),
        on(web(), "n1"),
        on(db(), "n2"),
    ]);
    // n2 has no Node object, but a pod; n3 is a node without pods.
    assert_eq!(compiled, ["x/db", "x/web", "node n1", "node n2", "node n3"]);

    let isolated = apply(policy("x", "db", Some("db"), Some(vec![]), None));
    assert_eq!(followed.apply([isolated]), ["x/db", "node n2"]);

    let mut ended = db();
    ended.phase = Phase::Terminal;
    assert_eq!(followed.apply([on(ended, "n2")]), [""; 0]);
    assert!(
        !followed
            .snapshots
            .contains_key(&Recipient::Node("n2".into()))
    );

    // Its address goes to a pod of another node.
    let reused = on(pod("x", "other", "other", "10.0.0.2"), "n3");
    assert_eq!(followed.apply([reused]), ["x/other", "node n3"]);
    let mut shared = pod("x", "host", "host", "192.168.0.3");
    shared.host_network = true;
    assert_eq!(followed.apply([on(shared, "n3")]), ["node n3"]);
    let moved = on(web(), "n3");
    assert_eq!(followed.apply([moved]), ["x/web", "node n1", "node n3"]);
    assert_eq!(followed.snapshots, followed.compiled_from_scratch());
}

#[test]
fn a_pod_without_an_address_waits_in_the_bundle_of_its_node_alone() {
    let options = Options {
        node_plane: true,
        ..Options::default()
    };
    let mut followed = Followed::new(options);
    followed.apply([apply(node("n1", &["192.168.0.1"]))]);
    let waiting = |uid: &str| {
        let mut pod = pod("x", "web", "web", "10.0.0.1");
        pod.ips.clear();
        pod.uid = Some(uid.into());
        pod
    };
    let owner = |followed: &Followed, uid: &str| {
        let bytes = &followed.snapshots[&Recipient::Node("n1".into())];
        let snapshot = Snapshot::check(bytes.clone()).unwrap();
        let owner = snapshot.owner(pending_address(uid).into());
        owner.map(|pod| pod.name.to_owned())
    };
    let added = apply(Object::Pod(waiting("u1")));
    assert_eq!(followed.apply([added]), ["node n1"]);
    assert_eq!(owner(&followed, "u1").as_deref(), Some("web"));
    // Another pod of the same name.
    let replaced = apply(Object::Pod(waiting("u2")));
    assert_eq!(followed.apply([replaced]), ["node n1"]);
    assert_eq!(owner(&followed, "u1"), None);
    assert_eq!(owner(&followed, "u2").as_deref(), Some("web"));
    let mut started = waiting("u2");
    started.ips = vec![ip("10.0.0.1")];
    assert_eq!(
        followed.apply([apply(Object::Pod(started))]),
        ["x/web", "node n1"]
    );
    assert_eq!(owner(&followed, "u2"), None);
    followed.apply([apply(Object::Pod(waiting("u3")))]);
    let gone = Object::Pod(waiting("u3"));
    assert_eq!(followed.apply([delete(&gone)]), ["node n1"]);
    assert_eq!(owner(&followed, "u3"), None);
}

#[test]
fn a_waiting_pod_replaced_on_another_node_leaves_the_bundle_of_the_first() {
    let options = Options {
        node_plane: true,
        ..Options::default()
    };
    let mut followed = Followed::new(options);
    let waiting = |node: &str| {
        let mut pod = pod("x", "web", "web", "10.0.0.1");
        pod.ips.clear();
        pod.uid = Some("u1".into());
        pod.node = Some(node.into());
        apply(Object::Pod(pod))
    };
    followed.apply([
        apply(node("n1", &["192.168.0.1"])),
        apply(node("n2", &["192.168.0.2"])),
    ]);
    assert_eq!(followed.apply([waiting("n1")]), ["node n1"]);
    assert_eq!(followed.apply([waiting("n2")]), ["node n1", "node n2"]);
    assert_eq!(followed.snapshots, followed.compiled_from_scratch());
}
