//! What a snapshot says of its pods, as data: for engines that cannot call [`Snapshot::judge`] for
//! every packet and compile it into maps of their own.
//!
//! [`Snapshot::judge`]: crate::eval

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xxhash_rust::xxh3::Xxh3;
use zerocopy::byteorder::little_endian::{U32, U128};

use super::layout::{FLAG_ENFORCE_OWN_NODE_EGRESS, NONE, Span, TCP_KERNEL, TCP_SIDECAR, Table};
use super::view::{TableView, View, slice};
use super::{Snapshot, SubjectName};
use crate::compile::OTHER_PROTOCOLS;
use crate::eval::{host_of_key_v4, host_of_key_v6, unmapped};
use crate::model::{Protocol, TcpPath};

/// A pod, its addresses and what is enforced for it.
#[derive(Clone, Debug)]
pub struct PodRules<'a> {
    /// Its namespace and name.
    pub name: SubjectName<'a>,
    /// The addresses that stand for it, ascending, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The addresses of its node.
    pub node_addresses: Vec<IpAddr>,
    /// Who carries its TCP.
    pub tcp_path: TcpPath,
    /// Connections that it accepts: peers are sources.
    pub ingress: TableRules<'a>,
    /// Connections that it opens: peers are destinations, after a Service has chosen its backend.
    pub egress: TableRules<'a>,
    /// What would be enforced for `ingress` if audited policies were; `None` without any.
    pub audit_ingress: Option<TableRules<'a>>,
    /// The same for `egress`.
    pub audit_egress: Option<TableRules<'a>>,
}

/// One direction of a pod, shared by all pods with the same [`TableRules::id`].
///
/// The class of an address is its own one if [`TableRules::hosts`] has it, else that of the range it
/// lies in, else 0; and it allows what [`TableRules::class`] lists. Audited policies are in tables of
/// their own.
#[derive(Clone, Copy)]
pub struct TableRules<'a> {
    view: &'a View<'a>,
    id: u32,
}

/// Allowed ports of a protocol, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The protocol; `None` stands for every other than TCP, UDP and SCTP, which have no ports:
    /// the range is whole then.
    pub protocol: Option<Protocol>,
    /// The first port.
    pub low: u16,
    /// The last port.
    pub high: u16,
}

impl Snapshot {
    /// The pods it judges for and what it enforces for them, sorted by namespace and name.
    pub fn pods(&self) -> impl Iterator<Item = PodRules<'_>> {
        let view = self.view();
        let mut addresses: Vec<Vec<IpAddr>> = vec![Vec::new(); view.subjects.len()];
        let v4 = view.subjects_v4.iter();
        let v4 = v4.map(|each| (each.subject, IpAddr::V4(Ipv4Addr::from(each.address))));
        let v6 = view.subjects_v6.iter();
        let v6 = v6.map(|each| (each.subject, IpAddr::V6(Ipv6Addr::from(each.address))));
        for (subject, address) in v4.chain(v6) {
            if let Some(list) = addresses.get_mut(subject.get() as usize) {
                list.push(address);
            }
        }
        let subjects = view.subjects.iter().zip(addresses);
        subjects.filter_map(move |(subject, addresses)| {
            let group = view.groups.get(subject.group.get() as usize)?;
            let node = slice(view.node_addresses, subject.node)?;
            let audited = |id: U32| (id.get() != NONE).then(|| TableRules { view, id: id.get() });
            Some(PodRules {
                name: SubjectName {
                    namespace: view.text(subject.namespace),
                    name: view.text(subject.name),
                },
                addresses,
                node_addresses: node
                    .iter()
                    .map(|address| unmapped(u128::from_be_bytes(*address)))
                    .collect(),
                tcp_path: match subject.tcp_path {
                    TCP_SIDECAR => TcpPath::Sidecar,
                    TCP_KERNEL => TcpPath::Kernel,
                    _ => TcpPath::NodeProxy,
                },
                ingress: TableRules {
                    view,
                    id: group.ingress.get(),
                },
                egress: TableRules {
                    view,
                    id: group.egress.get(),
                },
                audit_ingress: audited(group.audit_ingress),
                audit_egress: audited(group.audit_egress),
            })
        })
    }

    /// A hash of everything that it enforces but the single addresses of peers: its pods with their addresses, and
    /// the policies, ranges and port classes of their tables. Two snapshots with equal ones differ in who is a peer,
    /// if in anything. It costs what the pods and policies cost, not what the peers do.
    pub fn structure(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut tables = BTreeSet::new();
        for pod in self.pods() {
            hash.update(format!("{:?}{:?}{:?}", pod.name, pod.addresses, pod.tcp_path).as_bytes());
            let audits = [pod.audit_ingress, pod.audit_egress];
            for table in [pod.ingress, pod.egress]
                .into_iter()
                .chain(audits.into_iter().flatten())
            {
                hash.update(&table.id().to_le_bytes());
                if tables.insert(table.id()) {
                    table.describe(&mut hash);
                }
            }
        }
        hash.digest()
    }

    /// Every address of a service that the snapshot knows.
    pub fn service_addresses(&self) -> BTreeSet<IpAddr> {
        let addresses = self.view().service_addresses.iter();
        addresses.map(|it| unmapped(it.address.get())).collect()
    }

    /// The table with this [`TableRules::id`].
    pub fn table(&self, id: u32) -> TableRules<'_> {
        TableRules {
            view: self.view(),
            id,
        }
    }

    /// Whether egress to the own node is judged, or always allowed (`semantics G7`).
    pub fn enforces_own_node_egress(&self) -> bool {
        self.view().flags & FLAG_ENFORCE_OWN_NODE_EGRESS != 0
    }
}

