//! `semantics 1K`: the cases of the API server's own validation tests, under their names, in both
//! directions where a case has one.

use super::*;
use crate::model::{Direction, Peers, Ports, Selector};

/// What must have been closed.
#[derive(Clone, Copy, Debug)]
enum Closed {
    /// The peers of the only rule.
    Peers,
    /// Some of the ports of the only rule, so that this many are left.
    Ports(usize),
    /// Everything but the isolation of every pod.
    Policy,
    /// Both directions isolate.
    Types,
}

struct Case {
    name: &'static str,
    raw: NetworkPolicy,
    /// Violations, as field (of the ingress form) and a phrase of the reason.
    expected: Vec<(&'static str, &'static str)>,
    closed: Closed,
}

fn case(
    name: &'static str,
    raw: NetworkPolicy,
    expected: &[(&'static str, &'static str)],
    closed: Closed,
) -> Case {
    Case {
        name,
        raw,
        expected: expected.to_vec(),
        closed,
    }
}

fn cases() -> Vec<Case> {
    const PEER: &str = "spec.ingress[0].from[0]";
    const CIDR: &str = "spec.ingress[0].from[0].ipBlock.cidr";
    const EXCEPT: &str = "spec.ingress[0].from[0].ipBlock.except[0]";
    let with_block = |peer: Peer| Peer {
        ip_block: block("192.168.0.0/16", &[]).ip_block,
        ..peer
    };
    let bad_labels = || labels(&[("a/b/c", "v")]);
    let subset = "must be a strict subset of cidr";
    let one_peer = |name, peer: Peer, field, phrase| {
        case(name, from(vec![peer]), &[(field, phrase)], Closed::Peers)
    };
    let one_port = |name, raw: Port, field, phrase| {
        case(name, on(vec![raw]), &[(field, phrase)], Closed::Ports(0))
    };
    vec![
        one_peer(
            "namespaceSelector and ipBlock",
            with_block(namespaces(labels(&[("a", "b")]))),
            PEER,
            "may not specify both ipBlock and another peer",
        ),
        one_peer(
            "podSelector and ipBlock",
            with_block(pods(labels(&[("a", "b")]))),
            PEER,
            "may not specify both ipBlock and another peer",
        ),
        one_peer(
            "missing from and to type",
            Peer::default(),
            PEER,
            "must specify a peer",
        ),
        case(
            "invalid spec.podSelector",
            NetworkPolicy {
                pod_selector: Some(bad_labels()),
                ..policy()
            },
            &[("spec.podSelector.matchLabels", "name part")],
            Closed::Policy,
        ),
        one_port(
            "invalid ingress.ports.protocol / invalid egress.ports.protocol",
            port(Some("ICMP"), number(80), None),
            "spec.ingress[0].ports[0].protocol",
            "supported values",
        ),
        one_port(
            "invalid ingress.ports.port (int) / invalid egress.ports.port (int)",
            port(None, number(123_456_789), None),
            "spec.ingress[0].ports[0].port",
            "between 1 and 65535",
        ),
        one_port(
            "invalid ingress.ports.port (str) / invalid egress.ports.port (str)",
            port(None, name("!@#$"), None),
            "spec.ingress[0].ports[0].port",
            "must contain only",
        ),
        one_peer(
            "invalid ingress.from.podSelector / invalid egress.to.podSelector",
            pods(bad_labels()),
            "spec.ingress[0].from[0].podSelector.matchLabels",
            "name part",
        ),
        one_peer(
            "invalid ingress.from.namespaceSelector",
            namespaces(bad_labels()),
            "spec.ingress[0].from[0].namespaceSelector.matchLabels",
            "name part",
        ),
        one_peer("missing cidr field", block("", &[]), CIDR, "Required value"),
        one_peer(
            "missing cidr field (with an except)",
            block("", &["192.168.8.0/24"]),
            CIDR,
            "Required value",
        ),
        one_peer(
            "invalid cidr format",
            block("192.168.5.6", &[]),
            CIDR,
            "must be a valid CIDR",
        ),
        one_peer(
            "invalid ipv6 cidr format",
            block("fd00:192:168::", &[]),
            CIDR,
            "must be a valid CIDR",
        ),
        one_peer(
            "except field is an empty string",
            block("192.168.8.0/24", &[""]),
            EXCEPT,
            "Required value",
        ),
        one_peer(
            "except field is a space",
            block("192.168.8.0/24", &[" "]),
            EXCEPT,
            "must be a valid CIDR",
        ),
        one_peer(
            "except IP is outside of CIDR range",
            block("192.168.8.0/24", &["192.168.9.1/24"]),
            EXCEPT,
            "",
        ),
        one_peer(
            "except IP is not strictly within CIDR range",
            block("192.168.0.0/24", &["192.168.0.0/24"]),
            EXCEPT,
            subset,
        ),
        one_peer(
            "except IPv6 is outside of CIDR range",
            block("fd00:192:168:1::/64", &["fd00:192:168:2::/64"]),
            EXCEPT,
            subset,
        ),
        case(
            "invalid policyTypes",
            NetworkPolicy {
                policy_types: Some(vec!["foo".to_owned(), "bar".to_owned()]),
                ..policy()
            },
            &[
                ("spec.policyTypes[0]", "supported values"),
                ("spec.policyTypes[1]", "supported values"),
            ],
            Closed::Types,
        ),
        case(
            "too many policyTypes",
            NetworkPolicy {
                policy_types: Some(vec!["foo".to_owned(), "bar".to_owned(), "baz".to_owned()]),
                ..policy()
            },
            &[
                (
                    "spec.policyTypes",
                    "may not specify more than two policyTypes",
                ),
                ("spec.policyTypes[0]", "supported values"),
                ("spec.policyTypes[1]", "supported values"),
                ("spec.policyTypes[2]", "supported values"),
            ],
            Closed::Types,
        ),
        case(
            "multiple ports defined, one port range is invalid",
            on(vec![
                port(Some("UDP"), number(35_000), Some(32_768)),
                port(None, number(32_000), Some(32_768)),
            ]),
            &[(
                "spec.ingress[0].ports[0].endPort",
                "greater than or equal to",
            )],
            Closed::Ports(1),
        ),
        one_port(
            "endPort defined with named/string port",
            port(None, name("dns"), Some(32_768)),
            "spec.ingress[0].ports[0].endPort",
            "may not be specified when port is non-numeric",
        ),
        one_port(
            "endPort defined without port defined",
            port(None, None, Some(32_768)),
            "spec.ingress[0].ports[0].endPort",
            "may not be specified when port is not specified",
        ),
        one_port(
            "port is greater than endPort",
            port(Some("SCTP"), number(35_000), Some(32_768)),
            "spec.ingress[0].ports[0].endPort",
            "greater than or equal to",
        ),
        case(
            "multiple invalid port ranges defined",
            on(vec![
                port(None, number(35_000), Some(32_768)),
                port(None, number(0), Some(32_768)),
                port(None, name("dns"), Some(32_768)),
            ]),
            &[
                (
                    "spec.ingress[0].ports[0].endPort",
                    "greater than or equal to",
                ),
                ("spec.ingress[0].ports[1].port", "between 1 and 65535"),
                ("spec.ingress[0].ports[2].endPort", "non-numeric"),
            ],
            Closed::Ports(0),
        ),
        one_port(
            "invalid endport range defined",
            port(None, number(30_000), Some(65_537)),
            "spec.ingress[0].ports[0].endPort",
            "between 1 and 65535",
        ),
    ]
}

