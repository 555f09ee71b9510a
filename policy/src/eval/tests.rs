//! Small worlds judged end to end: compile, check, judge, explain.

use std::net::IpAddr;

use super::{Flow, Verdict};
use crate::compile::{Options, compile_snapshot};
use crate::model::{
    Backend, Cluster, IpBlock, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Peer,
    Peers, Phase, Pod, PodPeer, PortMatch, PortRange, Ports, Protocol, Rule, Selector, Service,
    ServicePort,
};
use crate::snapshot::Snapshot;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str, address: &str) -> Pod {
    Pod {
        id: NamespacedName::new("default", name),
        labels: Labels::from_iter([("app", name)]),
        node: None,
        ips: vec![ip(address)],
        host_network: false,
        uid: None,
        phase: Phase::Running,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    }
}

fn selector(app: &str) -> Selector {
    Selector::new(vec![crate::model::Requirement {
        key: "app".into(),
        test: crate::model::Test::In(vec![app.into()]),
    }])
}

fn tcp(port: u16) -> Ports {
    Ports::Of(vec![PortMatch {
        protocol: Protocol::Tcp,
        port: PortRange::Numbers {
            low: port,
            high: port,
        },
    }])
}

fn world(rules: Vec<Rule>, mode: Mode) -> Cluster {
    let mut cluster = Cluster::default();
    for pod in [
        pod("db", "10.0.0.1"),
        pod("web", "10.0.0.2"),
        pod("job", "10.0.0.3"),
    ] {
        cluster.pods.insert(pod.id.clone(), pod);
    }
    let policy = NetworkPolicy {
        id: NamespacedName::new("default", "db"),
        pod_selector: selector("db"),
        ingress: Some(rules),
        egress: None,
        mode,
    };
    cluster.policies.insert(policy.id.clone(), policy);
    cluster
}

fn snapshot(cluster: &Cluster) -> Snapshot {
    let db = NamespacedName::new("default", "db");
    Snapshot::check(compile_snapshot(cluster, &[db], &Options::default())).unwrap()
}

fn flow(source: &str, port: u16) -> Flow {
    Flow {
        source: ip(source),
        destination: ip("10.0.0.1"),
        protocol: 6,
        port,
    }
}

fn web_on_6379() -> Rule {
    Rule {
        index: 0,
        peers: Peers::Of(vec![
            Peer::Pods(PodPeer {
                namespaces: NamespaceScope::Own,
                pods: selector("web"),
            }),
            Peer::Block(IpBlock {
                cidr: "172.17.0.0/16".parse().unwrap(),
                except: vec!["172.17.1.0/24".parse().unwrap()],
            }),
        ]),
        ports: tcp(6379),
    }
}

#[test]
fn names_the_rule_that_allows() {
    let snapshot = snapshot(&world(vec![web_on_6379()], Mode::Enforce));
    for source in ["10.0.0.2", "172.17.0.9", "172.17.2.0", "::ffff:172.17.0.9"] {
        let flow = flow(source, 6379);
        let decision = snapshot.judge(&flow);
        assert_eq!(decision.verdict, Verdict::Allow, "{source}");
        let told = snapshot.explain(&flow, &decision);
        assert_eq!(told.rule.unwrap().to_string(), "default/db ingress[0]");
        assert_eq!(told.subject.unwrap(), "default/db");
    }
}

#[test]
fn names_what_came_nearest_on_a_deny() {
    let snapshot = snapshot(&world(vec![web_on_6379()], Mode::Enforce));
    for (source, port, missed) in [
        ("10.0.0.3", 6379, "from"),
        ("172.17.1.9", 6379, "from"),
        ("10.0.0.2", 80, "ports"),
        ("10.0.0.3", 80, "from and ports"),
    ] {
        let flow = flow(source, port);
        let decision = snapshot.judge(&flow);
        assert_eq!(decision.verdict, Verdict::Deny, "{source}:{port}");
        let told = snapshot.explain(&flow, &decision);
        assert_eq!(told.policies, ["default/db"]);
        assert_eq!(told.nearest.unwrap().missed, missed, "{source}:{port}");
    }
}