impl<'a> TableRules<'a> {
    /// Equal for the same table of one snapshot; means nothing in another one.
    pub fn id(self) -> u32 {
        self.id
    }

    /// Whether another table, of this snapshot or of any other, isolates by the same policies and says
    /// the same of the same hosts, ranges and classes. It compares records, so it costs little more than
    /// reading them once; tables that allow the same by other records are told apart.
    pub fn says_the_same(self, other: TableRules<'_>) -> bool {
        let (Some(ours), Some(theirs)) = (self.table(), other.table()) else {
            return false;
        };
        self.policies().eq(other.policies())
            && Records::of(self.view, ours.table) == Records::of(other.view, theirs.table)
            && self.classes().eq(other.classes())
    }

    /// Everything but the hosts.
    fn describe(self, hash: &mut Xxh3) {
        for (namespace, name) in self.policies() {
            hash.update(namespace.as_bytes());
            hash.update(b"/");
            hash.update(name.as_bytes());
        }
        for (first, last, class) in self.ranges() {
            for end in [first, last] {
                match end {
                    IpAddr::V4(v4) => hash.update(&v4.octets()),
                    IpAddr::V6(v6) => hash.update(&v6.octets()),
                }
            }
            hash.update(&class.to_le_bytes());
        }
        for class in self.classes() {
            hash.update(format!("{class:?}").as_bytes());
        }
    }

    /// What each class allows, from class 0 on.
    fn classes(self) -> impl Iterator<Item = Vec<PortRange>> {
        let count = self.table().map_or(0, |table| table.classes.len());
        (0..).take(count).map(move |class| self.class(class))
    }

    /// Whether some enforced policy isolates in this direction. If none does everything is allowed,
    /// and the rest is empty.
    pub fn is_isolated(self) -> bool {
        self.policies().next().is_some()
    }

    /// Every isolating policy, by namespace and name.
    pub fn policies(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let view = self.view;
        let refs = self
            .table()
            .and_then(|table| slice(view.policy_refs, table.table.policies));
        refs.into_iter().flatten().filter_map(|policy| {
            let policy = view.policies.get(policy.get() as usize)?;
            Some((view.text(policy.namespace), view.text(policy.name)))
        })
    }

    /// Single addresses with their classes, in no useful order. One that is not here has the class
    /// of the range it lies in.
    pub fn hosts(self) -> impl Iterator<Item = (IpAddr, u32)> {
        let view = self.view;
        self.table().into_iter().flat_map(move |table| {
            let v4 = slice(view.hosts_v4, table.table.hosts_v4).unwrap_or_default();
            let v6 = slice(view.hosts_v6, table.table.hosts_v6).unwrap_or_default();
            let v4 = v4.iter().map(|key| IpAddr::V4(host_of_key_v4(key.get())));
            let v6 = v6.iter().map(|key| IpAddr::V6(host_of_key_v6(key.get())));
            v4.chain(v6)
                .enumerate()
                .filter_map(move |(place, host)| Some((host, view.host_class(table.table, place)?)))
        })
    }

