//! `semantics 1E` and the port rows of `1A` and `1K`.

use super::*;
use crate::model::{PortMatch, PortRange, Ports, Protocol};

const TCP: Protocol = Protocol::Tcp;

const fn numbers(protocol: Protocol, low: u16, high: u16) -> PortMatch {
    PortMatch {
        protocol,
        port: PortRange::Numbers { low, high },
    }
}

const fn all(protocol: Protocol) -> PortMatch {
    PortMatch {
        protocol,
        port: PortRange::All,
    }
}

fn named(protocol: Protocol, name: &str) -> PortMatch {
    PortMatch {
        protocol,
        port: PortRange::Named(name.into()),
    }
}

#[test]
fn a13_to_a15_e2_to_e5_legal_ports() {
    for (row, raw, expected) in [
        ("A13", port(None, None, None), all(TCP)),
        ("A14 E4", port(Some("UDP"), None, None), all(Protocol::Udp)),
        ("A15 E2", port(None, number(80), None), numbers(TCP, 80, 80)),
        (
            "E2",
            port(Some("SCTP"), number(80), None),
            numbers(Protocol::Sctp, 80, 80),
        ),
        ("E5", port(None, number(53), Some(80)), numbers(TCP, 53, 80)),
        (
            "E5 one",
            port(Some("UDP"), number(53), Some(53)),
            numbers(Protocol::Udp, 53, 53),
        ),
        (
            "E5 all",
            port(None, number(1), Some(65535)),
            numbers(TCP, 1, 65535),
        ),
        ("E7", port(None, name("http"), None), named(TCP, "http")),
        (
            "E9",
            port(Some("UDP"), name("dns"), None),
            named(Protocol::Udp, "dns"),
        ),
    ] {
        let policy = flawless(&on(vec![raw]));
        assert_eq!(
            ingress_rule(&policy).ports,
            Ports::Of(vec![expected]),
            "{row}"
        );
    }
}

#[test]
fn e5_k_overlapping_and_equal_ports_are_legal() {
    let policy = flawless(&on(vec![
        port(None, number(53), Some(80)),
        port(None, number(53), Some(84)),
        port(None, number(53), Some(84)),
    ]));
    let expected = [
        numbers(TCP, 53, 80),
        numbers(TCP, 53, 84),
        numbers(TCP, 53, 84),
    ];
    assert_eq!(ingress_rule(&policy).ports, Ports::Of(expected.to_vec()));
}

/// A refused port never widens to "all ports" (`semantics E6`), and its neighbours keep working.
#[test]
fn e6_k_flawed_ports_match_nothing() {
    let cases: Vec<(Port, &[&str])> = vec![
        (port(Some("ICMP"), number(80), None), &["protocol"]),
        (port(Some("tcp"), None, None), &["protocol"]),
        (port(Some(""), None, None), &["protocol"]),
        (port(None, number(0), None), &["port"]),
        (port(None, number(-1), None), &["port"]),
        (port(None, number(65536), None), &["port"]),
        (port(None, number(123456789), None), &["port"]),
        (port(None, number(0), Some(80)), &["port"]),
        (port(None, number(80), Some(79)), &["endPort"]),
        (port(None, number(80), Some(0)), &["endPort"]),
        (port(None, number(80), Some(65536)), &["endPort"]),
        (port(None, number(0), Some(65536)), &["port", "endPort"]),
        (port(None, None, Some(80)), &["endPort"]),
        (port(Some("UDP"), None, Some(80)), &["endPort"]),
        (port(None, name("dns"), Some(80)), &["endPort"]),
        (port(None, name("!"), Some(80)), &["port", "endPort"]),
        (port(Some("ICMP"), number(0), None), &["protocol", "port"]),
    ];
    for (raw, wrong) in cases {
        let admitted = admit(&on(vec![raw.clone(), port(None, number(443), None)]));
        let expected: Vec<String> = wrong
            .iter()
            .map(|field| format!("spec.ingress[0].ports[0].{field}"))
            .collect();
        assert_eq!(fields(&admitted, Severity::Refused), expected, "{raw:?}");
        let left = Ports::Of(vec![numbers(TCP, 443, 443)]);
        assert_eq!(ingress_rule(&admitted.policy).ports, left, "{raw:?}");

        let admitted = admit(&on(vec![raw]));
        assert_eq!(ingress_rule(&admitted.policy).ports, Ports::Of(vec![]));
    }
}

#[test]
fn k_the_reasons_of_end_port() {
    for (raw, reason) in [
        (
            port(None, None, Some(80)),
            "may not be specified when port is not specified",
        ),
        (
            port(None, name("dns"), Some(80)),
            "may not be specified when port is non-numeric",
        ),
        (
            port(None, number(80), Some(79)),
            "must be greater than or equal to port",
        ),
    ] {
        let admitted = admit(&on(vec![raw]));
        let found = &admitted.violations[0].reason;
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn k_port_names() {
    for (text, legal) in [
        ("http", true),
        ("a", true),
        ("1a", true),
        ("serve-81-tcp", true),
        ("fifteen-letters", true),
        ("sixteen-letters-", false),
        ("sixteen-letters1", false),
        ("", false),
        ("80", false),
        ("8-0", false),
        ("HTTP", false),
        ("a_b", false),
        ("a--b", false),
        ("-a", false),
        ("a-", false),
        ("a b", false),
    ] {
        let admitted = admit(&on(vec![port(None, name(text), None)]));
        let expected: &[&str] = if legal {
            &[]
        } else {
            &["spec.ingress[0].ports[0].port"]
        };
        assert_eq!(fields(&admitted, Severity::Refused), expected, "{text:?}");
    }
}
