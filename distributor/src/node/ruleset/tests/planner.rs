//! What a planner remembers.

use std::sync::Arc;

use sidewall_policy::compile::Options;
use sidewall_policy::model::{
    Cluster, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers, Phase, Pod,
    PodPeer, Ports, Requirement, Rule, Selector, Test,
};
use sidewall_policy::snapshot::Snapshot;

use super::{settings, snapshot};
use crate::node::ruleset::object::Name;
use crate::node::ruleset::{Plan, Planner, only_adds, transition};

/// Pods `a` and `b` of the node each admit the pods elsewhere that carry their name.
fn cluster(friends: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (number, name) in (11..).zip(["a", "b"]) {
        add(
            &mut cluster,
            name,
            "n1",
            &format!("10.244.1.{number}"),
            name,
        );
        let named = |key: &str| {
            Selector::new(vec![Requirement {
                key: key.into(),
                test: Test::In(vec![name.into()]),
            }])
        };
        let policy = NetworkPolicy {
            id: NamespacedName::new("shop", name),
            pod_selector: named("app"),
            ingress: Some(vec![Rule {
                index: 0,
                peers: Peers::Of(vec![Peer::Pods(PodPeer {
                    namespaces: NamespaceScope::Own,
                    pods: named("friend"),
                })]),
                ports: Ports::Any,
            }]),
            egress: None,
            mode: Mode::Enforce,
        };
        cluster.policies.insert(policy.id.clone(), policy);
    }
    for (of, address) in friends {
        add(
            &mut cluster,
            &format!("friend-{address}"),
            "n2",
            address,
            of,
        );
    }
    cluster
}

fn add(cluster: &mut Cluster, name: &str, node: &str, address: &str, of: &str) {
    let key = if node == "n1" { "app" } else { "friend" };
    let pod = Pod {
        id: NamespacedName::new("shop", name),
        labels: Labels::from_iter([(key, of)]),
        node: Some(node.into()),
        ips: vec![address.parse().unwrap()],
        host_network: false,
        uid: None,
        phase: Phase::Running,
        created: 0,
        ports: Vec::new(),
        tcp_path: None,
    };
    cluster.pods.insert(pod.id.clone(), pod);
}

fn of(friends: &[(&str, &str)]) -> Arc<Snapshot> {
    Arc::new(snapshot(&cluster(friends), &Options::default()))
}

/// Those of the hosts' maps that both plans share.
fn shared(before: &Plan, after: &Plan) -> Vec<Name> {
    let hosts = after.objects.iter().filter(|(name, object)| {
        let known = before.objects.get(*name);
        name.starts_with("ingress_hosts4") && known.is_some_and(|known| Arc::ptr_eq(known, object))
    });
    hosts.map(|(name, _)| Arc::clone(name)).collect()
}

#[test]
fn only_tables_that_differ_are_made_again() {
    let settings = settings();
    let mut planner = Planner::default();
    let first = planner.plan(
        &settings,
        Some(&of(&[("a", "10.244.2.1"), ("b", "10.244.2.2")])),
    );
    // The new peer comes before the others, and so moves what stands behind it in the snapshot.
    let more = of(&[
        ("a", "10.244.2.0"),
        ("a", "10.244.2.1"),
        ("b", "10.244.2.2"),
    ]);
    let second = planner.plan(&settings, Some(&more));
    assert_eq!(second, Plan::new(&settings, Some(&more)));
    assert_eq!(shared(&first, &second).len(), 1, "that of b");
    let third = planner.plan(&settings, Some(&more));
    assert_eq!(shared(&second, &third).len(), 2);
    assert_eq!(third, second);
}

#[test]
fn nothing_is_remembered_of_a_node_without_a_snapshot() {
    let settings = settings();
    let mut planner = Planner::default();
    let snapshot = of(&[("a", "10.244.2.1")]);
    let first = planner.plan(&settings, Some(&snapshot));
    assert_eq!(planner.plan(&settings, None), Plan::new(&settings, None));
    let again = planner.plan(&settings, Some(&snapshot));
    assert_eq!(shared(&first, &again), Vec::<Name>::new());
    assert_eq!(first, again);
}

/// What goes to the kernel without a process is that an address is a peer now or is none.
#[test]
fn a_change_of_peers_alone_is_told_from_every_other() {
    let settings = settings();
    let before = cluster(&[("a", "10.244.2.1"), ("b", "10.244.2.2")]);
    let plan = |cluster: &Cluster| {
        let snapshot = snapshot(cluster, &Options::default());
        (snapshot.structure(), Plan::new(&settings, Some(&snapshot)))
    };
    let (structure, planned) = plan(&before);
    let steps_to = |cluster: &Cluster| {
        let (changed, plan) = plan(cluster);
        (changed == structure, transition(&planned, &plan))
    };

    let (is_same, steps) = steps_to(&cluster(&[("a", "10.244.2.3"), ("b", "10.244.2.2")]));
    assert!(is_same);
    let [step] = &steps[..] else {
        panic!("{steps:?}");
    };
    let edits = step.edits.as_deref().unwrap();
    let counts = edits.iter().map(|edit| (edit.gone.len(), edit.added.len()));
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 1)]);

    let mut moved = before.clone();
    moved
        .pods
        .get_mut(&NamespacedName::new("shop", "a"))
        .unwrap()
        .ips = vec!["10.244.1.99".parse().unwrap()];
    let mut closed = before.clone();
    closed
        .policies
        .get_mut(&NamespacedName::new("shop", "a"))
        .unwrap()
        .ingress = Some(Vec::new());
    let mut unrestricted = before;
    unrestricted
        .policies
        .remove(&NamespacedName::new("shop", "b"));
    for cluster in [moved, closed, unrestricted] {
        let (is_same, steps) = steps_to(&cluster);
        assert!(!is_same && !steps.is_empty(), "{cluster:?}");
    }
}

/// The edit of a selector changes nothing but who is a peer, and is a change of a policy nevertheless: it denies
/// `friend-10.244.2.1` and must not wait for others.
#[test]
fn a_peer_that_a_policy_no_longer_selects_waits_for_nothing() {
    let before = cluster(&[("a", "10.244.2.1"), ("b", "10.244.2.2")]);
    let mut edited = before.clone();
    let policy = edited
        .policies
        .get_mut(&NamespacedName::new("shop", "a"))
        .unwrap();
    for rule in policy.ingress.iter_mut().flatten() {
        rule.peers = Peers::Of(vec![Peer::Pods(PodPeer {
            namespaces: NamespaceScope::Own,
            pods: Selector::new(vec![Requirement {
                key: "friend".into(),
                test: Test::In(vec!["b".into()]),
            }]),
        })]);
    }
    let grown = cluster(&[
        ("a", "10.244.2.1"),
        ("a", "10.244.2.3"),
        ("b", "10.244.2.2"),
    ]);
    let settings = settings();
    let [before, edited, grown] = [before, edited, grown].map(|cluster| {
        let snapshot = snapshot(&cluster, &Options::default());
        let plan = Plan::new(&settings, Some(&snapshot));
        (snapshot.structure(), plan)
    });
    assert_eq!(before.0, edited.0, "the structure does not show the edit");
    assert!(!only_adds(&before.1, &edited.1));
    assert_eq!(before.0, grown.0);
    assert!(only_adds(&before.1, &grown.1));
    assert!(!only_adds(&grown.1, &before.1));
}