    /// Ranges of addresses with their classes, first and last included, ascending and IPv4 first.
    /// What lies in none has class 0.
    pub fn ranges(self) -> impl Iterator<Item = (IpAddr, IpAddr, u32)> {
        let view = self.view;
        self.table().into_iter().flat_map(move |table| {
            let v4 = slice(view.ranges_v4, table.table.ranges_v4).unwrap_or_default();
            let v6 = slice(view.ranges_v6, table.table.ranges_v6).unwrap_or_default();
            // A range goes on until the next one starts.
            let end_v4 = move |place: usize| {
                let next = place.checked_add(1).and_then(|next| v4.get(next));
                next.map_or(u32::MAX, |next| next.get().saturating_sub(1))
            };
            let end_v6 = move |place: usize| {
                let next = place.checked_add(1).and_then(|next| v6.get(next));
                next.map_or(u128::MAX, |next| next.get().saturating_sub(1))
            };
            let of_v4 = v4.iter().enumerate().map(move |(place, first)| {
                let first = IpAddr::V4(Ipv4Addr::from_bits(first.get()));
                (first, IpAddr::V4(Ipv4Addr::from_bits(end_v4(place))))
            });
            let of_v6 = v6.iter().enumerate().map(move |(place, first)| {
                let first = IpAddr::V6(Ipv6Addr::from_bits(first.get()));
                (first, IpAddr::V6(Ipv6Addr::from_bits(end_v6(place))))
            });
            let classes = view.range_classes.iter();
            let classes = classes.skip(table.table.range_classes.get() as usize);
            of_v4
                .chain(of_v6)
                .zip(classes)
                .map(|((first, last), class)| (first, last, class.get()))
                .filter(|(.., class)| *class != 0)
        })
    }

    /// What a class allows: ascending, and joined where ranges touch. Class 0 allows nothing.
    pub fn class(self, class: u32) -> Vec<PortRange> {
        let entries = self
            .table()
            .and_then(|table| self.view.entries_of(&table, class));
        let mut joined: Vec<PortRange> = Vec::new();
        for entry in entries.into_iter().flatten() {
            let range = PortRange {
                protocol: Protocol::from_number(entry.protocol),
                low: entry.low.get(),
                high: entry.high.get(),
            };
            debug_assert!(range.protocol.is_some() || entry.protocol == OTHER_PROTOCOLS);
            match joined.last_mut() {
                Some(last)
                    if last.protocol == range.protocol
                        && last.high.checked_add(1) == Some(range.low) =>
                {
                    last.high = range.high;
                }
                _ => joined.push(range),
            }
        }
        joined
    }

    fn table(self) -> Option<TableView<'a>> {
        self.view.table(self.id)
    }
}

/// The records of a table that mean the same in every snapshot.
#[derive(PartialEq)]
struct Records<'a> {
    hosts_v4: Option<&'a [U32]>,
    hosts_v6: Option<&'a [U128]>,
    class_width: u8,
    host_classes: Option<&'a [u8]>,
    ranges_v4: Option<&'a [U32]>,
    ranges_v6: Option<&'a [U128]>,
    range_classes: Option<&'a [U32]>,
}

impl<'a> Records<'a> {
    fn of(view: &'a View<'_>, table: &Table) -> Self {
        let total = |a: Span, b: Span| a.count.get().saturating_add(b.count.get());
        let hosts = total(table.hosts_v4, table.hosts_v6);
        let bytes = hosts.saturating_mul(u32::from(table.class_width));
        let span = |start, count: u32| Span {
            start,
            count: count.into(),
        };
        let ranges = total(table.ranges_v4, table.ranges_v6);
        Self {
            hosts_v4: slice(view.hosts_v4, table.hosts_v4),
            hosts_v6: slice(view.hosts_v6, table.hosts_v6),
            class_width: table.class_width,
            host_classes: slice(view.host_classes, span(table.host_classes, bytes)),
            ranges_v4: slice(view.ranges_v4, table.ranges_v4),
            ranges_v6: slice(view.ranges_v6, table.ranges_v6),
            range_classes: slice(view.range_classes, span(table.range_classes, ranges)),
        }
    }
}

impl fmt::Debug for TableRules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TableRules").field(&self.id).finish()
    }
}
