//! Flows that aim at the edges of a cluster: at every address and port that anything in it
//! mentions, and at those just beside.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sidewall_policy::eval::Flow;
use sidewall_policy::model::{Cluster, Direction, Peer, Peers, PortRange, Ports, Rule};

use super::cluster::{external_addresses, node_addresses, pod_addresses};

/// A flow before the cluster is known: choices among whatever it will offer.
#[derive(Clone)]
pub struct Aim {
    source: Index,
    destination: Index,
    /// Show an IPv4 source or destination as `::ffff:a.b.c.d`.
    mapped: (bool, bool),
    protocol: u8,
    port: Index,
    /// Take destination, protocol and port together from something that listens.
    listener: Option<Index>,
}

/// A failure prints the flow that an aim became; the aim itself says nothing.
impl fmt::Debug for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Any [`Aim`].
pub fn aim() -> impl Strategy<Value = Aim> {
    (
        any::<Index>(),
        any::<Index>(),
        (prop::bool::weighted(0.1), prop::bool::weighted(0.1)),
        // TCP, UDP, SCTP, ICMP, ICMPv6, and numbers at both ends.
        select(&[6u8, 6, 6, 17, 17, 132, 1, 58, 0, 255][..]),
        any::<Index>(),
        option::weighted(0.4, any::<Index>()),
    )
        .prop_map(
            |(source, destination, mapped, protocol, port, listener)| Aim {
                source,
                destination,
                mapped,
                protocol,
                port,
                listener,
            },
        )
}

/// What the flows of a cluster can aim at.
#[derive(Debug)]
pub struct Targets {
    sources: Vec<IpAddr>,
    destinations: Vec<IpAddr>,
    ports: Vec<u16>,
    listeners: Vec<(IpAddr, u8, u16)>,
}

impl Targets {
    /// Collects every address and port of interest.
    pub fn of(cluster: &Cluster) -> Self {
        let pods: Vec<IpAddr> = cluster.pods.values().flat_map(|p| p.ips.clone()).collect();
        let services: Vec<IpAddr> = cluster
            .services
            .values()
            .flat_map(|service| service.addresses().collect::<Vec<_>>())
            .collect();
        let mut others: BTreeSet<IpAddr> = pod_addresses().into_iter().collect();
        others.extend(external_addresses());
        others.extend(node_addresses("n1"));
        others.extend(node_addresses("n2"));
        others.extend([
            IpAddr::from(Ipv4Addr::new(127, 0, 0, 9)),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ]);
        for block in rules(cluster).flat_map(blocks) {
            for net in block.except.iter().chain([&block.cidr]) {
                others.extend(edges(*net));
            }
        }
        let others: Vec<IpAddr> = others.into_iter().collect();
        // Pods weigh as much as everything else together: a flow without one says little.
        let mut sources = others.clone();
        let mut destinations = [others, services.repeat(3)].concat();
        for list in [&mut sources, &mut destinations] {
            let times = list.len().div_ceil(pods.len().max(1));
            list.extend(pods.repeat(times));
        }
        Self {
            sources,
            destinations,
            ports: interesting_ports(cluster).into_iter().collect(),
            listeners: listeners(cluster),
        }
    }

    /// The flow that an aim takes.
    pub fn flow(&self, aim: &Aim) -> Flow {
        let shown = |ip, mapped| match ip {
            IpAddr::V4(v4) if mapped => IpAddr::V6(v4.to_ipv6_mapped()),
            ip => ip,
        };
        let (destination, protocol, port) = match &aim.listener {
            Some(index) if !self.listeners.is_empty() => *index.get(&self.listeners),
            _ => (
                *aim.destination.get(&self.destinations),
                aim.protocol,
                *aim.port.get(&self.ports),
            ),
        };
        Flow {
            source: shown(*aim.source.get(&self.sources), aim.mapped.0),
            destination: shown(destination, aim.mapped.1),
            protocol,
            port,
        }
    }
}

/// Every named port of a pod, every port of a service, and its node ports on every node.
fn listeners(cluster: &Cluster) -> Vec<(IpAddr, u8, u16)> {
    let mut all = Vec::new();
    for pod in cluster.pods.values() {
        for port in &pod.ports {
            let at = |ip: &IpAddr| (*ip, port.protocol.number(), port.number);
            all.extend(pod.ips.iter().map(at));
        }
    }
    for service in cluster.services.values() {
        for port in &service.ports {
            let protocol = port.protocol.number();
            all.extend(service.addresses().map(|ip| (ip, protocol, port.port)));
            if let Some(number) = port.node_port {
                let nodes = cluster.nodes.values().flat_map(|node| &node.addresses);
                all.extend(nodes.map(|ip| (*ip, protocol, number)));
            }
        }
    }
    all
}

fn rules(cluster: &Cluster) -> impl Iterator<Item = &Rule> {
    cluster.policies.values().flat_map(|policy| {
        [Direction::Ingress, Direction::Egress]
            .into_iter()
            .filter_map(|direction| policy.rules(direction))
            .flatten()
    })
}

fn blocks(rule: &Rule) -> impl Iterator<Item = &sidewall_policy::model::IpBlock> {
    let peers = match &rule.peers {
        Peers::Any => &[][..],
        Peers::Of(list) => list.as_slice(),
    };
    peers.iter().filter_map(|peer| match peer {
        Peer::Block(block) => Some(block),
        Peer::Pods(_) => None,
    })
}

/// The first and last address of a network, and their neighbours outside.
fn edges(net: ipnet::IpNet) -> Vec<IpAddr> {
    match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (low, high) = (u32::from(first), u32::from(last));
            [low, high, low.saturating_sub(1), high.saturating_add(1)]
                .map(|bits| IpAddr::V4(bits.into()))
                .to_vec()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (low, high) = (u128::from(first), u128::from(last));
            [low, high, low.saturating_sub(1), high.saturating_add(1)]
                .map(|bits| IpAddr::V6(bits.into()))
                .to_vec()
        }
        _ => Vec::new(),
    }
}

fn interesting_ports(cluster: &Cluster) -> BTreeSet<u16> {
    let mut ports: BTreeSet<u16> = [0, 65535].into();
    for rule in rules(cluster) {
        let Ports::Of(list) = &rule.ports else {
            continue;
        };
        for each in list {
            if let PortRange::Numbers { low, high } = each.port {
                ports.extend([low, high, low.saturating_sub(1), high.saturating_add(1)]);
            }
        }
    }
    for pod in cluster.pods.values() {
        ports.extend(pod.ports.iter().map(|port| port.number));
    }
    for port in cluster.services.values().flat_map(|service| &service.ports) {
        ports.insert(port.port);
        ports.extend(port.node_port);
        ports.extend(port.backends.iter().map(|backend| backend.port));
    }
    ports
}
