//! The small promises of the model that others build on.

use std::net::IpAddr;

use super::{
    Direction, Labels, NamespacedName, Phase, Pod, PodPort, Protocol, Requirement, Selector, Test,
};

fn pod(name: &str) -> Pod {
    Pod {
        id: NamespacedName::new("shop", name),
        labels: Labels::default(),
        node: None,
        ips: vec![IpAddr::from([10, 0, 0, 1])],
        host_network: false,
        uid: None,
        phase: Phase::Running,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    }
}

#[test]
fn protocols_have_their_iana_numbers_and_api_spelling() {
    let told: Vec<_> = Protocol::ALL
        .iter()
        .map(|protocol| (protocol.number(), protocol.to_string()))
        .collect();
    let expected = [(6, "TCP"), (17, "UDP"), (132, "SCTP")];
    assert_eq!(told, expected.map(|(n, name)| (n, name.to_owned())));
    for protocol in Protocol::ALL {
        assert_eq!(Protocol::from_api(protocol.as_str()), Some(protocol));
    }
    for wrong in ["tcp", "ICMP", "", "TCP "] {
        assert_eq!(Protocol::from_api(wrong), None, "{wrong:?}");
    }
}

#[test]
fn names_sort_by_namespace_first() {
    let name = NamespacedName::new;
    assert!(name("a", "z") < name("b", "a"));
    assert_eq!(name("shop", "web").to_string(), "shop/web");
}

#[test]
fn directions_name_the_fields_of_a_spec() {
    assert_eq!(Direction::Ingress.to_string(), "ingress");
    assert_eq!(Direction::Ingress.peers_field(), "from");
    assert_eq!(Direction::Egress.to_string(), "egress");
    assert_eq!(Direction::Egress.peers_field(), "to");
}

#[test]
fn an_empty_label_value_is_a_value() {
    let mut labels = Labels::from_iter([("app", "")]);
    assert_eq!((labels.get("app"), labels.get("tier")), (Some(""), None));
    labels.insert("app", "web");
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("app", "web")]);
}

#[test]
fn selectors_that_read_the_same_are_equal() {
    let requirement = |key: &str, values: &[&str]| Requirement {
        key: key.into(),
        test: Test::In(values.iter().map(|v| (*v).into()).collect()),
    };
    let one = Selector::new(vec![
        requirement("b", &["2", "1", "2"]),
        requirement("a", &["x"]),
        requirement("a", &["x"]),
    ]);
    let two = Selector::new(vec![
        requirement("a", &["x"]),
        requirement("b", &["1", "2"]),
    ]);
    assert_eq!(one, two);
    assert_eq!(one.requirements().len(), 2);
    assert_eq!(Selector::new(vec![]), Selector::everything());
}

/// `semantics G11`, `H6`, `H10`, `H11`.
#[test]
fn only_host_network_and_terminal_pods_are_out_of_reach() {
    for (host_network, phase, expected) in [
        (false, Phase::Pending, true),
        (false, Phase::Running, true),
        (false, Phase::Unknown, true),
        (false, Phase::Terminal, false),
        (true, Phase::Running, false),
    ] {
        let pod = Pod {
            host_network,
            phase,
            ..pod("web")
        };
        assert_eq!(pod.is_selectable(), expected, "{host_network} {phase:?}");
    }
}

/// `semantics E9`, `E10`, `E15`.
#[test]
fn a_port_name_stands_for_every_port_of_that_name_and_protocol() {
    let port = |name: &str, protocol, number| PodPort {
        name: name.into(),
        protocol,
        number,
    };
    let pod = Pod {
        ports: vec![
            port("http", Protocol::Tcp, 80),
            port("http", Protocol::Udp, 81),
            port("http", Protocol::Tcp, 8080),
        ],
        ..pod("web")
    };
    let resolve = |name, protocol| pod.resolve_port(name, protocol).collect::<Vec<_>>();
    assert_eq!(resolve("http", Protocol::Tcp), [80, 8080]);
    assert_eq!(resolve("http", Protocol::Udp), [81]);
    assert_eq!(resolve("http", Protocol::Sctp), [0_u16; 0]);
    assert_eq!(resolve("https", Protocol::Tcp), [0_u16; 0]);
}

/// `semantics H7`.
#[test]
fn the_running_then_the_younger_then_the_last_named_pod_claims_an_address() {
    let aged = |name, phase, created| Pod {
        phase,
        created,
        ..pod(name)
    };
    let in_order = [
        aged("z", Phase::Pending, 9),
        aged("z", Phase::Running, 1),
        aged("a", Phase::Running, 2),
        aged("b", Phase::Running, 2),
    ];
    assert!(in_order.is_sorted_by(|a, b| a.claim() < b.claim()));
}
