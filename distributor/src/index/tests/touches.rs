//! What each kind of event compiles again, and what it leaves alone.

use sidewall_policy::compile::Options;
use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::model::{Mode, Namespace, Phase, TcpPath};
use sidewall_policy::snapshot::Snapshot;

use super::build::*;
use super::{Followed, delete, delete_ref};
use crate::cluster::{Kind, Object, ObjectRef};
use crate::snapshots::Recipient;

/// `x/web` may be reached by `x/db`, `y/web` by everyone; `z/tool` stands for itself.
fn cluster() -> Followed {
    let mut followed = Followed::new(Options::default());
    let compiled = followed.apply([
        apply(namespace("x", "red")),
        apply(namespace("y", "blue")),
        apply(namespace("z", "blue")),
        apply(node("n1", &["192.168.0.1"])),
        apply(Object::Pod(pod("x", "web", "web", "10.0.0.1"))),
        apply(Object::Pod(pod("x", "db", "db", "10.0.0.2"))),
        apply(Object::Pod(pod("y", "web", "web", "10.0.0.3"))),
        apply(Object::Pod(pod("z", "tool", "tool", "10.0.0.4"))),
        apply(policy(
            "x",
            "to-web",
            Some("web"),
            Some(vec![rule(
                vec![from_app("db"), from_team("red", Some("probe"))],
                vec![],
            )]),
            None,
        )),
        apply(policy(
            "z",
            "from-tool",
            None,
            None,
            Some(vec![rule(vec![from_team("blue", None)], vec![])]),
        )),
    ]);
    assert_eq!(compiled, ["x/db", "x/web", "y/web", "z/tool"]);
    followed
}

#[test]
fn a_pod_touches_itself_and_those_whose_peers_it_matches() {
    let mut followed = cluster();
    let added = apply(Object::Pod(pod("x", "db-2", "db", "10.0.0.5")));
    assert_eq!(followed.apply([added]), ["x/db-2", "x/web"]);
    let added = apply(Object::Pod(pod("y", "other", "other", "10.0.0.6")));
    assert_eq!(followed.apply([added]), ["y/other", "z/tool"]);
    let mut unknown = pod("w", "stranger", "db", "10.0.0.7");
    unknown.node = None;
    assert_eq!(
        followed.apply([apply(Object::Pod(unknown))]),
        ["w/stranger"]
    );
}

#[test]
fn the_same_object_again_touches_nobody() {
    let mut followed = cluster();
    let again = apply(Object::Pod(pod("x", "web", "web", "10.0.0.1")));
    assert_eq!(followed.apply([again]), [""; 0]);
    let gone = ObjectRef::new(Kind::Pod, name("x", "never-seen"));
    assert_eq!(followed.apply([delete_ref(gone)]), [""; 0]);
}

#[test]
fn replicas_share_a_body_and_a_new_one_compiles_none() {
    let mut followed = cluster();
    followed.apply([apply(Object::Pod(pod("x", "web-2", "web", "10.0.0.8")))]);
    let bodies = [name("x", "web"), name("x", "web-2")].map(|id| {
        let body = followed.index.groups.of(&id).expect("a body");
        std::sync::Arc::as_ptr(body)
    });
    assert_eq!(bodies[0], bodies[1]);
}

#[test]
fn a_relabelled_namespace_touches_those_who_select_it() {
    let mut followed = cluster();
    assert_eq!(followed.apply([apply(namespace("y", "red"))]), ["z/tool"]);
    let gone = delete(&namespace("z", "blue"));
    assert_eq!(followed.apply([gone]), ["z/tool"]);
}

#[test]
fn a_namespace_in_audit_mode_touches_its_own_pods() {
    let mut followed = cluster();
    let mut audited = namespace("x", "red");
    if let Object::Namespace(namespace) = &mut audited {
        namespace.mode = Mode::Audit;
    }
    assert_eq!(followed.apply([apply(audited)]), ["x/web"]);
}

#[test]
fn a_policy_that_comes_out_the_same_touches_nobody() {
    let mut followed = cluster();
    let reworded = policy(
        "x",
        "to-web",
        Some("web"),
        Some(vec![rule(vec![from_app("db"), from_app("db")], vec![])]),
        None,
    );
    assert_eq!(followed.apply([apply(reworded)]), [""; 0]);
    let removed = ObjectRef::new(Kind::NetworkPolicy, name("x", "to-web"));
    assert_eq!(followed.apply([delete_ref(removed)]), ["x/web"]);
}

#[test]
fn a_node_touches_its_pods() {
    let mut followed = cluster();
    let mut away = pod("z", "tool", "tool", "10.0.0.4");
    away.node = Some("n2".into());
    assert_eq!(followed.apply([apply(Object::Pod(away))]), ["z/tool"]);
    let moved = apply(node("n1", &["192.168.0.1", "10.0.0.254"]));
    assert_eq!(followed.apply([moved]), ["x/db", "x/web", "y/web"]);
}

#[test]
fn a_service_touches_those_who_are_isolated_for_egress() {
    let mut followed = cluster();
    let service = service("y", "web", "web", "10.96.0.1");
    assert_eq!(
        followed.apply([apply(Object::Service(service))]),
        ["z/tool"]
    );
    let slice = slice("y", "web-1", "web", "203.0.113.9");
    let touched = followed.apply([apply(Object::EndpointSlice(slice))]);
    assert_eq!(touched, ["z/tool"], "the slice says where it leads");
}

