//! Writes a bundle as bytes.

mod services;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U32, U128};

use self::services::NeededServices;
use super::bundle::{Bundle, SubjectEntry};
use super::layout::{
    Backing, Entry, FLAG_ENFORCE_OWN_NODE_EGRESS, FLAG_NODE_PLANE, Group, Header, MAGIC, NONE,
    NodePort, Policy, Rule, Section, ServiceAddress, ServicePort, ServiceVerdict, Span, Subject,
    SubjectV4, SubjectV6, TCP_KERNEL, TCP_NODE_PROXY, TCP_SIDECAR, Table, TableRule, Text, VERSION,
};
use super::view::{BODY, SECTION_COUNT, hash};
use crate::compile::{self, Options};
use crate::eval::mapped;
use crate::model::{NamespacedName, TcpPath};

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

impl Writer {
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
            tcp_path: match entry.tcp_path {
                TcpPath::Sidecar => TCP_SIDECAR,
                TcpPath::NodeProxy => TCP_NODE_PROXY,
                TcpPath::Kernel => TCP_KERNEL,
            },
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
                ingress: self.table(&group.ingress.enforced, None).into(),
                egress: self.table(&group.egress.enforced, Some(services)).into(),
                audit_ingress: self.optional_table(group.ingress.audit.as_ref(), None),
                audit_egress: self.optional_table(group.egress.audit.as_ref(), Some(services)),
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
        services: Option<&NeededServices<'_>>,
    ) -> U32 {
        table
            .map_or(NONE, |table| self.table(table, services))
            .into()
    }

    /// Writes a table; `services` are those that one for egress says something of.
    fn table(&mut self, table: &compile::Table, services: Option<&NeededServices<'_>>) -> u32 {
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
        let class_width: u8 = match classes.len() {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let host_classes = self.host_classes.len() as u32;
        let of_hosts = table.hosts.classes.iter();
        match class_width {
            1 => self.host_classes.extend(of_hosts.map(|class| *class as u8)),
            2 => self
                .host_classes
                .extend(of_hosts.flat_map(|class| (*class as u16).to_le_bytes())),
            _ => self
                .host_classes
                .extend(of_hosts.flat_map(|class| class.to_le_bytes())),
        }

        let record = Table {
            class_width,
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
            hosts_v4: append_slice(&mut self.hosts_v4, &table.hosts.keys_v4),
            hosts_v6: append_slice(&mut self.hosts_v6, &table.hosts.keys_v6),
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
                    .into_iter()
                    .filter(|_| table.is_isolated())
                    .flat_map(|services| services.verdicts(table))
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

/// The same for records that are there already: one copy of memory.
fn append_slice<T: Copy>(section: &mut Vec<T>, records: &[T]) -> Span {
    let start = section.len() as u32;
    section.extend_from_slice(records);
    Span {
        start: start.into(),
        count: (records.len() as u32).into(),
    }
}
