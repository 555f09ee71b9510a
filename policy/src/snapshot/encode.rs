//! Writes a bundle as bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U32, U128};

use super::bundle::{Bundle, SubjectEntry};
use super::layout::{
    Backing, Entry, FLAG_ENFORCE_OWN_NODE_EGRESS, FLAG_NODE_PLANE, Group, Header, MAGIC, NONE,
    NodePort, Policy, Rule, Section, ServiceAddress, ServicePort, ServiceVerdict, Span, Subject,
    SubjectV4, SubjectV6, Table, TableRule, Text, VERSION,
};
use super::view::{BODY, SECTION_COUNT, hash};
use crate::compile::{self, Options};
use crate::eval::{host_key_v4, host_key_v6, mapped};
use crate::model::NamespacedName;

impl Bundle {
    /// The bytes of the snapshot. Equal bundles give equal bytes, whatever the order of `add`.
    pub fn encode(&self) -> Vec<u8> {
        let mut subjects: Vec<&SubjectEntry> = self.subjects.iter().collect();
        subjects.sort_by(|a, b| a.id.cmp(&b.id));
        subjects.dedup_by(|a, b| a.id == b.id);

        let mut writer = Writer::default();
        let services = writer.services(self, &subjects);
        for subject in subjects {
            writer.subject(subject, self.options, &services);
        }
        writer.finish(self)
    }
}

/// Sections while they grow.
#[derive(Default)]
struct Writer {
    subjects_v4: Vec<SubjectV4>,
    subjects_v6: Vec<SubjectV6>,
    subjects: Vec<Subject>,
    node_addresses: Vec<[u8; 16]>,
    backings: Vec<Backing>,
    groups: Vec<Group>,
    tables: Vec<Table>,
    policy_refs: Vec<U32>,
    policies: Vec<Policy>,
    table_rules: Vec<TableRule>,
    rules: Vec<Rule>,
    classes: Vec<Span>,
    entries: Vec<Entry>,
    hosts_v4: Vec<U32>,
    hosts_v6: Vec<U128>,
    host_classes: Vec<u8>,
    ranges_v4: Vec<U32>,
    ranges_v6: Vec<U128>,
    range_classes: Vec<U32>,
    service_ports: Vec<ServicePort>,
    service_addresses: Vec<ServiceAddress>,
    node_ports: Vec<NodePort>,
    service_verdicts: Vec<ServiceVerdict>,
    text: String,

    texts: HashMap<Arc<str>, Text>,
    nodes: BTreeMap<Vec<IpAddr>, Span>,
    policy_ids: BTreeMap<NamespacedName, u32>,
    /// Bodies already written, by address of their shared value and then by content.
    written_groups: HashMap<*const compile::Group, u32>,
    distinct_groups: Vec<(Arc<compile::Group>, u32)>,
}

/// The services that this bundle needs: places in the `ServiceTable`, sorted.
struct NeededServices<'a> {
    table: &'a compile::ServiceTable,
    places: Vec<usize>,
}

/// Adds every service port that shares an address with a needed one: a snapshot that knows an
/// cluster IP takes every port it does not know there for one that no service has.
fn add_ports_of_same_addresses(table: &compile::ServiceTable, needed: &mut BTreeSet<usize>) {
    loop {
        let addresses: BTreeSet<IpAddr> = needed
            .iter()
            .filter_map(|place| table.entries.get(*place))
            .flat_map(|entry| entry.addresses.iter().copied())
            .collect();
        let before = needed.len();
        needed.extend(
            table
                .entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.addresses.iter().any(|ip| addresses.contains(ip)))
                .map(|(place, _)| place),
        );
        if needed.len() == before {
            return;
        }
    }
}

