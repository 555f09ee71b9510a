//! `semantics 1I`: destinations that stand for others.

use super::super::{ServiceOpinion, service_opinion};
use super::*;

const VIP: &str = "10.96.0.1";

/// A world whose service has these backends, and whose shop pods may go to these places only.
fn closed_but(rules: Vec<(Peers, Ports)>, backends: &[(&str, u16)]) -> Cluster {
    let mut cluster = world();
    service(&mut cluster, backends);
    isolate(&mut cluster, Direction::Egress, rules);
    cluster
}

fn to(peer: Peer, port: u16) -> Vec<(Peers, Ports)> {
    let ports = number(Protocol::Tcp, port, port);
    vec![(Peers::Of(vec![peer]), ports)]
}

fn think(cluster: &Cluster, address: &str, port: u16) -> Option<ServiceOpinion> {
    let web = &cluster.pods[&NamespacedName::new("shop", "web")];
    service_opinion(cluster, &Options::default(), web, (ip(address), TCP, port))
}

#[test]
fn i1_i3_e19_the_backend_is_judged_by_its_own_port() {
    let db = || own(label("app", "db"));
    for (port, expected) in [(81, true), (80, false)] {
        let cluster = closed_but(to(db(), port), &[(DB, 81)]);
        assert_eq!(tcp(&cluster, WEB, VIP, 80), expected, "a rule for {port}");
    }
}

#[test]
fn i2_i5_blocks_see_the_backend_and_never_the_service() {
    let any = |peer| vec![(Peers::Of(vec![peer]), Ports::Any)];
    let backends = &[(DB, 81)][..];
    for (peer, expected) in [
        (block("10.96.0.0/12", &[]), false),
        (block("10.96.0.1/32", &[]), false),
        (block("0.0.0.0/4", &["10.0.0.2/32"]), false),
        (block("10.0.0.2/32", &[]), true),
        (block("0.0.0.0/4", &["10.0.0.3/32"]), true),
    ] {
        let cluster = closed_but(any(peer.clone()), backends);
        assert_eq!(tcp(&cluster, WEB, VIP, 80), expected, "{peer:?}");
    }
    // Another port of the address is not open either.
    let cluster = closed_but(any(block("10.0.0.0/8", &[])), backends);
    assert!(tcp(&cluster, WEB, VIP, 80));
    assert!(!tcp(&cluster, WEB, VIP, 443));
    assert!(!allows(&cluster, flow(WEB, VIP, UDP, 80)));
}

#[test]
fn i4_some_backends_are_not_enough() {
    let rules = || to(own(Selector::everything()), 81);
    let mixed = closed_but(rules(), &[(DB, 81), (BANK, 81)]);
    assert_eq!(think(&mixed, VIP, 80), Some(ServiceOpinion::Mixed));
    let request = flow(WEB, VIP, TCP, 80);
    assert!(!allows(&mixed, request));
    let node_plane = Options {
        node_plane: true,
        ..Options::default()
    };
    assert!(opinion(&mixed, &node_plane, &request).allowed);

    let denied = closed_but(rules(), &[(BANK, 81)]);
    assert_eq!(think(&denied, VIP, 80), Some(ServiceOpinion::Denied));
    assert!(!opinion(&denied, &node_plane, &request).allowed);

    let empty = closed_but(rules(), &[]);
    assert_eq!(think(&empty, VIP, 80), Some(ServiceOpinion::NoBackends));
    assert!(!opinion(&empty, &node_plane, &request).allowed);
}

#[test]
fn i4_a_service_is_judged_in_the_family_of_its_address() {
    let cluster = closed_but(
        to(own(label("app", "db")), 81),
        &[(DB, 81), ("fd00::9", 81)],
    );
    assert_eq!(think(&cluster, VIP, 80), Some(ServiceOpinion::Allowed));
    assert_eq!(think(&cluster, "fd96::1", 80), Some(ServiceOpinion::Denied));
    assert!(!tcp(&cluster, "fd00::1", "fd96::1", 80));
    assert_eq!(think(&cluster, VIP, 81), None);
}

#[test]
fn g3_a_service_of_the_pod_itself_is_the_pod_itself() {
    let alone = closed_but(vec![], &[(WEB, 8080)]);
    assert!(tcp(&alone, WEB, VIP, 80));
    assert!(!tcp(&alone, DB, VIP, 80));
    let two = closed_but(vec![], &[(WEB, 8080), (BANK, 80)]);
    assert!(!tcp(&two, WEB, VIP, 80), "it may also get to bank");
    let reachable = closed_but(
        to(block("10.0.0.3/32", &[]), 80),
        &[(WEB, 8080), (BANK, 80)],
    );
    assert!(tcp(&reachable, WEB, VIP, 80));
}

/// The table of a pod judges its second address like anybody's.
#[test]
fn g3_by_whichever_of_its_addresses() {
    let mut cluster = closed_but(to(block("10.0.0.1/32", &[]), 8080), &[("10.0.0.9", 8080)]);
    pod(&mut cluster, "shop", "web").ips.push(ip("10.0.0.9"));
    assert!(tcp(&cluster, WEB, VIP, 80));
    let mut cluster = closed_but(
        to(block("10.0.0.9/32", &[]), 8080),
        &[("10.0.0.9", 8080), (BANK, 1)],
    );
    pod(&mut cluster, "shop", "web").ips.push(ip("10.0.0.9"));
    assert!(!tcp(&cluster, WEB, VIP, 80));
}

