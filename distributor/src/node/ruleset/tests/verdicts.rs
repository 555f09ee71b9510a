//! The table decides as the engine does, on random clusters.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sidewall_policy::compile::Options;
use sidewall_policy::model::{Cluster, TcpPath};
use sidewall_policy::snapshot::{PodRules, Snapshot};

use super::packet::{Fate, Packet, walk};
use super::{snapshot, with_ranges, worlds};
use crate::node::ruleset::{DELIVER, Plan, Settings};
use crate::node::seen::{self, Seen, within};
use crate::testing::config::tried;

/// Some pods have addresses outside of it, and some addresses in it belong to no pod.
pub(super) fn ranges() -> Settings {
    with_ranges(["10.0.0.0/29", "fd00::/126"])
}

/// Everybody but nodes.
pub(super) fn ends() -> Vec<IpAddr> {
    let mut ends = worlds::pod_addresses();
    ends.extend(worlds::external_addresses());
    ends
}

/// A packet with any ends and ports.
pub(super) fn packet() -> impl Strategy<Value = Packet> {
    let protocol = select(&[6_u8, 6, 17, 132, 1, 58, 47][..]);
    let port = select(&[0_u16, 1, 2, 52, 53, 54, 79, 80, 81, 8080, 65535][..]);
    let ends = (select(ends()), any::<Index>(), prop::bool::weighted(0.1));
    (ends, protocol, port).prop_map(|((source, destination, to_node), protocol, port)| {
        let mut destinations = if to_node {
            worlds::node_addresses("n1")
        } else {
            ends_of_same_family(source)
        };
        destinations.retain(|each| each.is_ipv4() == source.is_ipv4());
        let port = if seen::has_ports(protocol) { port } else { 0 };
        let destination = *destination.get(&destinations);
        Packet {
            to_node,
            ..Packet::first(source, destination, protocol, port)
        }
    })
}

fn ends_of_same_family(source: IpAddr) -> Vec<IpAddr> {
    let mut ends = ends();
    ends.retain(|each| each.is_ipv4() == source.is_ipv4());
    ends
}

fn seen_of(packet: &Packet) -> Seen {
    Seen {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        ports: seen::has_ports(packet.protocol).then_some((40_000, packet.port)),
    }
}

/// What the engine says; `None` about packets that no pod of the node has to do with.
fn expected(settings: &Settings, snapshot: &Snapshot, packet: &Packet) -> Option<Fate> {
    let seen = seen_of(packet);
    let pod = |address| snapshot.pods().find(|pod| pod.addresses.contains(&address));
    let (source, destination) = (pod(packet.source), pod(packet.destination));
    let concerns = |address| within(&settings.pod_cidrs, address);
    if source.is_none()
        && destination.is_none()
        && !concerns(packet.source)
        && !concerns(packet.destination)
    {
        return None;
    }
    if !matches!(
        seen.judge(snapshot, &settings.pod_cidrs),
        seen::Fate::Allowed(_)
    ) {
        return Some(Fate::Dropped);
    }
    let is_self = source.as_ref().map(|pod| pod.name) == destination.as_ref().map(|pod| pod.name);
    let is_carried =
        |pod: Option<PodRules<'_>>| pod.is_some_and(|pod| pod.tcp_path == TcpPath::NodeProxy);
    let leaves_cluster = is_redirected_from_source(settings, packet.destination);
    let is_proxied = packet.protocol == 6
        && !is_self
        && !packet.to_node
        && (is_carried(destination) || leaves_cluster && is_carried(source));
    Some(if is_proxied {
        Fate::Delivered(DELIVER)
    } else {
        Fate::Passed
    })
}

/// Whether the source's node hands over what goes there: outside of the cluster, and of what is never redirected.
pub(super) fn is_redirected_from_source(settings: &Settings, destination: IpAddr) -> bool {
    let is_link_local = match destination {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !within(&settings.cluster_cidrs, destination)
}

/// The counters of audited policies that a packet makes count: of each side that they would deny, unless a proxy
/// carries the connection and records it.
fn would_deny(
    settings: &Settings,
    snapshot: &Snapshot,
    packet: &Packet,
    fate: &Fate,
) -> Vec<&'static str> {
    let is_judged = expected(settings, snapshot, packet) == Some(Fate::Passed);
    if *fate != Fate::Passed || !is_judged {
        return Vec::new();
    }
    let flow = seen_of(packet).flow();
    let decision = snapshot.judge(&flow);
    let by_sidecar = |address| {
        let mut pods = snapshot.pods();
        let pod = pods.find(|pod| pod.addresses.contains(&address));
        packet.protocol == 6 && pod.is_some_and(|pod| pod.tcp_path == TcpPath::Sidecar)
    };
    [
        ("egress_would_deny", decision.egress, packet.source),
        ("ingress_would_deny", decision.ingress, packet.destination),
    ]
    .into_iter()
    .filter(|(_, side, address)| side.is_some_and(|side| side.would_deny) && !by_sidecar(*address))
    .map(|(counter, ..)| counter)
    .collect()
}

/// Services are chosen before the table is asked.
fn without_services(mut cluster: Cluster) -> Cluster {
    cluster.services.clear();
    cluster
}

proptest! {
    #![proptest_config(tried(256))]

    #[test]
    fn the_table_decides_as_the_engine_does(
        cluster in worlds::cluster().prop_map(without_services),
        enforce_own_node_egress: bool,
        packets in prop::collection::vec(packet(), 60),
    ) {
        let options = Options { node_plane: true, enforce_own_node_egress, tcp_path: TcpPath::NodeProxy };
        let snapshot = snapshot(&cluster, &options);
        let settings = ranges();
        let plan = Plan::new(&settings, Some(&snapshot));
        let node = cluster.nodes.get("n1").map(|node| node.addresses.clone()).unwrap_or_default();
        for packet in packets {
            // The engine exempts only those addresses of the node that it was told.
            if packet.to_node && !node.contains(&packet.destination) {
                continue;
            }
            let mut seen = Vec::new();
            let told = walk(&plan.objects, "prerouting", &packet, &mut seen);
            let wanted = expected(&settings, &snapshot, &packet).unwrap_or(Fate::Passed);
            prop_assert_eq!(&told, &wanted, "{:?}", packet);
            let audited = seen.iter().filter(|counter| counter.ends_with("_would_deny"));
            let audited: Vec<&str> = audited.map(String::as_str).collect();
            prop_assert_eq!(audited, would_deny(&settings, &snapshot, &packet, &told), "{:?}", packet);
        }
    }
}
