//! Service addresses, judged by the backends behind them (`semantics I1` to `I5`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::table::{NO_CLASS, Table};
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
}

/// What a table says of one service port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceVerdict {
    /// Backends that the table allows.
    pub allowed: u32,
    /// Backends that it denies.
    pub denied: u32,
    /// The rule that allows the first allowed backend.
    pub rule: Option<u32>,
    /// Whether a range of the table covers one of its addresses, so that the address must be known
    /// as a service's, lest an ipBlock allow it (`semantics I5`).
    pub covered: bool,
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
        declared.sort_by(|a, b| {
            (&a.id, a.family, a.protocol, a.port).cmp(&(&b.id, b.family, b.protocol, b.port))
        });

        let mut claims: BTreeMap<Claim, BTreeSet<usize>> = BTreeMap::new();
        for (place, entry) in declared.iter().enumerate() {
            for claim in claims_of(entry) {
                claims.entry(claim).or_default().insert(place);
            }
        }
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
        Self {
            entries: entries.into_values().collect(),
            cluster_ips,
        }
    }

    /// Judges every backend of every service by a finished table.
    pub(super) fn judge(&self, table: &Table) -> Vec<ServiceVerdict> {
        self.entries
            .iter()
            .map(|entry| {
                let mut verdict = ServiceVerdict {
                    covered: entry
                        .addresses
                        .iter()
                        .any(|ip| table.range_class(*ip) != NO_CLASS),
                    ..ServiceVerdict::default()
                };
                for (ip, port) in &entry.backends {
                    match table.allowing_rule(*ip, entry.protocol.number(), *port) {
                        Some(rule) => {
                            verdict.allowed += 1;
                            verdict.rule.get_or_insert(rule);
                        }
                        None => verdict.denied += 1,
                    }
                }
                verdict
            })
            .collect()
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
    let addresses: Vec<IpAddr> = service
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
            addresses: addresses.clone(),
            backends,
        }
    })
}
