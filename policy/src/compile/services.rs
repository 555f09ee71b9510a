//! Service addresses and the backends behind them (`semantics I1` to `I5`).

mod judged;
mod lookup;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use judged::JudgedServices;
use lookup::Lookup;

use crate::model::{NamespacedName, Protocol, Service};

/// An address family. Families never match across (`semantics D3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// One service port in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceKey {
    /// The service.
    pub id: NamespacedName,
    /// The family of its addresses and backends.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The service port.
    pub port: u16,
    /// The port on every node, if it has one.
    pub node_port: Option<u16>,
    /// Addresses of this family.
    pub addresses: Vec<IpAddr>,
    /// Backends of this family, as address and target port, sorted.
    pub backends: Vec<(IpAddr, u16)>,
}

/// Every service port of the cluster, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// Sorted by service, family, protocol and port; no two share an address and port.
    pub entries: Vec<ServiceKey>,
    /// Every cluster IP: on ports that no service has, nobody is there.
    pub cluster_ips: BTreeSet<IpAddr>,
    /// Services that share an address or a node port with another one.
    entangled: BTreeSet<NamespacedName>,
    lookup: Lookup,
}

impl ServiceKey {
    /// What entries are sorted by.
    fn place(&self) -> impl Ord + '_ {
        (&self.id, self.family, self.protocol, self.port)
    }
}

/// What a table says of the backends of one service port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceVerdict {
    /// Backends that the table allows.
    pub allowed: u32,
    /// Backends that it denies.
    pub denied: u32,
    /// The rule that allows the first allowed backend.
    pub rule: Option<u32>,
}

impl ServiceTable {
    /// Lays out services; those without addresses and node ports (headless) never appear.
    ///
    /// If several claim one address and port, any of them may get the connection: that address
    /// stands for the backends of all, under the name of the first.
    pub fn new<'a>(services: impl Iterator<Item = &'a Service>) -> Self {
        let mut cluster_ips = BTreeSet::new();
        let mut declared: Vec<ServiceKey> = services
            .inspect(|service| cluster_ips.extend(&service.cluster_ips))
            .flat_map(|service| {
                Family::BOTH
                    .into_iter()
                    .flat_map(move |family| entries_of(service, family))
            })
            .collect();
        declared.sort_by(|a, b| a.place().cmp(&b.place()));

        let mut claims: BTreeMap<Claim, BTreeSet<usize>> = BTreeMap::new();
        for (place, entry) in declared.iter().enumerate() {
            for claim in claims_of(entry) {
                claims.entry(claim).or_default().insert(place);
            }
        }
        let entangled = entangled(&declared, &claims);
        let mut entries: BTreeMap<BTreeSet<usize>, ServiceKey> = BTreeMap::new();
        for (claim, claimants) in claims {
            let joined = joined(claimants.iter().filter_map(|place| declared.get(*place)));
            let Some(entry) = joined.map(|entry| entries.entry(claimants).or_insert(entry)) else {
                continue;
            };
            match claim {
                Claim::Address(ip, ..) => entry.addresses.push(ip),
                Claim::Node(_, _, port) => entry.node_port = Some(port),
            }
        }
        let entries: Vec<ServiceKey> = entries.into_values().collect();
        Self {
            lookup: Lookup::over(&entries),
            entries,
            cluster_ips,
            entangled,
        }
    }

    /// Takes in a service of which nothing but backends is different, and returns the places of
    /// the entries that have others now. `None` if that is not all, or cannot be told: then the
    /// table must be laid out anew.
    pub fn set_backends(&mut self, service: &Service) -> Option<Vec<usize>> {
        if self.entangled.contains(&service.id) {
            return None;
        }
        let start = self.entries.partition_point(|entry| entry.id < service.id);
        let known = self.entries.get_mut(start..)?;
        let count = known.partition_point(|entry| entry.id == service.id);
        let known = known.get_mut(..count)?;
        let mut declared: Vec<ServiceKey> = Family::BOTH
            .into_iter()
            .flat_map(|family| entries_of(service, family))
            .filter(|entry| claims_of(entry).next().is_some())
            .collect();
        declared.sort_by(|a, b| a.place().cmp(&b.place()));
        let is_all = declared.len() == known.len()
            && declared.iter().zip(known.iter()).all(|(new, old)| {
                new.place() == old.place()
                    && new.addresses == old.addresses
                    && new.node_port == old.node_port
            });
        if !is_all {
            return None;
        }
        let mut changed = Vec::new();
        for (offset, (new, old)) in declared.into_iter().zip(known).enumerate() {
            if new.backends != old.backends {
                let place = start.saturating_add(offset);
                self.lookup
                    .move_backends(place, &old.backends, &new.backends);
                *old = new;
                changed.push(place);
            }
        }
        Some(changed)
    }
}

/// What makes a connection one to a service port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// An address of the service and its port.
    Address(IpAddr, Protocol, u16),
    /// Any node's address of this family and the node port.
    Node(Family, Protocol, u16),
}

/// The services that share an address, be it on other ports, or a node port with another one.
fn entangled(
    declared: &[ServiceKey],
    claims: &BTreeMap<Claim, BTreeSet<usize>>,
) -> BTreeSet<NamespacedName> {
    let mut by_address: BTreeMap<IpAddr, BTreeSet<&NamespacedName>> = BTreeMap::new();
    let mut entangled = BTreeSet::new();
    let mut share = |owners: &BTreeSet<&NamespacedName>| {
        if owners.len() > 1 {
            entangled.extend(owners.iter().map(|id| (*id).clone()));
        }
    };
    for (claim, claimants) in claims {
        let owners = claimants.iter().filter_map(|place| declared.get(*place));
        let owners = owners.map(|entry| &entry.id).collect();
        share(&owners);
        if let Claim::Address(ip, ..) = claim {
            by_address.entry(*ip).or_default().extend(owners);
        }
    }
    by_address.values().for_each(share);
    entangled
}

fn claims_of(entry: &ServiceKey) -> impl Iterator<Item = Claim> {
    let addresses = entry
        .addresses
        .iter()
        .map(|ip| Claim::Address(*ip, entry.protocol, entry.port));
    let node = entry
        .node_port
        .map(|port| Claim::Node(entry.family, entry.protocol, port));
    addresses.chain(node)
}

/// The first entry with the backends of all, without what it is reached by.
fn joined<'a>(entries: impl Iterator<Item = &'a ServiceKey> + Clone) -> Option<ServiceKey> {
    let first = entries.clone().next()?;
    let mut backends: Vec<_> = entries.flat_map(|entry| entry.backends.clone()).collect();
    backends.sort_unstable();
    backends.dedup();
    Some(ServiceKey {
        addresses: Vec::new(),
        node_port: None,
        backends,
        ..first.clone()
    })
}

fn entries_of(service: &Service, family: Family) -> impl Iterator<Item = ServiceKey> {
    let addresses: BTreeSet<IpAddr> = service
        .addresses()
        .filter(|ip| Family::of(*ip) == family)
        .collect();
    service.ports.iter().map(move |port| {
        let mut backends: Vec<(IpAddr, u16)> = port
            .backends
            .iter()
            .filter(|backend| Family::of(backend.ip) == family)
            .map(|backend| (backend.ip, backend.port))
            .collect();
        backends.sort_unstable();
        backends.dedup();
        ServiceKey {
            id: service.id.clone(),
            family,
            protocol: port.protocol,
            port: port.port,
            node_port: port.node_port,
            addresses: addresses.iter().copied().collect(),
            backends,
        }
    })
}