impl Writer {
    /// Writes the services that can change a verdict of this bundle, and leaves out those whose
    /// address is denied anyway: no backend allowed, no range over the address, no subject or its
    /// node behind. Of an address, all ports are written or none.
    fn services<'a>(
        &mut self,
        bundle: &'a Bundle,
        subjects: &[&SubjectEntry],
    ) -> NeededServices<'a> {
        let table = &bundle.services;
        let tables = || {
            subjects.iter().flat_map(|subject| {
                let egress = &subject.group.egress;
                std::iter::once(&egress.enforced).chain(egress.audit.as_ref())
            })
        };
        let exempt: BTreeSet<IpAddr> = subjects
            .iter()
            .flat_map(|subject| subject.exempt(bundle.options))
            .collect();
        let own_nodes: BTreeSet<IpAddr> = subjects
            .iter()
            .flat_map(|subject| subject.node_addresses.iter().copied())
            .collect();
        let mut needed: BTreeSet<usize> = BTreeSet::new();
        for each in tables() {
            needed.extend(
                each.services
                    .iter()
                    .enumerate()
                    .filter(|(_, verdict)| verdict.allowed > 0 || verdict.covered)
                    .map(|(place, _)| place),
            );
        }
        if tables().any(compile::Table::is_isolated) {
            needed.extend(
                table
                    .entries
                    .iter()
                    .enumerate()
                    .filter(|(_, entry)| {
                        entry.backends.iter().any(|(ip, _)| exempt.contains(ip))
                            // An external IP may be the node's own, which else is exempt.
                            || entry.addresses.iter().any(|ip| own_nodes.contains(ip))
                            || entry.node_port.is_some()
                    })
                    .map(|(place, _)| place),
            );
        }
        add_ports_of_same_addresses(table, &mut needed);

        for (index, place) in needed.iter().enumerate() {
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
        NeededServices {
            table,
            places: needed.into_iter().collect(),
        }
    }

    fn subject(&mut self, entry: &SubjectEntry, options: Options, services: &NeededServices<'_>) {
        let index: U32 = (self.subjects.len() as u32).into();
        for ip in &entry.ips {
            match ip {
                IpAddr::V4(v4) => self.subjects_v4.push(SubjectV4 {
                    address: v4.octets(),
                    subject: index,
                }),
                IpAddr::V6(v6) => self.subjects_v6.push(SubjectV6 {
                    address: v6.octets(),
                    subject: index,
                }),
            }
        }
        let subject = Subject {
            namespace: self.text(&entry.id.namespace),
            name: self.text(&entry.id.name),
            group: self.group(&entry.group, services).into(),
            node: self.node(&entry.node_addresses),
            backings: self.backings(&entry.exempt(options), services),
        };
        self.subjects.push(subject);
    }

    fn node(&mut self, addresses: &[IpAddr]) -> Span {
        let mut sorted: Vec<IpAddr> = addresses.to_vec();
        sorted.sort_unstable_by_key(|ip| mapped(*ip));
        sorted.dedup();
        if let Some(span) = self.nodes.get(&sorted) {
            return *span;
        }
        let span = append(
            &mut self.node_addresses,
            sorted.iter().map(|ip| mapped(*ip).to_be_bytes()),
        );
        self.nodes.insert(sorted, span);
        span
    }

    fn backings(&mut self, exempt: &[IpAddr], services: &NeededServices<'_>) -> Span {
        let found: Vec<Backing> = services
            .places
            .iter()
            .enumerate()
            .filter_map(|(index, place)| Some((index, services.table.entries.get(*place)?)))
            .flat_map(|(index, entry)| {
                entry
                    .backends
                    .iter()
                    .filter(|(ip, _)| exempt.contains(ip))
                    .map(move |(ip, port)| Backing {
                        service_port: (index as u32).into(),
                        address: mapped(*ip).into(),
                        port: (*port).into(),
                    })
            })
            .collect();
        append(&mut self.backings, found)
    }

    fn group(&mut self, group: &Arc<compile::Group>, services: &NeededServices<'_>) -> u32 {
        if let Some(index) = self.written_groups.get(&Arc::as_ptr(group)) {
            return *index;
        }
        let known = self.distinct_groups.iter().find(|(each, _)| each == group);
        let index = if let Some((_, index)) = known {
            *index
        } else {
            let record = Group {
                ingress: self.table(&group.ingress.enforced, services).into(),
                egress: self.table(&group.egress.enforced, services).into(),
                audit_ingress: self.optional_table(group.ingress.audit.as_ref(), services),
                audit_egress: self.optional_table(group.egress.audit.as_ref(), services),
            };
            self.groups.push(record);
            let index = self.groups.len() as u32 - 1;
            self.distinct_groups.push((Arc::clone(group), index));
            index
        };
        self.written_groups.insert(Arc::as_ptr(group), index);
        index
    }

    fn optional_table(
        &mut self,
        table: Option<&compile::Table>,
        services: &NeededServices<'_>,
    ) -> U32 {
        table
            .map_or(NONE, |table| self.table(table, services))
            .into()
    }

    fn table(&mut self, table: &compile::Table, services: &NeededServices<'_>) -> u32 {
        let policies: Vec<u32> = table.policies.iter().map(|id| self.policy(id)).collect();
        let first_rule = self.rules.len() as u32;
        self.rules.extend(table.rules.iter().map(|rule| {
            Rule {
                policy: policies
                    .get(rule.policy as usize)
                    .copied()
                    .unwrap_or_default()
                    .into(),
                index: rule.index.into(),
            }
        }));
        let global = |rule: u32| U32::new(first_rule + rule);

        let classes: Vec<Span> = table
            .classes
            .iter()
            .map(|class| {
                append(
                    &mut self.entries,
                    class.iter().map(|entry| Entry {
                        protocol: entry.span.protocol,
                        low: entry.span.low.into(),
                        high: entry.span.high.into(),
                        rule: global(entry.rule),
                    }),
                )
            })
            .collect();
        let class_width = match classes.len() {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let mut hosts_v4: Vec<(u32, u32)> = Vec::new();
        let mut hosts_v6: Vec<(u128, u32)> = Vec::new();
        for (ip, class) in &table.hosts {
            match ip {
                IpAddr::V4(v4) => hosts_v4.push((host_key_v4(*v4), *class)),
                IpAddr::V6(v6) => hosts_v6.push((host_key_v6(*v6), *class)),
            }
        }
        hosts_v4.sort_unstable();
        hosts_v6.sort_unstable();
        let host_classes = self.host_classes.len() as u32;
        let in_order = hosts_v4
            .iter()
            .map(|(_, class)| class)
            .chain(hosts_v6.iter().map(|(_, class)| class));
        for class in in_order {
            self.host_classes
                .extend(class.to_le_bytes().iter().take(class_width));
        }

        let record = Table {
            class_width: class_width as u8,
            policies: append(&mut self.policy_refs, policies.iter().map(|p| (*p).into())),
            rules: append(
                &mut self.table_rules,
                table
                    .rule_classes
                    .iter()
                    .enumerate()
                    .map(|(rule, class)| TableRule {
                        rule: global(rule as u32),
                        class: (*class).into(),
                    }),
            ),
            classes: append(&mut self.classes, classes),
            hosts_v4: append(
                &mut self.hosts_v4,
                hosts_v4.iter().map(|(key, _)| (*key).into()),
            ),
            hosts_v6: append(
                &mut self.hosts_v6,
                hosts_v6.iter().map(|(key, _)| (*key).into()),
            ),
            host_classes: host_classes.into(),
            ranges_v4: append(
                &mut self.ranges_v4,
                table
                    .ranges_v4
                    .iter()
                    .map(|(start, _)| (*start as u32).into()),
            ),
            ranges_v6: append(
                &mut self.ranges_v6,
                table.ranges_v6.iter().map(|(start, _)| (*start).into()),
            ),
            range_classes: append(
                &mut self.range_classes,
                table
                    .ranges_v4
                    .iter()
                    .chain(&table.ranges_v6)
                    .map(|(_, class)| (*class).into()),
            )
            .start,
            services: append(
                &mut self.service_verdicts,
                services
                    .places
                    .iter()
                    .filter_map(|place| table.services.get(*place))
                    .map(|verdict| ServiceVerdict {
                        allowed: verdict.allowed.into(),
                        denied: verdict.denied.into(),
                        rule: verdict.rule.map_or(U32::new(NONE), global),
                    }),
            ),
        };
        self.tables.push(record);
        self.tables.len() as u32 - 1
    }

    fn policy(&mut self, id: &NamespacedName) -> u32 {
        if let Some(index) = self.policy_ids.get(id) {
            return *index;
        }
        let record = Policy {
            namespace: self.text(&id.namespace),
            name: self.text(&id.name),
        };
        self.policies.push(record);
        let index = self.policies.len() as u32 - 1;
        self.policy_ids.insert(id.clone(), index);
        index
    }

    /// Stores a name once. Names of Kubernetes objects have at most 253 bytes; anything longer is
    /// cut, for it only serves to be read.
    fn text(&mut self, text: &Arc<str>) -> Text {
        if let Some(known) = self.texts.get(text) {
            return *known;
        }
        let cut = text.floor_char_boundary(usize::from(u16::MAX));
        let stored = Text {
            start: (self.text.len() as u32).into(),
            length: (cut as u16).into(),
        };
        self.text.extend(text.get(..cut));
        self.texts.insert(Arc::clone(text), stored);
        stored
    }

    fn finish(mut self, bundle: &Bundle) -> Vec<u8> {
        self.subjects_v4
            .sort_unstable_by_key(|s| (s.address, s.subject.get()));
        self.subjects_v4.dedup_by_key(|s| s.address);
        self.subjects_v6
            .sort_unstable_by_key(|s| (s.address, s.subject.get()));
        self.subjects_v6.dedup_by_key(|s| s.address);

        let sections: [&[u8]; SECTION_COUNT] = [
            self.subjects_v4.as_bytes(),
            self.subjects_v6.as_bytes(),
            self.subjects.as_bytes(),
            self.node_addresses.as_bytes(),
            self.backings.as_bytes(),
            self.groups.as_bytes(),
            self.tables.as_bytes(),
            self.policy_refs.as_bytes(),
            self.policies.as_bytes(),
            self.table_rules.as_bytes(),
            self.rules.as_bytes(),
            self.classes.as_bytes(),
            self.entries.as_bytes(),
            self.hosts_v4.as_bytes(),
            self.hosts_v6.as_bytes(),
            self.host_classes.as_bytes(),
            self.ranges_v4.as_bytes(),
            self.ranges_v6.as_bytes(),
            self.range_classes.as_bytes(),
            self.service_ports.as_bytes(),
            self.service_addresses.as_bytes(),
            self.node_ports.as_bytes(),
            self.service_verdicts.as_bytes(),
            self.text.as_bytes(),
        ];
        let mut offset = BODY;
        let table = sections.map(|section| {
            let record = Section {
                offset: (offset as u32).into(),
                length: (section.len() as u32).into(),
            };
            offset += section.len();
            record
        });
        let mut flags = 0;
        if bundle.options.node_plane {
            flags |= FLAG_NODE_PLANE;
        }
        if bundle.options.enforce_own_node_egress {
            flags |= FLAG_ENFORCE_OWN_NODE_EGRESS;
        }
        let mut header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            flags: flags.into(),
            length: (offset as u32).into(),
            hash: 0.into(),
        };
        let mut bytes = Vec::with_capacity(offset);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(table.as_bytes());
        for section in sections {
            bytes.extend_from_slice(section);
        }
        header.hash = hash(&bytes).into();
        if let Some(start) = bytes.get_mut(..size_of::<Header>()) {
            start.copy_from_slice(header.as_bytes());
        }
        bytes
    }
}

/// Appends records and tells where they went.
fn append<T>(section: &mut Vec<T>, records: impl IntoIterator<Item = T>) -> Span {
    let start = section.len() as u32;
    section.extend(records);
    Span {
        start: start.into(),
        count: (section.len() as u32 - start).into(),
    }
}
