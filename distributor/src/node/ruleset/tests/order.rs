//! What passes or is dropped before any policy is asked.

use std::net::IpAddr;

use sidewall_policy::compile::Options;
use sidewall_policy::model::{
    Cluster, Labels, NamespacedName, NetworkPolicy, Phase, Pod, Selector, TcpPath,
};

use super::packet::{Fate, Packet, walk};
use super::{settings, snapshot};
use crate::node::ruleset::object::State;
use crate::node::ruleset::{COUNTERS, DELIVER, Plan, SILENCED, UPSTREAM};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Three pods on the node: nothing may reach or leave `closed`, the others are free. The node Envoy
/// carries `open` only.
fn plan() -> Plan {
    let mut cluster = Cluster::default();
    for (name, address, tcp_path) in [
        ("closed", "10.244.1.11", TcpPath::Sidecar),
        ("open", "10.244.1.12", TcpPath::NodeProxy),
        ("plain", "10.244.1.13", TcpPath::Kernel),
    ] {
        let pod = Pod {
            id: NamespacedName::new("shop", name),
            labels: Labels::from_iter([("app", name)]),
            node: Some("n1".into()),
            ips: vec![ip(address)],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            ports: Vec::new(),
            tcp_path: Some(tcp_path),
        };
        cluster.pods.insert(pod.id.clone(), pod);
    }
    let policy = NetworkPolicy {
        id: NamespacedName::new("shop", "closed"),
        pod_selector: Selector::new(vec![sidewall_policy::model::Requirement {
            key: "app".into(),
            test: sidewall_policy::model::Test::In(vec!["closed".into()]),
        }]),
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
        mode: sidewall_policy::model::Mode::Enforce,
    };
    cluster.policies.insert(policy.id.clone(), policy);
    Plan::new(&settings(), Some(&snapshot(&cluster, &Options::default())))
}

/// Where it ends, and which counters of the whole table count it.
fn told(packet: Packet) -> (Fate, Vec<&'static str>) {
    let mut seen = Vec::new();
    let fate = walk(&plan().objects, "prerouting", &packet, &mut seen);
    let known = |seen: &String| COUNTERS.iter().find(|(name, _)| name == seen);
    (
        fate,
        seen.iter()
            .filter_map(known)
            .map(|(name, _)| *name)
            .collect(),
    )
}

fn first(source: &str, destination: &str, protocol: u8) -> Packet {
    Packet::first(ip(source), ip(destination), protocol, 80)
}

#[test]
fn both_sides_are_judged_and_counted() {
    for (source, destination, fate, counters) in [
        (
            "10.244.1.12",
            "10.244.1.13",
            Fate::Passed,
            &["egress_allowed", "ingress_allowed"][..],
        ),
        (
            "10.244.1.12",
            "10.244.1.11",
            Fate::Dropped,
            &["egress_allowed", "ingress_denied"],
        ),
        (
            "10.244.1.11",
            "10.244.1.12",
            Fate::Dropped,
            &["egress_denied"],
        ),
        (
            "10.244.2.5",
            "10.244.1.12",
            Fate::Passed,
            &["ingress_allowed"],
        ),
        ("10.244.1.12", "8.8.8.8", Fate::Passed, &["egress_allowed"]),
        ("10.244.1.99", "8.8.8.8", Fate::Dropped, &["unknown_denied"]),
        ("8.8.8.8", "10.244.1.99", Fate::Dropped, &["unknown_denied"]),
        (
            "10.244.1.12",
            "10.244.1.99",
            Fate::Dropped,
            &["egress_allowed", "unknown_denied"],
        ),
        ("8.8.8.8", "10.244.2.5", Fate::Passed, &[]),
    ] {
        let packet = first(source, destination, UDP);
        assert_eq!(told(packet), (fate, counters.to_vec()), "{packet:?}");
    }
}

#[test]
fn established_and_related_packets_pass_and_discovery_does() {
    let denied = first("10.244.1.11", "10.244.1.12", UDP);
    for packet in [
        Packet {
            state: State::Established,
            ..denied
        },
        Packet {
            state: State::Related,
            ..denied
        },
        Packet {
            is_discovery: true,
            ..denied
        },
        Packet {
            from_loopback: true,
            ..denied
        },
    ] {
        assert_eq!(told(packet), (Fate::Passed, vec![]), "{packet:?}");
    }
}

#[test]
fn a_connection_cannot_begin_in_the_middle() {
    let allowed = first("10.244.1.13", "8.8.8.8", TCP);
    let packet = Packet {
        is_syn: false,
        ..allowed
    };
    assert_eq!(told(packet), (Fate::Dropped, vec!["stray_denied"]));
    let packet = Packet {
        state: State::Invalid,
        ..allowed
    };
    assert_eq!(told(packet), (Fate::Dropped, vec!["stray_denied"]));
    // Others' connections are none of ours.
    let foreign = first("10.244.2.5", "8.8.8.8", TCP);
    let packet = Packet {
        is_syn: false,
        ..foreign
    };
    assert_eq!(told(packet), (Fate::Passed, vec![]));
    let packet = Packet {
        state: State::Invalid,
        ..foreign
    };
    assert_eq!(told(packet), (Fate::Passed, vec![]));
}

