//! Which services a snapshot needs, and their records.

use std::collections::BTreeSet;

use super::{SubjectEntry, Writer};
use crate::compile::{ServiceKey, ServiceTable, ServiceVerdict, Table};
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
        if let Some(named) = &bundle.named {
            self.service_records(named, named.entries.iter());
            // A port of the node is judged as such: what leads on from it has been rewritten before.
            self.node_ports.clear();
        } else {
            let entries = places.iter().filter_map(|place| table.entries.get(*place));
            self.service_records(table, entries);
        }
        NeededServices { table, places }
    }

    fn service_records<'a>(
        &mut self,
        table: &ServiceTable,
        entries: impl Iterator<Item = &'a ServiceKey>,
    ) {
        for (index, entry) in entries.enumerate() {
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
    }
}

fn needed(bundle: &Bundle, subjects: &[&SubjectEntry]) -> Vec<usize> {
    let services = bundle.services();
    let tables = subjects.iter().flat_map(|subject| {
        let egress = &subject.group.egress;
        std::iter::once(&egress.enforced).chain(egress.audit.as_ref())
    });
    let mut isolated = tables.filter(|table| table.is_isolated()).peekable();
    // Service addresses are looked up only where egress is isolated.
    if services.entries.is_empty() || isolated.peek().is_none() {
        return Vec::new();
    }
    let mut needed: BTreeSet<usize> = isolated.flat_map(|table| table.services.places()).collect();
    for subject in subjects {
        for ip in subject.exempt(bundle.options) {
            needed.extend(services.behind(ip));
        }
        // An external IP may be the node's own, which else is exempt.
        for ip in &subject.node_addresses {
            needed.extend(services.at(*ip));
        }
    }
    services.add_ports_of_same_addresses(&mut needed);
    needed.into_iter().collect()
}

impl NeededServices<'_> {
    /// What a table says of each of them.
    pub(super) fn verdicts(&self, table: &Table) -> impl Iterator<Item = ServiceVerdict> {
        self.places.iter().filter_map(|place| {
            let known = table.services.get(*place);
            known.or_else(|| self.table.verdict(*place, table))
        })
    }
}
