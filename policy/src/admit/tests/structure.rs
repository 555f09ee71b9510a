//! `semantics 1A`: nil and empty, defaults, policy types; and what becomes of flaws up there.

use super::*;
use crate::admit::{MODE_ANNOTATION, mode};
use crate::model::{Direction, Mode, Peers, Ports, Selector};

/// Whether a policy isolates: ingress, egress.
fn isolates(policy: &model::NetworkPolicy) -> (bool, bool) {
    (policy.ingress.is_some(), policy.egress.is_some())
}

fn types(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|n| (*n).to_owned()).collect())
}

#[test]
fn a1_a2_an_empty_spec_denies_ingress_to_the_whole_namespace() {
    let policy = flawless(&policy());
    assert_eq!(policy.pod_selector, Selector::everything());
    assert_eq!(policy.ingress, Some(vec![]));
    assert_eq!(policy.egress, None);
    assert_eq!(policy.mode, Mode::Enforce);
}

#[test]
fn a3_to_a7_policy_types() {
    let rules = || Some(vec![Rule::default()]);
    let none = || Some(vec![]);
    // (row, policyTypes, ingress, egress, isolates (ingress, egress))
    let cases = [
        ("A3 nothing", None, None, None, (true, false)),
        ("A3 empty types", types(&[]), None, None, (true, false)),
        ("A3 egress rules", None, None, rules(), (true, true)),
        (
            "A3 empty types, egress rules",
            types(&[]),
            None,
            rules(),
            (true, true),
        ),
        ("A4 empty egress", None, None, none(), (true, false)),
        (
            "A5 ingress rules ignored",
            types(&["Egress"]),
            rules(),
            None,
            (false, true),
        ),
        (
            "A6 egress rules ignored",
            types(&["Ingress"]),
            None,
            rules(),
            (true, false),
        ),
        (
            "A7 doubles",
            types(&["Ingress", "Ingress"]),
            None,
            None,
            (true, false),
        ),
        (
            "both",
            types(&["Egress", "Ingress"]),
            None,
            None,
            (true, true),
        ),
    ];
    for (row, policy_types, ingress, egress, expected) in cases {
        let raw = NetworkPolicy {
            policy_types,
            ingress,
            egress,
            ..policy()
        };
        assert_eq!(isolates(&flawless(&raw)), expected, "{row}");
    }
}

#[test]
fn a8_missing_and_empty_rules_are_the_same() {
    let empty = NetworkPolicy {
        ingress: Some(vec![]),
        ..policy()
    };
    assert_eq!(flawless(&empty), flawless(&policy()));
}

#[test]
fn a9_a10_a12_missing_and_empty_lists_of_a_rule_mean_all() {
    let rule = |peers, ports| NetworkPolicy {
        ingress: Some(vec![Rule { peers, ports }]),
        ..policy()
    };
    for raw in [rule(None, None), rule(Some(vec![]), Some(vec![]))] {
        let policy = flawless(&raw);
        let rule = ingress_rule(&policy);
        assert_eq!((&rule.peers, &rule.ports), (&Peers::Any, &Ports::Any));
    }
}

#[test]
fn a21_a_policy_without_a_namespace_lives_in_default() {
    for namespace in [None, Some(String::new())] {
        let raw = NetworkPolicy {
            namespace,
            ..policy()
        };
        assert_eq!(flawless(&raw).id.to_string(), "default/p");
    }
    let raw = NetworkPolicy {
        namespace: Some("shop".to_owned()),
        ..policy()
    };
    assert_eq!(flawless(&raw).id.to_string(), "shop/p");
}

#[test]
fn an_unreadable_pod_selector_isolates_the_namespace_and_allows_nothing() {
    let raw = NetworkPolicy {
        pod_selector: Some(expression("app", "Near", &["web"])),
        policy_types: types(&["Ingress", "Egress"]),
        ingress: Some(vec![Rule::default()]),
        egress: Some(vec![Rule::default()]),
        ..policy()
    };
    let admitted = admit(&raw);
    assert_eq!(
        fields(&admitted, Severity::Refused),
        ["spec.podSelector.matchExpressions[0].operator"]
    );
    assert_eq!(admitted.policy.pod_selector, Selector::everything());
    for direction in [Direction::Ingress, Direction::Egress] {
        assert_eq!(admitted.policy.rules(direction), Some(&[][..]));
    }
}

#[test]
fn an_unreadable_pod_selector_leaves_the_other_direction_alone() {
    let raw = NetworkPolicy {
        pod_selector: Some(labels(&[("app", "-")])),
        policy_types: types(&["Egress"]),
        ..policy()
    };
    assert_eq!(isolates(&admit(&raw).policy), (false, true));
}

#[test]
fn flawed_policy_types_isolate_both_directions_and_open_none_by_accident() {
    let rules = || Some(vec![Rule::default()]);
    // (policyTypes, fields, rules left (ingress, egress))
    let cases = [
        (types(&["ingress"]), vec!["spec.policyTypes[0]"], (0, 0)),
        (
            types(&["Egress", "foo"]),
            vec!["spec.policyTypes[1]"],
            (0, 1),
        ),
        (
            types(&["foo", "bar"]),
            vec!["spec.policyTypes[0]", "spec.policyTypes[1]"],
            (0, 0),
        ),
        (
            types(&["Ingress", "Ingress", "Ingress"]),
            vec!["spec.policyTypes"],
            (1, 0),
        ),
        (
            types(&["Ingress", "Egress", "Ingress"]),
            vec!["spec.policyTypes"],
            (1, 1),
        ),
    ];
    for (policy_types, expected, (ingress, egress)) in cases {
        let raw = NetworkPolicy {
            policy_types,
            ingress: rules(),
            egress: rules(),
            ..policy()
        };
        let admitted = admit(&raw);
        assert_eq!(fields(&admitted, Severity::Refused), expected, "{raw:?}");
        let left = |rules: &Option<Vec<_>>| rules.as_ref().map(Vec::len);
        assert_eq!(left(&admitted.policy.ingress), Some(ingress), "{raw:?}");
        assert_eq!(left(&admitted.policy.egress), Some(egress), "{raw:?}");
    }
}

