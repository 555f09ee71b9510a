//! Judging a flow never touches the allocator: in a sidecar it runs on every connection.

use std::net::{IpAddr, Ipv4Addr};

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::model::{
    Cluster, IpBlock, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers,
    Phase, Pod, PodPeer, Ports, Rule, Selector,
};
use sidewall_policy::snapshot::Snapshot;

fn cluster(pods: u32) -> Cluster {
    let mut cluster = Cluster::default();
    for number in 0..pods {
        let id = NamespacedName::new("default", format!("pod-{number}"));
        let pod = Pod {
            id: id.clone(),
            labels: Labels::default(),
            node: None,
            ips: vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            tcp_path: None,
            ports: Vec::new(),
        };
        cluster.pods.insert(id, pod);
    }
    let rule = Rule {
        index: 0,
        peers: Peers::Of(vec![
            Peer::Pods(PodPeer {
                namespaces: NamespaceScope::Own,
                pods: Selector::everything(),
            }),
            Peer::Block(IpBlock {
                cidr: "172.16.0.0/12".parse().expect("a network"),
                except: vec!["172.17.0.0/16".parse().expect("a network")],
            }),
        ]),
        ports: Ports::Any,
    };
    let policy = NetworkPolicy {
        id: NamespacedName::new("default", "peers"),
        pod_selector: Selector::everything(),
        ingress: Some(vec![rule.clone()]),
        egress: Some(vec![rule]),
        mode: Mode::Enforce,
    };
    cluster.policies.insert(policy.id.clone(), policy);
    cluster
}

#[test]
fn judging_allocates_nothing() {
    let cluster = cluster(1_000);
    let subject = NamespacedName::new("default", "pod-0");
    let bytes = compile_snapshot(&cluster, &[subject], &Options::default());
    let snapshot = Snapshot::check(bytes).unwrap();
    let own = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0));
    let peers: [(IpAddr, Verdict); 4] = [
        (Ipv4Addr::new(10, 0, 1, 9).into(), Verdict::Allow),
        (Ipv4Addr::new(172, 16, 3, 4).into(), Verdict::Allow),
        (Ipv4Addr::new(172, 17, 3, 4).into(), Verdict::Deny),
        ("2001:db8::1".parse().unwrap(), Verdict::Deny),
    ];
    for (peer, expected) in peers {
        for (source, destination) in [(peer, own), (own, peer)] {
            let flow = Flow {
                source,
                destination,
                protocol: 6,
                port: 80,
            };
            let mut verdict = None;
            let counted = allocation_counter::measure(|| {
                verdict = Some(snapshot.judge(&flow).verdict);
            });
            assert_eq!(verdict, Some(expected), "{flow:?}");
            assert_eq!(counted.count_total, 0, "{flow:?} allocated");
        }
    }
}
