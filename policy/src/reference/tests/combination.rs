//! `semantics 1F`, and the peers of `1B` to `1D` at work.

use super::super::{RuleId, Why};
use super::*;

#[test]
fn f1_isolation_is_per_direction() {
    let mut cluster = world();
    isolate(&mut cluster, Direction::Ingress, vec![]);
    assert!(!tcp(&cluster, BANK, WEB, 80));
    assert!(tcp(&cluster, WEB, BANK, 80));
    assert!(tcp(&cluster, WEB, OUTSIDE, 80));
}

#[test]
fn f2_f5_a22_rules_of_all_policies_add_up() {
    let mut cluster = world();
    isolate(&mut cluster, Direction::Ingress, vec![]);
    let to_web = label("app", "web");
    policy(
        &mut cluster,
        ("shop", "b-80"),
        to_web.clone(),
        Direction::Ingress,
        vec![(Peers::Any, number(Protocol::Tcp, 80, 80))],
    );
    policy(
        &mut cluster,
        ("shop", "a-outside"),
        to_web,
        Direction::Ingress,
        vec![(Peers::Of(vec![block("203.0.113.0/24", &[])]), Ports::Any)],
    );
    assert!(tcp(&cluster, BANK, WEB, 80));
    assert!(tcp(&cluster, OUTSIDE, WEB, 443));
    assert!(!tcp(&cluster, BANK, WEB, 443));
    assert!(!tcp(&cluster, BANK, DB, 80));

    // The first by name is the one to tell, whoever else matches.
    let told = judge(&cluster, &Options::default(), &flow(OUTSIDE, WEB, TCP, 80));
    let side = told.ingress.expect("web is judged");
    let rule = |name| RuleId {
        policy: NamespacedName::new("shop", name),
        index: 0,
    };
    assert_eq!(side.rules, [rule("a-outside"), rule("b-80")]);
    assert_eq!(side.isolated_by.len(), 3);
}

#[test]
fn f3_both_sides_must_allow() {
    let mut cluster = world();
    let shop = |rules| vec![(Peers::Of(vec![own(Selector::everything())]), rules)];
    isolate(&mut cluster, Direction::Egress, shop(Ports::Any));
    policy(
        &mut cluster,
        ("shop", "db"),
        label("app", "db"),
        Direction::Ingress,
        shop(number(Protocol::Tcp, 81, 81)),
    );
    assert!(tcp(&cluster, WEB, DB, 81));
    assert!(!tcp(&cluster, WEB, DB, 80), "ingress denies");
    policy(
        &mut cluster,
        ("bank", "web"),
        Selector::everything(),
        Direction::Ingress,
        vec![(Peers::Any, Ports::Any)],
    );
    assert!(!tcp(&cluster, WEB, BANK, 80), "egress denies");
}

#[test]
fn f6_f7_only_pods_have_sides() {
    let mut cluster = world();
    isolate(&mut cluster, Direction::Egress, vec![]);
    let told = opinion(&cluster, &Options::default(), &flow(OUTSIDE, WEB, TCP, 80));
    assert!(told.allowed && told.egress.is_none() && told.ingress.is_some());
    let told = opinion(
        &cluster,
        &Options::default(),
        &flow(OUTSIDE, "8.8.8.8", TCP, 80),
    );
    assert_eq!(
        (told.allowed, told.whole),
        (false, Some(Why::UnknownAddress))
    );
}

#[test]
fn f8_f9_policies_hold_in_their_namespace_while_they_exist() {
    let mut cluster = world();
    isolate(&mut cluster, Direction::Ingress, vec![]);
    assert!(tcp(&cluster, WEB, BANK, 80));
    assert!(!tcp(&cluster, BANK, WEB, 80));
    cluster.policies.clear();
    assert!(tcp(&cluster, BANK, WEB, 80));
}

/// Who may reach shop/web when its only ingress rule has this peer: db, bank, outside.
fn reach(cluster: &Cluster, peer: Peer) -> [bool; 3] {
    let mut cluster = cluster.clone();
    let rules = vec![(Peers::Of(vec![peer]), Ports::Any)];
    isolate(&mut cluster, Direction::Ingress, rules);
    [DB, BANK, OUTSIDE].map(|source| tcp(&cluster, source, WEB, 80))
}

#[test]
fn a16_to_a19_b7_to_b9_c1_c5_what_pod_peers_match() {
    let cluster = world();
    let all = Selector::everything;
    let absent = || requirement("tier", Test::NotIn(vec!["front".into()]));
    for (row, peer, expected) in [
        ("A16", own(all()), [true, false, false]),
        ("A17 C5", everywhere(all(), all()), [true, true, false]),
        (
            "A19",
            everywhere(all(), label("app", "web")),
            [false, true, false],
        ),
        ("B3 on pods", own(absent()), [true, false, false]),
        (
            "B3 on namespaces",
            everywhere(absent(), all()),
            [true, true, false],
        ),
        (
            "B7",
            everywhere(label("team", "b"), all()),
            [false, true, false],
        ),
        (
            "B7 not the pod's",
            everywhere(label("app", "web"), all()),
            [false, false, false],
        ),
        (
            "B8 B9",
            everywhere(
                requirement(
                    "kubernetes.io/metadata.name",
                    Test::NotIn(vec!["shop".into()]),
                ),
                all(),
            ),
            [false, true, false],
        ),
        (
            "C1",
            everywhere(label("team", "b"), label("app", "db")),
            [false, false, false],
        ),
    ] {
        assert_eq!(reach(&cluster, peer), expected, "{row}");
    }
}