#[test]
fn g7_i6_backends_on_a_node() {
    let cluster = closed_but(vec![], &[("192.168.0.1", 6443)]);
    assert!(tcp(&cluster, WEB, VIP, 80), "the own node");
    assert!(!tcp(&cluster, DB, VIP, 80), "another node");
    let judged = Options {
        enforce_own_node_egress: true,
        ..Options::default()
    };
    let request = flow(WEB, VIP, TCP, 80);
    assert!(!opinion(&cluster, &judged, &request).allowed);
    let rules = to(block("192.168.0.0/24", &[]), 6443);
    let cluster = closed_but(rules, &[("192.168.0.1", 6443), ("192.168.0.2", 6443)]);
    assert!(opinion(&cluster, &judged, &request).allowed);
    assert!(tcp(&cluster, DB, VIP, 80));
}

#[test]
fn g7_a_node_port_of_the_own_node_is_its_service() {
    let node = "192.168.0.1";
    let cluster = closed_but(vec![], &[(BANK, 80)]);
    assert!(!tcp(&cluster, WEB, node, 30080));
    assert!(tcp(&cluster, WEB, node, 30081));
    assert!(allows(&cluster, flow(WEB, node, UDP, 30080)));
    let cluster = closed_but(to(block("10.0.0.3/32", &[]), 80), &[(BANK, 80)]);
    assert!(tcp(&cluster, WEB, node, 30080));
    assert!(
        !tcp(&cluster, WEB, "192.168.0.2", 30080),
        "another node is an address"
    );
}

#[test]
fn an_external_ip_that_is_the_own_nodes_is_its_service() {
    let mut cluster = closed_but(vec![], &[(BANK, 80)]);
    for service in cluster.services.values_mut() {
        service.external_ips = vec![ip("192.168.0.1")];
    }
    assert!(!tcp(&cluster, WEB, "192.168.0.1", 80));
    assert!(tcp(&cluster, WEB, "192.168.0.1", 22), "still the node");
}

#[test]
fn services_that_share_an_address_and_port_are_judged_together() {
    let mut cluster = closed_but(to(own(label("app", "db")), 81), &[(DB, 81)]);
    assert!(tcp(&cluster, WEB, VIP, 80));
    let mut rival = cluster.services[&NamespacedName::new("shop", "svc")].clone();
    rival.id = NamespacedName::new("zoo", "rival");
    rival.cluster_ips = vec![ip(VIP)];
    rival.ports[0].node_port = None;
    rival.ports[0].backends[0].ip = ip(BANK);
    cluster.services.insert(rival.id.clone(), rival);
    assert!(!tcp(&cluster, WEB, VIP, 80));
    assert_eq!(think(&cluster, VIP, 80), Some(ServiceOpinion::Mixed));
}

#[test]
fn i7_backends_outside_are_addresses() {
    let outside = || block("203.0.113.0/24", &[]);
    let cluster = closed_but(to(outside(), 443), &[(OUTSIDE, 443)]);
    assert!(tcp(&cluster, WEB, VIP, 80));
    let everyone = everywhere(Selector::everything(), Selector::everything());
    let cluster = closed_but(to(everyone, 443), &[(OUTSIDE, 443)]);
    assert!(!tcp(&cluster, WEB, VIP, 80));
}

/// A balancer may publish a node's address; a cluster IP leads nowhere but to its Service.
#[test]
fn i11_other_ports_of_a_service_are_closed_at_its_cluster_ip_only() {
    let mut cluster = closed_but(vec![(Peers::Any, Ports::Any)], &[(DB, 81)]);
    for service in cluster.services.values_mut() {
        service.external_ips = vec![ip(OUTSIDE)];
    }
    assert_eq!(think(&cluster, OUTSIDE, 80), Some(ServiceOpinion::Allowed));
    assert_eq!(think(&cluster, OUTSIDE, 443), None, "an ordinary address");
    assert!(tcp(&cluster, WEB, OUTSIDE, 443));
    assert!(!tcp(&cluster, WEB, VIP, 443), "whatever the rules allow");
}

#[test]
fn i13_dns_is_its_target_port_on_udp_and_tcp() {
    let mut cluster = closed_but(to(own(label("app", "db")), 5353), &[(DB, 5353)]);
    for service in cluster.services.values_mut() {
        service.ports[0].port = 53;
        let udp = ServicePort {
            protocol: Protocol::Udp,
            node_port: None,
            ..service.ports[0].clone()
        };
        service.ports.push(udp);
    }
    assert!(tcp(&cluster, WEB, VIP, 53));
    assert!(
        !allows(&cluster, flow(WEB, VIP, UDP, 53)),
        "only TCP was allowed"
    );
}

#[test]
fn without_isolation_a_service_needs_no_rule() {
    let mut cluster = world();
    service(&mut cluster, &[]);
    assert!(tcp(&cluster, WEB, VIP, 80));
    assert!(tcp(&cluster, WEB, VIP, 443));
}