#[test]
fn the_nearest_rule_knows_the_peer_then_the_port_then_nothing() {
    let rule = |index, app, protocol, low, high| Rule {
        index,
        peers: Peers::Of(vec![Peer::Pods(PodPeer {
            namespaces: NamespaceScope::Own,
            pods: selector(app),
        })]),
        ports: Ports::Of(vec![PortMatch {
            protocol,
            port: PortRange::Numbers { low, high },
        }]),
    };
    let rules = vec![
        rule(0, "web", Protocol::Tcp, 6379, 6379),
        rule(1, "web", Protocol::Tcp, 80, 90),
        rule(2, "job", Protocol::Udp, 53, 53),
    ];
    let snapshot = snapshot(&world(rules, Mode::Enforce));
    for (source, protocol, port, index, missed) in [
        // Of the rules that know the peer, the one whose ports are closest, on either side.
        ("10.0.0.2", 6, 75, 1, "ports"),
        ("10.0.0.2", 6, 95, 1, "ports"),
        ("10.0.0.2", 6, 6378, 0, "ports"),
        ("10.0.0.2", 6, 6380, 0, "ports"),
        ("10.0.0.3", 6, 53, 2, "ports.protocol"),
        // A stranger: a rule for this protocol and port, wherever in the list it is.
        ("10.0.0.9", 6, 6379, 0, "from"),
        ("10.0.0.9", 6, 80, 1, "from"),
        ("10.0.0.9", 17, 53, 2, "from"),
        ("10.0.0.9", 6, 53, 0, "from and ports"),
        ("10.0.0.9", 17, 6379, 0, "from and ports"),
    ] {
        let flow = Flow {
            protocol,
            ..flow(source, port)
        };
        let told = snapshot.explain(&flow, &snapshot.judge(&flow));
        let near = told.nearest.expect("there are rules");
        assert_eq!((near.rule.index, near.missed), (index, missed), "{flow:?}");
    }
}

#[test]
fn names_the_service_that_an_address_stands_for() {
    let mut cluster = world(Vec::new(), Mode::Audit);
    let to_block = |cidr: &str| {
        Peers::Of(vec![Peer::Block(IpBlock {
            cidr: cidr.parse().unwrap(),
            except: Vec::new(),
        })])
    };
    let rules = [
        (to_block("10.0.0.1/32"), tcp(6379)),
        (to_block("10.96.0.0/16"), tcp(9)),
    ];
    let policy = NetworkPolicy {
        id: NamespacedName::new("default", "out"),
        pod_selector: selector("web"),
        ingress: None,
        egress: Some(
            (0..)
                .zip(rules)
                .map(|(index, (peers, ports))| Rule {
                    index,
                    peers,
                    ports,
                })
                .collect(),
        ),
        mode: Mode::Enforce,
    };
    cluster.policies.insert(policy.id.clone(), policy);
    let backend = |address, port| Backend {
        ip: ip(address),
        port,
    };
    let (allowed, denied) = (backend("10.0.0.1", 6379), backend("10.0.0.3", 1));
    for (name, address, backends) in [
        ("all", "10.96.0.1", vec![allowed]),
        ("none", "10.96.0.2", vec![denied]),
        ("some", "10.96.0.3", vec![allowed, denied]),
    ] {
        let service = Service {
            id: NamespacedName::new("default", name),
            cluster_ips: vec![ip(address)],
            external_ips: Vec::new(),
            ports: vec![ServicePort {
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
                backends,
            }],
        };
        cluster.services.insert(service.id.clone(), service);
    }
    let web = NamespacedName::new("default", "web");
    let bytes = compile_snapshot(&cluster, &[web], &Options::default());
    let snapshot = Snapshot::check(bytes).unwrap();
    let near = Some(("default/out egress[0]", "to"));
    let by = Some("default/out egress[0]");
    for (destination, port, reason, service, rule, nearest) in [
        (
            "10.96.0.1",
            80,
            "service-allowed",
            Some("default/all"),
            by,
            None,
        ),
        (
            "10.96.0.2",
            80,
            "service-denied",
            Some("default/none"),
            None,
            near,
        ),
        (
            "10.96.0.3",
            80,
            "service-mixed",
            Some("default/some"),
            None,
            near,
        ),
        (
            "10.96.0.3",
            81,
            "service-unknown-port",
            Some("default/some"),
            None,
            near,
        ),
        ("10.0.0.1", 6379, "rule", None, by, None),
        ("10.0.0.3", 6379, "no-rule", None, None, near),
    ] {
        let flow = Flow {
            source: ip("10.0.0.2"),
            destination: ip(destination),
            protocol: 6,
            port,
        };
        let decision = snapshot.judge(&flow);
        let told = snapshot.explain(&flow, &decision);
        assert_eq!((told.reason, told.service.as_deref()), (reason, service));
        assert_eq!(
            told.rule.map(|rule| rule.to_string()).as_deref(),
            rule,
            "{flow:?}"
        );
        let found = told
            .nearest
            .map(|near| (near.rule.to_string(), near.missed));
        let wanted = nearest.map(|(rule, missed)| (rule.to_owned(), missed));
        assert_eq!(found, wanted, "{flow:?}");
        let named: Vec<_> = snapshot.allowed_by(&decision).collect();
        assert_eq!(
            named,
            if rule.is_some() {
                vec![("default", "out")]
            } else {
                vec![]
            }
        );
    }
}