#[test]
fn a_pod_reaches_itself_and_its_node_without_the_proxy() {
    for address in ["10.244.1.11", "10.244.1.12"] {
        let packet = first(address, address, TCP);
        assert_eq!(told(packet), (Fate::Passed, vec![]), "{address}");
        let packet = Packet {
            to_node: true,
            ..first(address, "192.168.50.1", TCP)
        };
        assert_eq!(
            told(packet),
            (Fate::Passed, vec!["egress_allowed"]),
            "{address}"
        );
    }
    // A bridge has an address of the pods' range.
    let packet = Packet {
        to_node: true,
        ..first("10.244.1.12", "10.244.1.1", TCP)
    };
    assert_eq!(told(packet).0, Fate::Passed);
    let packet = Packet {
        to_node: true,
        ..first("10.244.1.99", "192.168.50.1", TCP)
    };
    assert_eq!(told(packet), (Fate::Dropped, vec!["unknown_denied"]));
}

#[test]
fn a_sidecar_reaches_the_control_plane_whatever_the_policies_say() {
    let control = "10.96.0.50";
    for (source, destination, protocol, port, passes) in [
        ("10.244.1.11", control, TCP, 18000, true),
        ("10.244.1.11", control, TCP, 18001, false),
        ("10.244.1.11", control, UDP, 18000, false),
        ("10.244.1.11", "10.96.0.51", TCP, 18000, false),
        // No pod that is known.
        ("10.244.1.99", control, TCP, 18000, false),
    ] {
        let packet = Packet::first(ip(source), ip(destination), protocol, port);
        let fate = if passes { Fate::Passed } else { Fate::Dropped };
        assert_eq!(told(packet).0, fate, "{packet:?}");
    }
}

#[test]
fn only_tcp_of_pods_that_the_proxy_carries_is_handed_to_it() {
    for (source, destination, protocol, is_proxied) in [
        ("10.244.1.12", "8.8.8.8", TCP, true),
        ("8.8.8.8", "10.244.1.12", TCP, true),
        ("10.244.1.13", "10.244.1.12", TCP, true),
        ("10.244.1.12", "10.244.1.13", TCP, false),
        // The other pod's node hands it over, if anybody.
        ("10.244.1.12", "10.244.2.5", TCP, false),
        ("10.244.1.12", "8.8.8.8", UDP, false),
        ("10.244.1.13", "8.8.8.8", TCP, false),
    ] {
        let packet = first(source, destination, protocol);
        let (fate, counters) = told(packet);
        let wanted = if is_proxied {
            Fate::Delivered(DELIVER)
        } else {
            Fate::Passed
        };
        assert_eq!(fate, wanted, "{packet:?}");
        assert_eq!(counters.contains(&"proxied"), is_proxied, "{packet:?}");
    }
    let dead = Packet {
        is_proxy_alive: false,
        ..first("10.244.1.12", "8.8.8.8", TCP)
    };
    let (fate, counters) = told(dead);
    assert_eq!(
        (fate, counters.last()),
        (Fate::Dropped, Some(&"proxy_absent"))
    );
}

/// The kernel alone judges it, and loses nothing.
#[test]
fn what_comes_by_a_bridge_is_judged_and_not_handed_to_the_proxy() {
    for (source, destination, fate) in [
        ("10.244.1.12", "8.8.8.8", Fate::Passed),
        ("10.244.1.13", "10.244.1.12", Fate::Passed),
        ("10.244.1.12", "10.244.1.11", Fate::Dropped),
        ("10.244.1.99", "10.244.1.12", Fate::Dropped),
    ] {
        let packet = Packet {
            from_bridge: true,
            ..first(source, destination, TCP)
        };
        assert_eq!(told(packet).0, fate, "{packet:?}");
    }
}

#[test]
fn a_silenced_connection_is_silent_both_ways() {
    for is_reply in [false, true] {
        let packet = Packet {
            state: State::Established,
            connection_mark: SILENCED,
            is_reply,
            ..first("10.244.1.12", "10.244.1.13", UDP)
        };
        assert_eq!(told(packet), (Fate::Dropped, vec!["silenced_denied"]));
    }
}

#[test]
fn what_belongs_to_the_proxy_goes_to_its_socket() {
    let packet = first("10.244.1.12", "8.8.8.8", TCP);
    for (is_reply, connection_mark, fate) in [
        (false, DELIVER, Fate::Delivered(DELIVER)),
        (true, UPSTREAM, Fate::Delivered(DELIVER)),
        (true, DELIVER, Fate::Passed),
        (false, UPSTREAM, Fate::Passed),
        (false, 0, Fate::Passed),
    ] {
        let state = State::Established;
        let packet = Packet {
            state,
            is_reply,
            connection_mark,
            is_syn: false,
            ..packet
        };
        assert_eq!(told(packet), (fate, vec![]), "{packet:?}");
    }
}