#[test]
fn rules_keep_their_indexes_whatever_becomes_of_their_neighbours() {
    let closed = Rule {
        peers: Some(vec![Peer::default()]),
        ports: None,
    };
    let raw = NetworkPolicy {
        ingress: Some(vec![closed, Rule::default()]),
        ..policy()
    };
    let rules = admit(&raw).policy.ingress.expect("isolates ingress");
    assert_eq!(rules.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(rules[0].peers, Peers::Of(vec![]));
    assert_eq!(rules[1].peers, Peers::Any);
}

#[test]
fn rules_of_an_ignored_direction_are_still_validated() {
    let raw = NetworkPolicy {
        policy_types: types(&["Ingress"]),
        egress: Some(vec![Rule {
            peers: Some(vec![Peer::default()]),
            ports: None,
        }]),
        ..policy()
    };
    let admitted = admit(&raw);
    assert_eq!(
        fields(&admitted, Severity::Refused),
        ["spec.egress[0].to[0]"]
    );
    assert_eq!(admitted.policy.egress, None);
}

#[test]
fn names_are_dns_names() {
    let long = "a".repeat(254);
    for (name, legal) in [
        ("p", true),
        ("web.allow-1", true),
        (&long[..253], true),
        (long.as_str(), false),
        ("", false),
        ("Web", false),
        ("web_allow", false),
        (".web", false),
        ("web-", false),
        ("a..b", false),
    ] {
        let raw = NetworkPolicy {
            name: name.to_owned(),
            ..NetworkPolicy::default()
        };
        let admitted = admit(&raw);
        let expected: &[&str] = if legal { &[] } else { &["metadata.name"] };
        assert_eq!(fields(&admitted, Severity::Refused), expected, "{name:?}");
        assert_eq!(admitted.policy.ingress, Some(vec![]), "{name:?} isolates");
    }

    let raw = NetworkPolicy {
        namespace: Some("my.shop".to_owned()),
        ..policy()
    };
    assert_eq!(
        fields(&admit(&raw), Severity::Refused),
        ["metadata.namespace"]
    );
}

#[test]
fn an_unknown_mode_enforces() {
    for (annotation, expected) in [
        (None, Mode::Enforce),
        (Some("enforce"), Mode::Enforce),
        (Some("audit"), Mode::Audit),
    ] {
        assert_eq!(mode(annotation), (expected, None));
    }
    for typo in ["Audit", "audit ", "", "off"] {
        let raw = NetworkPolicy {
            mode: Some(typo.to_owned()),
            ..policy()
        };
        let admitted = admit(&raw);
        assert_eq!(admitted.policy.mode, Mode::Enforce, "{typo:?}");
        assert_eq!(
            fields(&admitted, Severity::Unsupported),
            [format!("metadata.annotations[{MODE_ANNOTATION}]")],
            "{typo:?}"
        );
    }
}

#[test]
fn a_violation_reads_as_field_reason_and_consequence() {
    let admitted = admit(&from(vec![block("10.0.0.1/24", &["10.1.0.0/16"])]));
    let printed: Vec<String> = admitted
        .violations
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        printed,
        [
            "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/24\": must not have \
             bits set beyond the prefix length; read as 10.0.0.0/24",
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.1.0.0/16\": must be a \
             strict subset of cidr; this peer matches nothing",
        ]
    );
}

#[test]
fn a_hostile_value_is_quoted_in_part() {
    let admitted = admit(&from(vec![block(&"9".repeat(100_000), &[])]));
    assert!(admitted.violations[0].reason.len() < 300);
}

#[test]
fn a1_a4_a5_a6_a13_surprises_are_told_and_change_nothing() {
    let rules = || Some(vec![Rule::default()]);
    let port = |port: Port| {
        let rule = Rule {
            ports: Some(vec![Port::default(), port]),
            ..Rule::default()
        };
        Some(vec![rule])
    };
    let tcp = Port {
        protocol: Some("TCP".to_owned()),
        ..Port::default()
    };
    // (policyTypes, ingress, egress, rows and fields)
    let cases = [
        (None, None, None, vec![("A1", "spec")]),
        (None, None, Some(vec![]), vec![("A4", "spec.egress")]),
        (
            types(&["Egress"]),
            rules(),
            rules(),
            vec![("A5", "spec.ingress")],
        ),
        (
            types(&["Ingress"]),
            rules(),
            rules(),
            vec![("A6", "spec.egress")],
        ),
        (
            None,
            port(tcp),
            None,
            vec![("A13", "spec.ingress[0].ports[0]")],
        ),
        (None, None, rules(), vec![]),
        (
            types(&["Ingress", "Egress"]),
            Some(vec![]),
            Some(vec![]),
            vec![],
        ),
    ];
    for (policy_types, ingress, egress, expected) in cases {
        let raw = NetworkPolicy {
            policy_types,
            ingress,
            egress,
            ..policy()
        };
        let found = crate::admit::surprises(&raw);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|surprise| (surprise.row, surprise.field.as_str()))
            .collect();
        assert_eq!(found, expected, "{raw:?}");
        assert_eq!(admit(&raw).violations, []);
    }
}