/// Nothing leads to the service's own address: where it ends is the only sign that it matters.
#[test]
fn a_service_that_ends_where_allowed_is_allowed() {
    let a_pod = Peer::Pods(PodPeer {
        namespaces: NamespaceScope::Own,
        pods: selector("db"),
    });
    let a_block = Peer::Block(IpBlock {
        cidr: "10.0.0.0/24".parse().unwrap(),
        except: Vec::new(),
    });
    for peer in [a_pod, a_block] {
        let mut cluster = world(Vec::new(), Mode::Audit);
        let policy = NetworkPolicy {
            id: NamespacedName::new("default", "out"),
            pod_selector: selector("web"),
            ingress: None,
            egress: Some(vec![Rule {
                index: 0,
                peers: Peers::Of(vec![peer]),
                ports: tcp(6379),
            }]),
            mode: Mode::Enforce,
        };
        cluster.policies.insert(policy.id.clone(), policy);
        // The one that matters is neither the first nor the second.
        for (name, address, backend) in [
            ("a", "10.96.0.1", "10.0.1.1"),
            ("b", "10.96.0.2", "10.0.1.2"),
            ("db", "10.96.0.3", "10.0.0.1"),
        ] {
            let service = service(name, address, backend);
            cluster.services.insert(service.id.clone(), service);
        }
        let web = NamespacedName::new("default", "web");
        let bytes = compile_snapshot(&cluster, &[web], &Options::default());
        let decision = Snapshot::check(bytes).unwrap().judge(&Flow {
            source: ip("10.0.0.2"),
            destination: ip("10.96.0.3"),
            protocol: 6,
            port: 80,
        });
        assert_eq!(decision.verdict, Verdict::Allow);
    }
}

fn service(name: &str, address: &str, backend: &str) -> Service {
    Service {
        id: NamespacedName::new("default", name),
        cluster_ips: vec![ip(address)],
        external_ips: Vec::new(),
        ports: vec![ServicePort {
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            backends: vec![Backend {
                ip: ip(backend),
                port: 6379,
            }],
        }],
    }
}

#[test]
fn a_policy_without_rules_has_no_near_miss() {
    let snapshot = snapshot(&world(Vec::new(), Mode::Enforce));
    let flow = flow("10.0.0.2", 6379);
    let told = snapshot.explain(&flow, &snapshot.judge(&flow));
    assert_eq!((told.verdict, told.nearest), ("deny", None));
}

#[test]
fn an_audited_policy_only_objects() {
    let snapshot = snapshot(&world(Vec::new(), Mode::Audit));
    let flow = flow("10.0.0.2", 6379);
    let decision = snapshot.judge(&flow);
    assert_eq!(decision.verdict, Verdict::Allow);
    let told = snapshot.explain(&flow, &decision);
    assert_eq!((told.verdict, told.reason), ("would-deny", "no-rule"));
    assert_eq!(told.policies, ["default/db"]);
}

#[test]
fn addresses_that_the_snapshot_does_not_know_are_denied() {
    let snapshot = snapshot(&world(Vec::new(), Mode::Enforce));
    let decision = snapshot.judge(&Flow {
        destination: ip("10.0.0.9"),
        ..flow("10.0.0.2", 80)
    });
    assert_eq!(decision.verdict, Verdict::Deny);
}

#[test]
fn equal_state_in_any_order_gives_equal_bytes() {
    let cluster = world(vec![web_on_6379()], Mode::Enforce);
    let mut ids: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
    let bytes = compile_snapshot(&cluster, &ids, &Options::default());
    ids.reverse();
    ids.extend(ids.clone());
    assert_eq!(bytes, compile_snapshot(&cluster, &ids, &Options::default()));
}

#[test]
fn no_flipped_byte_and_no_cut_is_accepted() {
    let bytes = snapshot(&world(vec![web_on_6379()], Mode::Enforce))
        .bytes()
        .to_vec();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(Snapshot::check(flipped).is_err(), "flipped byte {at}");
        assert!(
            Snapshot::check(bytes[..at].to_vec()).is_err(),
            "cut at {at}"
        );
    }
}
