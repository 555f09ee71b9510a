//! `semantics 1E`: ports, protocols and names.

use super::*;

/// Whether bank/web reaches shop/web and shop/db on a TCP port when shop's only ingress rule has
/// these ports.
fn reach(ports: &Ports, port: u16) -> [bool; 2] {
    let mut cluster = world();
    isolate(
        &mut cluster,
        Direction::Ingress,
        vec![(Peers::Any, ports.clone())],
    );
    [WEB, DB].map(|destination| tcp(&cluster, BANK, destination, port))
}

#[test]
fn a12_to_a15_e2_to_e5_e16_numbers_and_protocols() {
    let all = |protocol| {
        Ports::Of(vec![PortMatch {
            protocol,
            port: PortRange::All,
        }])
    };
    for (row, ports, protocol, port, expected) in [
        ("A12", Ports::Any, UDP, 53, true),
        ("A12", Ports::Any, ICMP, 0, true),
        ("A13 E4", all(Protocol::Tcp), TCP, 9, true),
        ("A13 E4", all(Protocol::Tcp), UDP, 9, false),
        ("A14", all(Protocol::Udp), TCP, 9, false),
        ("E3 E18", number(Protocol::Tcp, 80, 80), UDP, 80, false),
        ("E5 low", number(Protocol::Tcp, 53, 80), TCP, 53, true),
        ("E5 high", number(Protocol::Tcp, 53, 80), TCP, 80, true),
        ("E5 below", number(Protocol::Tcp, 53, 80), TCP, 52, false),
        ("E5 above", number(Protocol::Tcp, 53, 80), TCP, 81, false),
        (
            "E5 last",
            number(Protocol::Tcp, 65535, 65535),
            TCP,
            65535,
            true,
        ),
        ("E16", number(Protocol::Tcp, 4242, 4242), TCP, 4242, true),
        ("E17", number(Protocol::Sctp, 80, 80), TCP, 80, false),
        ("none", Ports::Of(vec![]), TCP, 80, false),
    ] {
        let mut cluster = world();
        isolate(&mut cluster, Direction::Ingress, vec![(Peers::Any, ports)]);
        assert_eq!(
            allows(&cluster, flow(BANK, WEB, protocol, port)),
            expected,
            "{row}"
        );
    }
}

#[test]
fn e5_overlapping_ranges_add_up() {
    let range = |low, high| PortMatch {
        protocol: Protocol::Tcp,
        port: PortRange::Numbers { low, high },
    };
    let ports = Ports::Of(vec![range(53, 80), range(53, 84), range(90, 90)]);
    let open: Vec<u16> = (50..=95).filter(|port| reach(&ports, *port)[0]).collect();
    let expected: Vec<u16> = (53..=84).chain([90]).collect();
    assert_eq!(open, expected);
}

#[test]
fn e7_e8_e13_each_selected_pod_resolves_a_name_for_itself() {
    let http = named(Protocol::Tcp, "http");
    assert_eq!(reach(&http, 8080), [true, false]);
    assert_eq!(reach(&http, 81), [false, true]);
    assert_eq!(reach(&http, 80), [false, false], "the source's number");
}

#[test]
fn e9_e10_a_name_of_another_protocol_or_of_none_matches_nothing() {
    assert_eq!(reach(&named(Protocol::Tcp, "dns"), 53), [false, false]);
    assert_eq!(reach(&named(Protocol::Tcp, "gone"), 80), [false, false]);
    let mut cluster = world();
    let rules = vec![(Peers::Any, named(Protocol::Udp, "dns"))];
    isolate(&mut cluster, Direction::Ingress, rules);
    assert!(allows(&cluster, flow(BANK, DB, UDP, 53)));
    assert!(!allows(&cluster, flow(BANK, DB, TCP, 53)));
}

#[test]
fn e15_a_name_given_twice_stands_for_both() {
    let mut cluster = world();
    let web = pod(&mut cluster, "shop", "web");
    for number in [9090, 9091] {
        web.ports.push(PodPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            number,
        });
    }
    let rules = vec![(Peers::Any, named(Protocol::Tcp, "http"))];
    isolate(&mut cluster, Direction::Ingress, rules);
    let open = [8080, 9090, 9091, 80].map(|port| tcp(&cluster, BANK, WEB, port));
    assert_eq!(open, [true, true, true, false]);
}

/// Where shop/web gets when its only egress rule has these peers and the name `http`: db on its
/// own 81 and on bank's 80, bank on its own 80 and on db's 81, outside on 80.
fn egress(peers: Peers) -> [bool; 5] {
    let mut cluster = world();
    let rules = vec![(peers, named(Protocol::Tcp, "http"))];
    isolate(&mut cluster, Direction::Egress, rules);
    [(DB, 81), (DB, 80), (BANK, 80), (BANK, 81), (OUTSIDE, 80)]
        .map(|(destination, port)| tcp(&cluster, WEB, destination, port))
}

#[test]
fn e7_e8_e11_e12_names_on_egress_are_the_destinations() {
    let all = Selector::everything;
    assert_eq!(egress(Peers::Any), [true, false, true, false, false], "E11");
    assert_eq!(
        egress(Peers::Of(vec![own(all())])),
        [true, false, false, false, false],
        "E7"
    );
    assert_eq!(
        egress(Peers::Of(vec![block("0.0.0.0/0", &["10.0.0.2/32"])])),
        [false, false, true, false, false],
        "E12"
    );
}