#[test]
fn a_backend_touches_those_whose_verdict_it_changes_and_itself() {
    let isolated = || Object::Pod(pod("z", "isolated", "isolated", "10.0.0.8"));
    let backend = |number: u8| {
        let id = format!("backend-{number}");
        Object::Pod(pod("z", &id, "backend", &format!("10.0.1.{number}")))
    };
    let to = |app: &str| vec![rule(vec![from_app(app)], vec![])];
    let mut followed = Followed::new(Options::default());
    let objects = [
        namespace("z", "blue"),
        isolated(),
        Object::Pod(pod("z", "client", "client", "10.0.0.9")),
        backend(1),
        backend(2),
        Object::Service(service("z", "s", "backend", "10.96.0.1")),
        Object::Service(service("z", "t", "client", "10.96.0.2")),
        policy(
            "z",
            "isolated",
            Some("isolated"),
            None,
            Some(to("isolated")),
        ),
        policy("z", "client", Some("client"), None, Some(to("backend"))),
        policy("z", "backend", Some("backend"), None, Some(vec![])),
    ];
    followed.apply(objects.into_iter().map(apply));
    assert_eq!(
        followed.apply([apply(backend(3))]),
        ["z/backend-1", "z/backend-2", "z/backend-3", "z/client"],
        "z/isolated denies the service with two backends and with three"
    );
    assert_eq!(followed.snapshots, followed.compiled_from_scratch());
    // Laid out anew: everybody who is isolated for egress looks at it.
    let again = Object::Service(service("z", "s", "backend", "10.96.0.3"));
    assert_eq!(followed.apply([apply(again)]).len(), 5);
    assert_eq!(followed.snapshots, followed.compiled_from_scratch());
}

#[test]
fn a_backend_touches_the_pods_of_a_node_that_its_service_lies_on() {
    for is_external in [false, true] {
        let mut on_node = service("y", "s", "backend", "192.168.0.1");
        if is_external {
            on_node.external_ips = std::mem::take(&mut on_node.cluster_ips);
        }
        let mut followed = Followed::new(Options::default());
        let objects = [
            node("n1", &["192.168.0.1"]),
            Object::Pod(pod("z", "isolated", "isolated", "10.0.0.8")),
            Object::Service(on_node),
            policy("z", "isolated", None, None, Some(vec![])),
        ];
        followed.apply(objects.into_iter().map(apply));
        let mut backend = pod("y", "backend", "backend", "10.0.1.1");
        backend.node = None;
        assert_eq!(
            followed.apply([apply(Object::Pod(backend))]),
            ["y/backend", "z/isolated"]
        );
        assert_eq!(followed.snapshots, followed.compiled_from_scratch());
    }
}

#[test]
fn a_pod_that_finishes_is_gone_and_its_address_may_be_another_s() {
    let mut followed = cluster();
    let mut finished = pod("x", "db", "db", "10.0.0.2");
    finished.phase = Phase::Terminal;
    assert_eq!(followed.apply([apply(Object::Pod(finished))]), ["x/web"]);
    let gone = Recipient::Pod(name("x", "db"));
    assert!(!followed.snapshots.contains_key(&gone));
    let heir = apply(Object::Pod(pod("y", "heir", "heir", "10.0.0.2")));
    assert_eq!(followed.apply([heir]), ["y/heir", "z/tool"]);
    assert_eq!(followed.snapshots, followed.compiled_from_scratch());
}

#[test]
fn a_pod_without_an_address_has_no_snapshot_until_it_gets_one() {
    let mut followed = cluster();
    let mut pending = pod("x", "new", "web", "10.0.0.9");
    pending.phase = Phase::Pending;
    let ips = std::mem::take(&mut pending.ips);
    assert_eq!(
        followed.apply([apply(Object::Pod(pending.clone()))]),
        [""; 0]
    );
    pending.ips = ips;
    assert_eq!(followed.apply([apply(Object::Pod(pending))]), ["x/new"]);
}

/// Its sandbox was made anew (`semantics H15`): the pod is the same, the old address is nobody's.
#[test]
fn a_pod_that_changes_its_address_is_followed() {
    let mut followed = cluster();
    let moved = apply(Object::Pod(pod("x", "db", "db", "10.0.0.22")));
    assert_eq!(followed.apply([moved]), ["x/db", "x/web"]);
    assert_eq!(followed.snapshots, followed.compiled_from_scratch());
    let peers = Snapshot::check(followed.snapshots[&Recipient::Pod(name("x", "web"))].clone());
    let from = |source: &str| Flow {
        source: ip(source),
        destination: ip("10.0.0.1"),
        protocol: 6,
        port: 80,
    };
    let peers = peers.expect("it is good");
    assert_eq!(peers.judge(&from("10.0.0.22")).verdict, Verdict::Allow);
    assert_eq!(peers.judge(&from("10.0.0.2")).verdict, Verdict::Deny);
}

#[test]
fn nothing_is_synced_before_every_kind_is() {
    let mut followed = Followed::new(Options::default());
    for kind in Kind::ALL {
        assert!(!followed.index.is_synced());
        followed.apply([crate::cluster::Event::Synced(kind)]);
    }
    assert!(followed.index.is_synced());
}

#[test]
fn who_carries_tcp_touches_the_pods_it_is_about() {
    let mut followed = cluster();
    let mut web = pod("x", "web", "web", "10.0.0.1");
    web.tcp_path = Some(TcpPath::Sidecar);
    assert_eq!(followed.apply([apply(Object::Pod(web))]), ["x/web"]);
    let Object::Namespace(opted_out) = namespace("x", "red") else {
        panic!("a namespace is a Namespace");
    };
    let opted_out = Namespace {
        tcp_path: Some(TcpPath::Kernel),
        ..opted_out
    };
    let compiled = followed.apply([apply(Object::Namespace(opted_out))]);
    assert_eq!(compiled, ["x/db", "x/web"]);
    assert_eq!(followed.snapshots, followed.compiled_from_scratch());
}
