//! Service addresses, judged by the backends behind them (`semantics I1` to `I5`).

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
    /// Ready backends of this family, as address and target port, sorted.
    pub backends: Vec<(IpAddr, u16)>,
}

/// Every service port of the cluster, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// Sorted by service, family, protocol and port.
    pub entries: Vec<ServiceKey>,
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
    pub fn new<'a>(services: impl Iterator<Item = &'a Service>) -> Self {
        let mut entries: Vec<ServiceKey> = services
            .flat_map(|service| {
                Family::BOTH
                    .into_iter()
                    .flat_map(move |family| entries_of(service, family))
            })
            .collect();
        entries.sort_by(|a, b| {
            (&a.id, a.family, a.protocol, a.port).cmp(&(&b.id, b.family, b.protocol, b.port))
        });
        Self { entries }
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

fn entries_of(service: &Service, family: Family) -> impl Iterator<Item = ServiceKey> {
    let addresses: Vec<IpAddr> = service
        .addresses
        .iter()
        .copied()
        .filter(|ip| Family::of(*ip) == family)
        .collect();
    service
        .ports
        .iter()
        .filter(move |port| !addresses.is_empty() || port.node_port.is_some())
        .map(move |port| {
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
                addresses: service
                    .addresses
                    .iter()
                    .copied()
                    .filter(|ip| Family::of(*ip) == family)
                    .collect(),
                backends,
            }
        })
}