fn check(case: &Case, raw: &NetworkPolicy, direction: Direction) {
    let name = case.name;
    let admitted = admit(raw);
    let found: Vec<_> = admitted
        .violations
        .iter()
        .filter(|v| v.severity == Severity::Refused)
        .collect();
    assert_eq!(found.len(), case.expected.len(), "{name}: {found:?}");
    for (violation, (field, phrase)) in found.iter().zip(&case.expected) {
        let field = match direction {
            Direction::Ingress => (*field).to_owned(),
            Direction::Egress => field.replace("ingress", "egress").replace("from", "to"),
        };
        assert_eq!(violation.field, field, "{name}");
        assert!(violation.reason.contains(phrase), "{name}: {violation}");
    }

    let policy = &admitted.policy;
    let only_rule = || match policy.rules(direction) {
        Some([rule]) => rule,
        other => panic!("{name}: expected one rule, found {other:?}"),
    };
    match case.closed {
        Closed::Peers => assert_eq!(only_rule().peers, Peers::Of(vec![]), "{name}"),
        Closed::Ports(left) => match &only_rule().ports {
            Ports::Of(list) => assert_eq!(list.len(), left, "{name}"),
            Ports::Any => panic!("{name}: a list of ports became all ports"),
        },
        Closed::Policy => {
            assert_eq!(policy.pod_selector, Selector::everything(), "{name}");
            assert_eq!(policy.ingress, Some(vec![]), "{name}");
        }
        Closed::Types => {
            assert_eq!(policy.ingress, Some(vec![]), "{name}");
            assert_eq!(policy.egress, Some(vec![]), "{name}");
        }
    }
}

#[test]
fn k_what_the_api_server_refuses() {
    for case in cases() {
        check(&case, &case.raw, Direction::Ingress);
        if matches!(case.closed, Closed::Peers | Closed::Ports(_)) {
            check(&case, &as_egress(case.raw.clone()), Direction::Egress);
        }
    }
}

#[test]
fn k_what_the_api_server_accepts_though_odd() {
    let rule = |peers: Vec<Peer>, ports: Vec<Port>| Rule {
        peers: Some(peers),
        ports: Some(ports),
    };
    let any = || pods(labels(&[]));
    for (what, raw) in [
        (
            "empty rules",
            NetworkPolicy {
                ingress: Some(vec![Rule::default(), Rule::default()]),
                ..policy()
            },
        ),
        ("duplicate peers", from(vec![any(), any()])),
        ("ports: [{}]", on(vec![Port::default()])),
        (
            "overlapping excepts",
            from(vec![block("10.0.0.0/8", &["10.1.0.0/16", "10.1.0.0/17"])]),
        ),
        (
            "duplicate excepts",
            from(vec![block("10.0.0.0/8", &["10.1.0.0/16", "10.1.0.0/16"])]),
        ),
        (
            "a selector that matches nothing",
            from(vec![pods(LabelSelector {
                match_labels: vec![("a".to_owned(), "b".to_owned())],
                ..expression("a", "DoesNotExist", &[])
            })]),
        ),
        (
            "many of everything",
            NetworkPolicy {
                ingress: Some(vec![
                    rule(
                        vec![any(); 2_000],
                        (1..=2_000).map(|n| port(None, number(n), None)).collect(),
                    );
                    2
                ]),
                ..policy()
            },
        ),
    ] {
        assert_eq!(admit(&raw).violations, [], "{what}");
    }
}
