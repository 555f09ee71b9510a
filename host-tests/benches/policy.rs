//! The engine alone: evaluation against the number of rules, checking, size.
//!
//! Prints `ratio NAME VALUE` and `figure NAME VALUE UNIT`; see docs/performance.md.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::net::{IpAddr, Ipv4Addr};

use sidewall_host_tests::bench;
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::Flow;
use sidewall_policy::model::{
    Cluster, IpBlock, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers,
    Phase, Pod, PodPeer, PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Test,
};
use sidewall_policy::snapshot::Snapshot;

/// The pod that is judged for.
const SUBJECT: Ipv4Addr = Ipv4Addr::new(10, 244, 255, 1);

fn main() {
    let (hosts_10, hosts_10k) = (rules_of_hosts(10), rules_of_hosts(10_000));
    let (blocks_10, blocks_10k) = (rules_of_blocks(10), rules_of_blocks(10_000));
    for (name, few, many) in [
        ("eval_hosts_10000_rules_to_10", &hosts_10, &hosts_10k),
        ("eval_blocks_10000_rules_to_10", &blocks_10, &blocks_10k),
    ] {
        let (a, b) = bench::in_turn(judging(few), judging(many));
        println!("figure {name}_few {a:.1} ns");
        println!("figure {name}_many {b:.1} ns");
        println!("ratio {name} {:.2}", b / a);
    }

    let large = one_rule(100_000);
    let (hundred_thousand, _) = bench::in_turn(judging(&large), || ());
    println!("figure eval_100000_hosts {hundred_thousand:.1} ns");

    let ten_thousand = one_rule(10_000);
    let bytes = ten_thousand.snapshot.bytes().to_vec();
    let (check, _) = bench::in_turn(|| Snapshot::check(bytes.clone()), || ());
    println!("figure check_10000_hosts {:.3} ms", check / 1e6);

    let small = one_rule(1).snapshot.bytes().len();
    println!("figure snapshot_fixed_part {small} bytes");
    for (hosts, world) in [(10_000_u32, &ten_thousand), (100_000, &large)] {
        let per_host = (world.snapshot.bytes().len() - small) as f64 / f64::from(hosts);
        println!("figure snapshot_bytes_per_host_{hosts} {per_host:.2} bytes");
    }
}

/// A snapshot and peers to ask it about: every second one is allowed.
struct World {
    snapshot: Snapshot,
    peers: Vec<Ipv4Addr>,
}

/// One judgement after the other, over all peers in their random order.
fn judging(world: &World) -> impl FnMut() -> sidewall_policy::eval::Decision + '_ {
    let mut peers = world.peers.iter().cycle();
    move || {
        let peer = peers.next().copied().unwrap_or(SUBJECT);
        world.snapshot.judge(&Flow {
            source: IpAddr::V4(peer),
            destination: IpAddr::V4(SUBJECT),
            protocol: 6,
            port: 80,
        })
    }
}

/// One rule that allows all of this many pods.
fn one_rule(pods: u32) -> World {
    let rule = Rule {
        index: 0,
        peers: Peers::Of(vec![Peer::Pods(PodPeer {
            namespaces: NamespaceScope::Own,
            pods: Selector::everything(),
        })]),
        ports: tcp(80),
    };
    world(pods, vec![rule])
}

/// As many rules as pods, each allowing one of them on ports of its own and on 80.
fn rules_of_hosts(count: u32) -> World {
    let rules = (0..count)
        .map(|index| {
            let only = Selector::new(vec![Requirement {
                key: "pod".into(),
                test: Test::In(vec![index.to_string().into()]),
            }]);
            rule(
                index,
                Peer::Pods(PodPeer {
                    namespaces: NamespaceScope::Own,
                    pods: only,
                }),
            )
        })
        .collect();
    world(count, rules)
}

/// As many rules as blocks, each a /28 with ports of its own and 80.
fn rules_of_blocks(count: u32) -> World {
    let block = |index: u32| Ipv4Addr::from(0x0b00_0000 + index.wrapping_mul(0x9e37_79b1) % 0x0100_0000);
    let rules = (0..count)
        .map(|index| {
            let cidr = ipnet::Ipv4Net::new_assert(block(index), 28).trunc();
            rule(
                index,
                Peer::Block(IpBlock {
                    cidr: cidr.into(),
                    except: Vec::new(),
                }),
            )
        })
        .collect();
    let mut world = world(0, rules);
    world.peers = peers((0..count).map(block));
    world
}

fn rule(index: u32, peer: Peer) -> Rule {
    Rule {
        index,
        peers: Peers::Of(vec![peer]),
        ports: Ports::Of(vec![
            port(80),
            port(1_000 + (index % 60_000) as u16),
        ]),
    }
}

fn tcp(number: u16) -> Ports {
    Ports::Of(vec![port(number)])
}

fn port(number: u16) -> PortMatch {
    PortMatch {
        protocol: Protocol::Tcp,
        port: PortRange::Numbers {
            low: number,
            high: number,
        },
    }
}

/// Addresses to ask about, half of which nothing allows, in an order that caches cannot guess.
fn peers(known: impl Iterator<Item = Ipv4Addr>) -> Vec<Ipv4Addr> {
    let mut peers: Vec<Ipv4Addr> = known
        .flat_map(|ip| [ip, Ipv4Addr::from(u32::from(ip) | 0x8000_0000)])
        .collect();
    peers.sort_by_key(|ip| u32::from(*ip).wrapping_mul(0x9e37_79b1));
    peers
}

fn world(pods: u32, rules: Vec<Rule>) -> World {
    let mut cluster = Cluster::default();
    let mut add = |name: String, ip: Ipv4Addr, number: u32| {
        let id = NamespacedName::new("default", name);
        let pod = Pod {
            id: id.clone(),
            labels: Labels::from_iter([("pod", number.to_string())]),
            node: None,
            ips: vec![ip.into()],
            host_network: false,
            phase: Phase::Running,
            created: 0,
            ports: Vec::new(),
        };
        cluster.pods.insert(id, pod);
    };
    let address = |number: u32| Ipv4Addr::from(0x0a00_0000 + number);
    for number in 0..pods {
        add(format!("pod-{number}"), address(number), number);
    }
    add("subject".into(), SUBJECT, u32::MAX);
    let policy = NetworkPolicy {
        id: NamespacedName::new("default", "bench"),
        pod_selector: Selector::everything(),
        ingress: Some(rules),
        egress: None,
        mode: Mode::Enforce,
    };
    cluster.policies.insert(policy.id.clone(), policy);
    let subject = NamespacedName::new("default", "subject");
    let bytes = compile_snapshot(&cluster, &[subject], &Options::default());
    World {
        snapshot: Snapshot::check(bytes).unwrap_or_else(|error| panic!("{error}")),
        peers: peers((0..pods).map(address)),
    }
}
