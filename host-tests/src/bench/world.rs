//! Snapshots to measure with: one pod and as many peers and rules as a bench asks for.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::Flow;
use sidewall_policy::model::{
    Cluster, IpBlock, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers,
    Phase, Pod, PodPeer, PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Test,
};
use sidewall_policy::snapshot::Snapshot;

/// The pod that is judged for.
pub const SUBJECT: Ipv4Addr = Ipv4Addr::new(10, 244, 255, 1);

/// The ports that every peer may reach.
pub const PORTS: RangeInclusive<u16> = 8080..=8082;

/// How many connections a bench asks about before it begins again.
const QUESTIONS: u32 = 20_000;

/// Ports that one rule alone allows begin here.
const OWN_PORTS: u16 = 10_000;

/// A snapshot of [`SUBJECT`], and who may reach it.
#[derive(Debug)]
pub struct World {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Those that may, in an order that caches cannot guess.
    pub peers: Vec<Ipv4Addr>,
}

impl World {
    /// One rule that allows all of this many pods.
    #[must_use]
    pub fn one_rule(pods: u32) -> Self {
        let everyone = pod_peer(Selector::everything());
        let rule = Rule {
            index: 0,
            peers: Peers::Of(vec![everyone]),
            ports: Ports::Of(vec![ports(*PORTS.start(), *PORTS.end())]),
        };
        Self::compile(pods, vec![rule], (0..pods).map(pod_address))
    }

    /// As many rules as pods, each allowing one of them also on a port of its own.
    #[must_use]
    pub fn rules_of_hosts(count: u32) -> Self {
        let only = |index: u32| {
            Selector::new(vec![Requirement {
                key: "pod".into(),
                test: Test::In(vec![index.to_string().into()]),
            }])
        };
        let rules = (0..count).map(|index| rule(index, pod_peer(only(index))));
        Self::compile(count, rules.collect(), (0..count).map(pod_address))
    }

    /// As many rules as blocks, each a /28, and one host of each as peers.
    #[must_use]
    pub fn rules_of_blocks(count: u32) -> Self {
        let block = |index: u32| {
            Ipv4Addr::from(0x0b00_0000 + index.wrapping_mul(0x9e37_79b1) % 0x0100_0000)
        };
        let rules = (0..count).map(|index| {
            let cidr = Ipv4Net::new_assert(block(index), 28).trunc().into();
            let except = Vec::new();
            rule(index, Peer::Block(IpBlock { cidr, except }))
        });
        Self::compile(0, rules.collect(), (0..count).map(block))
    }

    /// Who to ask about: peers and as many strangers, as many times as it takes to come to 20,000,
    /// in an order without a pattern. So a world of ten is no easier to foretell than
    /// one of ten thousand: a processor learns a short list by heart. Addresses alone, so that the
    /// list does not push what is measured out of its caches.
    #[must_use]
    pub fn sources(&self) -> Vec<Ipv4Addr> {
        let peers = self.peers.iter().copied();
        let strangers = peers
            .clone()
            .map(|ip| Ipv4Addr::from(u32::from(ip) | 1 << 31));
        let everybody = peers.chain(strangers);
        let mut sources: Vec<(u32, Ipv4Addr)> = (0..QUESTIONS).zip(everybody.cycle()).collect();
        sources.sort_by_key(|(place, _)| scrambled(*place));
        sources.into_iter().map(|(_, ip)| ip).collect()
    }

    fn compile(pods: u32, rules: Vec<Rule>, peers: impl Iterator<Item = Ipv4Addr>) -> Self {
        let mut cluster = Cluster::default();
        for number in 0..pods {
            add(
                &mut cluster,
                &format!("pod-{number}"),
                pod_address(number),
                number,
            );
        }
        add(&mut cluster, "subject", SUBJECT, u32::MAX);
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
        let mut peers: Vec<_> = peers.collect();
        shuffle(&mut peers);
        Self {
            snapshot: Snapshot::check(bytes).expect("the compiler's own output passes its check"),
            peers,
        }
    }
}

/// A connection to [`SUBJECT`].
#[must_use]
pub fn flow_from(source: Ipv4Addr) -> Flow {
    Flow {
        source: source.into(),
        destination: SUBJECT.into(),
        protocol: 6,
        port: *PORTS.start(),
    }
}

/// The address of a pod by its number.
fn pod_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

fn add(cluster: &mut Cluster, name: &str, ip: Ipv4Addr, number: u32) {
    let id = NamespacedName::new("default", name);
    let pod = Pod {
        id: id.clone(),
        labels: Labels::from_iter([("pod", number.to_string())]),
        node: None,
        ips: vec![ip.into()],
        host_network: false,
        uid: None,
        phase: Phase::Running,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    };
    cluster.pods.insert(id, pod);
}

fn rule(index: u32, peer: Peer) -> Rule {
    let own = OWN_PORTS + (index % 50_000) as u16;
    Rule {
        index,
        peers: Peers::Of(vec![peer]),
        ports: Ports::Of(vec![ports(*PORTS.start(), *PORTS.end()), ports(own, own)]),
    }
}

fn pod_peer(pods: Selector) -> Peer {
    let namespaces = NamespaceScope::Own;
    Peer::Pods(PodPeer { namespaces, pods })
}

fn ports(low: u16, high: u16) -> PortMatch {
    PortMatch {
        protocol: Protocol::Tcp,
        port: PortRange::Numbers { low, high },
    }
}

/// Always the same order, by a hash.
fn shuffle(addresses: &mut [Ipv4Addr]) {
    addresses.sort_by_key(|ip| scrambled(u32::from(*ip)));
}

/// A bijection whose values show nothing of their order (the finaliser of MurmurHash3).
fn scrambled(mut number: u32) -> u32 {
    number ^= number >> 16;
    number = number.wrapping_mul(0x85eb_ca6b);
    number ^= number >> 13;
    number = number.wrapping_mul(0xc2b2_ae35);
    number ^ (number >> 16)
}