#[test]
fn b10_an_unknown_namespace_matches_no_namespace_selector() {
    let mut cluster = world();
    cluster.namespaces.clear();
    let all = Selector::everything;
    let absent = requirement("team", Test::DoesNotExist);
    assert_eq!(reach(&cluster, everywhere(absent, all())), [false; 3]);
    assert_eq!(reach(&cluster, everywhere(all(), all())), [false; 3]);
    assert_eq!(reach(&cluster, own(all())), [true, false, false]);
}

#[test]
fn c4_d1_d3_d4_d9_what_blocks_match() {
    let cluster = world();
    for (row, peer, expected) in [
        ("C4 D4", block("0.0.0.0/0", &[]), [true, true, true]),
        (
            "D1",
            block("0.0.0.0/0", &["10.0.0.2/31"]),
            [false, false, true],
        ),
        ("D3", block("::/0", &[]), [false, false, false]),
        (
            "D9",
            block("0.0.0.0/4", &["10.0.0.2/32"]),
            [false, true, false],
        ),
        (
            "no one",
            block("198.51.100.0/24", &[]),
            [false, false, false],
        ),
    ] {
        assert_eq!(reach(&cluster, peer), expected, "{row}");
    }
}

#[test]
fn d2_another_item_rule_or_policy_allows_what_one_excepts() {
    let peers = [
        block("10.0.0.0/8", &["10.0.0.0/24"]),
        block("10.0.0.3/32", &[]),
    ];
    let [wide, narrow] = peers.map(|peer| vec![peer]);
    let rule = |peers| (Peers::Of(peers), Ports::Any);
    let worlds = [
        vec![vec![rule([wide.clone(), narrow.clone()].concat())]],
        vec![vec![rule(wide.clone()), rule(narrow.clone())]],
        vec![vec![rule(wide)], vec![rule(narrow)]],
    ];
    for policies in worlds {
        let mut cluster = world();
        for (name, rules) in ["p", "q"].into_iter().zip(policies) {
            let everyone = Selector::everything();
            policy(
                &mut cluster,
                ("shop", name),
                everyone,
                Direction::Ingress,
                rules,
            );
        }
        assert!(tcp(&cluster, BANK, WEB, 80));
        assert!(!tcp(&cluster, DB, WEB, 80));
        assert!(tcp(&cluster, "10.1.0.1", WEB, 80));
    }
}

#[test]
fn d6_mapped_addresses_are_ipv4() {
    let mut cluster = world();
    let rules = vec![(Peers::Of(vec![block("203.0.113.0/24", &[])]), Ports::Any)];
    isolate(&mut cluster, Direction::Ingress, rules);
    for (source, destination, expected) in [
        ("::ffff:203.0.113.9", WEB, true),
        ("203.0.113.9", "::ffff:10.0.0.1", true),
        ("::ffff:10.0.0.3", "::ffff:10.0.0.1", false),
    ] {
        assert_eq!(tcp(&cluster, source, destination, 80), expected, "{source}");
    }
}

#[test]
fn audited_policies_only_object() {
    let mut cluster = world();
    isolate(&mut cluster, Direction::Ingress, vec![]);
    for policy in cluster.policies.values_mut() {
        policy.mode = Mode::Audit;
    }
    let would_deny = |cluster: &Cluster| {
        let told = opinion(cluster, &Options::default(), &flow(BANK, WEB, TCP, 80));
        (told.allowed, told.would_deny)
    };
    assert_eq!(would_deny(&cluster), (true, true));

    // An audited rule does not open what an enforced policy closes.
    let everyone = Selector::everything();
    policy(
        &mut cluster,
        ("shop", "deny"),
        everyone,
        Direction::Ingress,
        vec![],
    );
    for policy in cluster.policies.values_mut() {
        if policy.mode == Mode::Audit {
            policy.ingress = Some(vec![Rule {
                index: 0,
                peers: Peers::Any,
                ports: Ports::Any,
            }]);
        }
    }
    assert_eq!(would_deny(&cluster), (false, false));

    // A namespace in audit mode has only audited policies.
    let shop = cluster.namespaces.get_mut("shop").expect("a namespace");
    shop.mode = Mode::Audit;
    assert_eq!(would_deny(&cluster), (true, false));
    cluster.policies.retain(|id, _| id.name.as_ref() == "deny");
    assert_eq!(would_deny(&cluster), (true, true));
}
