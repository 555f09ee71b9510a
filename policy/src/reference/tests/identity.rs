//! `semantics 1G` and `1H`: who an address stands for.

use super::*;

/// Denies everything in both directions to shop.
fn closed() -> Cluster {
    let mut cluster = world();
    isolate(&mut cluster, Direction::Ingress, vec![]);
    isolate(&mut cluster, Direction::Egress, vec![]);
    cluster
}

/// Allows ingress to shop from all pods of all namespaces.
fn from_all_pods(cluster: &mut Cluster) {
    let all = Selector::everything;
    let rules = vec![(Peers::Of(vec![everywhere(all(), all())]), Ports::Any)];
    isolate(cluster, Direction::Ingress, rules);
}

#[test]
fn g2_a_pod_reaches_itself() {
    let cluster = closed();
    for (source, destination) in [
        (WEB, WEB),
        (WEB, "::ffff:10.0.0.1"),
        ("fd00::1", "fd00::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        (WEB, "127.9.9.9"),
    ] {
        assert!(
            tcp(&cluster, source, destination, 80),
            "{source} {destination}"
        );
    }
    let mut two = closed();
    pod(&mut two, "shop", "web").ips.push(ip("10.0.0.9"));
    assert!(tcp(&two, WEB, "10.0.0.9", 80), "another address of its own");
    assert!(!tcp(&two, WEB, DB, 80));
}

#[test]
fn g6_g8_g9_the_own_node_always_reaches_its_pods() {
    let cluster = closed();
    for source in ["192.168.0.1", "10.0.0.254"] {
        assert!(tcp(&cluster, source, WEB, 80), "{source}");
        assert!(!tcp(&cluster, source, DB, 81), "{source} is not db's node");
    }
    assert!(tcp(&cluster, "fd01::1", "fd00::1", 80));
    assert!(!tcp(&cluster, "192.168.0.2", WEB, 80));
}

#[test]
fn g7_egress_to_the_own_node_is_allowed_unless_it_is_to_be_judged() {
    let mut cluster = closed();
    let judged = Options {
        enforce_own_node_egress: true,
        ..Options::default()
    };
    let to_node = flow(WEB, "192.168.0.1", TCP, 22);
    assert!(allows(&cluster, to_node));
    assert!(!opinion(&cluster, &judged, &to_node).allowed);
    assert!(!tcp(&cluster, WEB, "192.168.0.2", 22), "another node");

    let rules = vec![(Peers::Of(vec![block("192.168.0.1/32", &[])]), Ports::Any)];
    isolate(&mut cluster, Direction::Egress, rules);
    assert!(opinion(&cluster, &judged, &to_node).allowed);
    // Ingress from the own node does not depend on it.
    let from_node = flow("192.168.0.1", WEB, TCP, 80);
    assert!(opinion(&cluster, &judged, &from_node).allowed);
}

#[test]
fn g11_to_g13_host_network_pods_are_nodes() {
    let mut cluster = world();
    from_all_pods(&mut cluster);
    let agent = pod(&mut cluster, "bank", "web");
    agent.host_network = true;
    agent.node = Some("n2".into());
    agent.ips = vec![ip("192.168.0.2")];
    assert!(
        !tcp(&cluster, "192.168.0.2", WEB, 80),
        "matched by no selector"
    );
    assert!(tcp(&cluster, "192.168.0.2", DB, 81), "db's own node");

    let rules = vec![(Peers::Of(vec![block("192.168.0.2/32", &[])]), Ports::Any)];
    isolate(&mut cluster, Direction::Ingress, rules);
    assert!(
        tcp(&cluster, "192.168.0.2", WEB, 80),
        "by the node's address"
    );

    // Selecting it isolates nothing.
    let everyone = Selector::everything();
    policy(
        &mut cluster,
        ("bank", "deny"),
        everyone,
        Direction::Ingress,
        vec![],
    );
    let told = judge(
        &cluster,
        &Options::default(),
        &flow(DB, "192.168.0.2", TCP, 80),
    );
    assert!(told.allowed && told.ingress.is_none());
}

#[test]
fn g14_other_protocols_pass_only_rules_without_ports() {
    let mut cluster = world();
    let icmp = flow(BANK, WEB, ICMP, 0);
    assert!(allows(&cluster, icmp));
    isolate(
        &mut cluster,
        Direction::Ingress,
        vec![(Peers::Any, Ports::Any)],
    );
    assert!(allows(&cluster, icmp));
    let every_number = Ports::Of(
        Protocol::ALL
            .into_iter()
            .map(|protocol| PortMatch {
                protocol,
                port: PortRange::All,
            })
            .collect(),
    );
    isolate(
        &mut cluster,
        Direction::Ingress,
        vec![(Peers::Any, every_number)],
    );
    assert!(!allows(&cluster, icmp));
    assert!(tcp(&cluster, BANK, WEB, 0));
}

#[test]
fn h6_terminal_pods_lend_their_address_to_nobody() {
    let mut cluster = world();
    from_all_pods(&mut cluster);
    assert!(tcp(&cluster, BANK, WEB, 80));
    pod(&mut cluster, "bank", "web").phase = Phase::Terminal;
    assert!(!tcp(&cluster, BANK, WEB, 80), "as a peer");
    pod(&mut cluster, "shop", "web").phase = Phase::Terminal;
    let told = judge(&cluster, &Options::default(), &flow(DB, WEB, TCP, 80));
    assert!(told.allowed && told.ingress.is_none(), "as a subject");
}

#[test]
fn h6_h7_a_reused_address_is_its_new_pods() {
    let rules = || vec![(Peers::Of(vec![own(label("app", "db"))]), Ports::Any)];
    for (old, new, newcomer_wins) in [
        ((Phase::Terminal, 5), (Phase::Pending, 1), true),
        ((Phase::Unknown, 5), (Phase::Running, 1), true),
        ((Phase::Running, 1), (Phase::Running, 5), true),
        ((Phase::Running, 5), (Phase::Running, 1), false),
        ((Phase::Running, 1), (Phase::Pending, 5), false),
    ] {
        let mut cluster = world();
        isolate(&mut cluster, Direction::Ingress, rules());
        let db = pod(&mut cluster, "shop", "db");
        (db.phase, db.created) = old;
        let newcomer = pod(&mut cluster, "bank", "web");
        (newcomer.phase, newcomer.created) = new;
        newcomer.ips = vec![ip(DB)];
        assert_eq!(
            tcp(&cluster, DB, WEB, 80),
            !newcomer_wins,
            "{old:?} {new:?}"
        );
    }
}

#[test]
fn h8_h10_h11_pods_count_in_every_phase_but_the_last() {
    for phase in [Phase::Pending, Phase::Running, Phase::Unknown] {
        let mut cluster = world();
        from_all_pods(&mut cluster);
        pod(&mut cluster, "bank", "web").phase = phase;
        pod(&mut cluster, "shop", "web").phase = phase;
        assert!(tcp(&cluster, BANK, WEB, 80), "{phase:?}: as a peer");
        assert!(!tcp(&cluster, OUTSIDE, WEB, 80), "{phase:?}: as a subject");
    }
}

#[test]
fn h9_h12_c6_every_address_of_a_pod_is_the_pod() {
    let mut cluster = world();
    from_all_pods(&mut cluster);
    assert!(!tcp(&cluster, "fd00::3", "fd00::1", 80));
    pod(&mut cluster, "bank", "web").ips.push(ip("fd00::3"));
    assert!(
        tcp(&cluster, "fd00::3", "fd00::1", 80),
        "a second address, later"
    );
    pod(&mut cluster, "bank", "web").ips.clear();
    assert!(!tcp(&cluster, BANK, WEB, 80), "no address, no peer");
}
