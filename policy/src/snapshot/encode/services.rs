//! Which services a snapshot needs, and their records.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{SubjectEntry, Writer};
use crate::compile::{ServiceTable, Table};
use crate::eval::mapped;
use crate::snapshot::Bundle;
use crate::snapshot::layout::{NodePort, ServiceAddress, ServicePort};

/// The services that a bundle needs: places in the `ServiceTable`, ascending.
pub(super) struct NeededServices<'a> {
    pub(super) table: &'a ServiceTable,
    pub(super) places: Vec<usize>,
}

impl Writer {
    /// Writes the services that can change a verdict of this bundle, and leaves out those whose
    /// address is denied anyway: no backend allowed, no range over the address, no subject or its
    /// node behind. Of an address, all ports are written or none.
    pub(super) fn services<'a>(
        &mut self,
        bundle: &'a Bundle,
        subjects: &[&SubjectEntry],
    ) -> NeededServices<'a> {
        let table = bundle.services();
        let places = needed(bundle, subjects);
        for (index, place) in places.iter().enumerate() {
            let Some(entry) = table.entries.get(*place) else {
                continue;
            };
            let record = ServicePort {
                namespace: self.text(&entry.id.namespace),
                name: self.text(&entry.id.name),
            };
            self.service_ports.push(record);
            let service_port = (index as u32).into();
            for address in &entry.addresses {
                self.service_addresses.push(ServiceAddress {
                    address: mapped(*address).into(),
                    protocol: entry.protocol.number(),
                    port: entry.port.into(),
                    service_port,
                    is_cluster_ip: table.cluster_ips.contains(address).into(),
                });
            }
            if let Some(port) = entry.node_port {
                self.node_ports.push(NodePort {
                    family: entry.family as u8,
                    protocol: entry.protocol.number(),
                    port: port.into(),
                    service_port,
                });
            }
        }
        let key = |a: &ServiceAddress| (a.address.get(), a.protocol, a.port.get());
        self.service_addresses
            .sort_by_key(|a| (key(a), a.service_port.get()));
        let key = |p: &NodePort| (p.family, p.protocol, p.port.get());
        self.node_ports
            .sort_by_key(|p| (key(p), p.service_port.get()));
        NeededServices { table, places }
    }
}

fn needed(bundle: &Bundle, subjects: &[&SubjectEntry]) -> Vec<usize> {
    let entries = &bundle.services().entries;
    let tables: Vec<&Table> = subjects
        .iter()
        .flat_map(|subject| {
            let egress = &subject.group.egress;
            std::iter::once(&egress.enforced).chain(egress.audit.as_ref())
        })
        .filter(|table| table.is_isolated())
        .collect();
    // Service addresses are looked up only where egress is isolated.
    if tables.is_empty() {
        return Vec::new();
    }
    let exempt: BTreeSet<IpAddr> = subjects
        .iter()
        .flat_map(|subject| subject.exempt(bundle.options))
        .collect();
    let own_nodes: BTreeSet<IpAddr> = subjects
        .iter()
        .flat_map(|subject| subject.node_addresses.iter().copied())
        .collect();
    let mut needed: Vec<bool> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| {
            let mut verdicts = tables.iter().filter_map(|table| table.services.get(place));
            entry.node_port.is_some()
                || verdicts.any(|it| it.allowed > 0 || it.covered)
                || entry.backends.iter().any(|(ip, _)| exempt.contains(ip))
                // An external IP may be the node's own, which else is exempt.
                || entry.addresses.iter().any(|ip| own_nodes.contains(ip))
        })
        .collect();
    add_ports_of_same_addresses(bundle.services(), &mut needed);
    let places = needed.iter().enumerate();
    places
        .filter(|(_, needed)| **needed)
        .map(|(place, _)| place)
        .collect()
}

/// Adds every service port that shares an address with a needed one: a snapshot that knows a
/// cluster IP takes every port it does not know there for one that no service has.
fn add_ports_of_same_addresses(table: &ServiceTable, needed: &mut [bool]) {
    loop {
        let addresses: BTreeSet<IpAddr> = table
            .entries
            .iter()
            .zip(needed.iter())
            .filter(|(_, needed)| **needed)
            .flat_map(|(entry, _)| entry.addresses.iter().copied())
            .collect();
        let mut grew = false;
        for (entry, needed) in table.entries.iter().zip(needed.iter_mut()) {
            if !*needed && entry.addresses.iter().any(|ip| addresses.contains(ip)) {
                *needed = true;
                grew = true;
            }
        }
        if !grew {
            return;
        }
    }
}
