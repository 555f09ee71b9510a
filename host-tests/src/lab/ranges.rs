//! Which addresses belong to the pods of which node, as an agent has to be told.
//!
//! A Node's `spec.podCIDRs` say so. Where a manifest leaves them out they follow from its pods: the
//! /24 or /64 around each, unless somebody else lives in there too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Error;
use super::world::World;

/// The pod ranges of each node; a node without any is left out.
pub(super) fn of(world: &World) -> Result<BTreeMap<String, Vec<IpNet>>, Error> {
    let mut ranges = BTreeMap::new();
    for node in world.nodes.keys() {
        let declared = world.pod_cidrs.get(node).map_or(&[][..], Vec::as_slice);
        let mut found = BTreeSet::new();
        for cidr in declared {
            let range: IpNet = cidr.parse().map_err(|source| Error::PodCidr {
                node: node.clone(),
                cidr: cidr.clone(),
                source,
            })?;
            found.insert(range.trunc());
        }
        if declared.is_empty() {
            found.extend(pods(world, node, true).map(|address| around(world, node, address)));
        }
        if !found.is_empty() {
            ranges.insert(node.clone(), found.into_iter().collect());
        }
    }
    Ok(ranges)
}

/// The range around a pod's address, or the address alone.
fn around(world: &World, node: &str, address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    let alone = IpNet::from(address);
    let Ok(wide) = IpNet::new(address, length) else {
        return alone;
    };
    let mut others = pods(world, node, false).chain(world.nodes.values().flatten().copied());
    if others.any(|other| wide.contains(&other)) {
        alone
    } else {
        wide.trunc()
    }
}

/// The addresses of the pods that are on this node, or of those that are not.
fn pods<'a>(world: &'a World, node: &'a str, here: bool) -> impl Iterator<Item = IpAddr> + 'a {
    let pods = world.pods.values().filter(|pod| !pod.host_network);
    pods.filter(move |pod| (pod.node == node) == here)
        .flat_map(|pod| pod.addresses.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::super::world::Pod;
    use super::*;

    fn world(pods: &[(&str, &str)]) -> World {
        let mut world = World::default();
        for (node, address) in [("node-1", "10.244.9.1"), ("node-2", "192.168.50.2")] {
            world
                .nodes
                .insert(node.to_owned(), vec![address.parse().unwrap()]);
        }
        for (number, (node, address)) in pods.iter().enumerate() {
            let pod = Pod {
                namespace: "x".to_owned(),
                name: number.to_string(),
                node: (*node).to_owned(),
                addresses: vec![address.parse().unwrap()],
                host_network: false,
                sidecar: false,
                ports: Vec::new(),
            };
            world.pods.insert(number.to_string(), pod);
        }
        world
    }

    fn texts(ranges: &[IpNet]) -> Vec<String> {
        ranges.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_follow_from_pods_but_never_take_in_somebody_else() {
        let world = world(&[
            ("node-1", "10.244.1.11"),
            ("node-1", "fd00:244:1::11"),
            ("node-1", "10.244.3.1"),
            ("node-2", "10.244.3.2"),
            ("node-2", "10.244.9.2"),
        ]);
        let ranges = of(&world).unwrap();
        let first = ["10.244.1.0/24", "10.244.3.1/32", "fd00:244:1::/64"];
        assert_eq!(texts(&ranges["node-1"]), first);
        assert_eq!(texts(&ranges["node-2"]), ["10.244.3.2/32", "10.244.9.2/32"]);
    }

    #[test]
    fn what_a_node_says_counts() {
        let mut world = world(&[("node-1", "10.244.1.11")]);
        let declared = vec!["10.100.0.0/16".to_owned()];
        world.pod_cidrs.insert("node-1".to_owned(), declared);
        assert_eq!(texts(&of(&world).unwrap()["node-1"]), ["10.100.0.0/16"]);
        world
            .pod_cidrs
            .insert("node-1".to_owned(), vec!["10.100.0.0/33".to_owned()]);
        let error = of(&world).unwrap_err().to_string();
        assert!(
            error.starts_with("Node node-1: spec.podCIDRs: 10.100.0.0/33"),
            "{error}"
        );
    }
}
