//! Where to find the entries of a service table that addresses have to do with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::ServiceKey;

/// Places of entries, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lookup {
    /// By the addresses of their backends, each place once.
    backends: BTreeMap<IpAddr, Vec<usize>>,
    /// By the addresses they are reached at.
    addresses: BTreeMap<IpAddr, Vec<usize>>,
    /// Those with a port on every node.
    node_ports: Vec<usize>,
}

impl Lookup {
    pub(super) fn over(entries: &[ServiceKey]) -> Self {
        let mut lookup = Self::default();
        for (place, entry) in entries.iter().enumerate() {
            for ip in &entry.addresses {
                lookup.addresses.entry(*ip).or_default().push(place);
            }
            if entry.node_port.is_some() {
                lookup.node_ports.push(place);
            }
            lookup.move_backends(place, &[], &entry.backends);
        }
        lookup
    }

    /// Notes that an entry has other backends, each as address and port.
    pub(super) fn move_backends(
        &mut self,
        place: usize,
        old: &[(IpAddr, u16)],
        new: &[(IpAddr, u16)],
    ) {
        for (ip, _) in old {
            if let Some(places) = self.backends.get_mut(ip) {
                places.retain(|each| *each != place);
                if places.is_empty() {
                    self.backends.remove(ip);
                }
            }
        }
        for (ip, _) in new {
            let places = self.backends.entry(*ip).or_default();
            if let Err(at) = places.binary_search(&place) {
                places.insert(at, place);
            }
        }
    }

    /// The entries with a backend at this address.
    pub(super) fn behind(&self, ip: IpAddr) -> impl Iterator<Item = usize> {
        self.backends.get(&ip).into_iter().flatten().copied()
    }

    /// The entries with a backend among these addresses.
    pub(super) fn behind_any(&self, ips: RangeInclusive<IpAddr>) -> impl Iterator<Item = usize> {
        self.backends
            .range(ips)
            .flat_map(|(_, places)| places)
            .copied()
    }

    /// The entries that are reached at this address.
    pub(super) fn at(&self, ip: IpAddr) -> impl Iterator<Item = usize> {
        self.addresses.get(&ip).into_iter().flatten().copied()
    }

    /// The entries that are reached at one of these addresses.
    pub(super) fn at_any(&self, ips: RangeInclusive<IpAddr>) -> impl Iterator<Item = usize> {
        self.addresses
            .range(ips)
            .flat_map(|(_, places)| places)
            .copied()
    }

    /// The entries with a port on every node.
    pub(super) fn with_node_port(&self) -> impl Iterator<Item = usize> {
        self.node_ports.iter().copied()
    }
}
