//! One direction of a group as a table: who may, on which ports, by which rule.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::PodSource;
use super::hosts::Hosts;
use super::pieces::{self, Interval};
use super::ports::{self, PortEntry, PortSet};
use super::services::{Family, JudgedServices, ServiceTable};
use crate::model::{Direction, NamespacedName, NetworkPolicy, Peer, Peers, PodPort, Rule};

/// The class of addresses that nothing is allowed to.
pub const NO_CLASS: u32 = 0;

/// A rule by the policy it stands in and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleRef {
    /// Index into [`Table::policies`].
    pub policy: u32,
    /// Its position in the policy's list.
    pub index: u32,
}

/// The verdicts of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Every policy that isolates in this direction, sorted; none means that all is allowed
    /// (`semantics F2`).
    pub policies: Vec<NamespacedName>,
    /// Every rule of those policies, in policy order.
    pub rules: Vec<RuleRef>,
    /// For each rule, the class of its ports as far as they are the same for every peer: what a
    /// denied connection is compared with.
    pub rule_classes: Vec<u32>,
    /// Port classes; class 0 is empty.
    pub classes: Vec<Vec<PortEntry>>,
    /// Single addresses, each with a class that includes the ranges which cover it.
    pub hosts: Hosts,
    /// IPv4 pieces: first position and class.
    pub ranges_v4: Vec<(u128, u32)>,
    /// IPv6 pieces.
    pub ranges_v6: Vec<(u128, u32)>,
    /// The verdicts on services that make a difference; egress only.
    pub services: JudgedServices,
}

impl Table {
    /// Whether this direction is isolated at all.
    pub fn is_isolated(&self) -> bool {
        !self.policies.is_empty()
    }

    /// The class of an address.
    pub fn class_of(&self, ip: IpAddr) -> u32 {
        self.hosts
            .class_of(ip)
            .unwrap_or_else(|| self.range_class(ip))
    }

    /// The class that the ranges alone give an address.
    pub fn range_class(&self, ip: IpAddr) -> u32 {
        let ranges = match Family::of(ip) {
            Family::V4 => &self.ranges_v4,
            Family::V6 => &self.ranges_v6,
        };
        let at = pieces::position(ip);
        let after = ranges.partition_point(|(start, _)| *start <= at);
        after
            .checked_sub(1)
            .and_then(|i| ranges.get(i))
            .map_or(NO_CLASS, |(_, class)| *class)
    }

    /// The ranges in which some port is allowed.
    pub(super) fn ranges_with_ports(&self) -> impl Iterator<Item = RangeInclusive<IpAddr>> {
        let v4 = pieces::with_class(&self.ranges_v4, Family::V4);
        v4.chain(pieces::with_class(&self.ranges_v6, Family::V6))
    }

    /// The rule that allows a destination port for an address.
    pub fn allowing_rule(&self, ip: IpAddr, protocol: u8, port: u16) -> Option<u32> {
        let code = ports::protocol_code(protocol);
        self.classes
            .get(self.class_of(ip) as usize)?
            .iter()
            .find(|e| e.span.protocol == code && e.span.low <= port && port <= e.span.high)
            .map(|e| e.rule)
    }

    /// Compiles the rules of these policies, all of which isolate in this direction.
    ///
    /// `subject_ports` resolves the named ports of ingress rules (`semantics E7`).
    pub fn compile(
        direction: Direction,
        policies: &[&NetworkPolicy],
        subject_ports: &[PodPort],
        pods: &dyn PodSource,
        services: &ServiceTable,
    ) -> Self {
        let mut builder = Builder::default();
        for (policy_index, policy) in policies.iter().enumerate() {
            builder.table.policies.push(policy.id.clone());
            for rule in policy.rules(direction).unwrap_or_default() {
                let rule_index = builder.table.rules.len() as u32;
                builder.table.rules.push(RuleRef {
                    policy: policy_index as u32,
                    index: rule.index,
                });
                match direction {
                    Direction::Ingress => {
                        builder.add_ingress(rule_index, policy, rule, subject_ports, pods);
                    }
                    Direction::Egress => builder.add_egress(rule_index, policy, rule, pods),
                }
            }
        }
        let mut table = builder.finish();
        if direction == Direction::Egress && table.is_isolated() {
            table.services = services.judge(&table);
        }
        table
    }
}

/// Collects who is given which ports by which rule.
#[derive(Default)]
struct Builder {
    table: Table,
    /// A rule with one set of ports; its id is its place.
    contributions: Vec<(u32, PortSet)>,
    ids: HashMap<(u32, PortSet), u32>,
    hosts: BTreeMap<IpAddr, Vec<u32>>,
    intervals_v4: Vec<(Interval, u32)>,
    intervals_v6: Vec<(Interval, u32)>,
    /// Ports of each rule that hold for all of its peers.
    rule_ports: Vec<PortSet>,
}

impl Builder {
    fn add_ingress(
        &mut self,
        rule_index: u32,
        policy: &NetworkPolicy,
        rule: &Rule,
        subject_ports: &[PodPort],
        pods: &dyn PodSource,
    ) {
        let mut spans = ports::fixed_ports(&rule.ports);
        spans.extend(ports::resolved_ports(&rule.ports, subject_ports));
        self.add_peers(rule_index, policy, rule, &spans, pods);
        self.rule_ports.push(spans);
    }

    fn add_egress(
        &mut self,
        rule_index: u32,
        policy: &NetworkPolicy,
        rule: &Rule,
        pods: &dyn PodSource,
    ) {
        let spans = ports::fixed_ports(&rule.ports);
        self.add_peers(rule_index, policy, rule, &spans, pods);
        if ports::named_ports(&rule.ports).next().is_some() {
            self.add_named_egress(rule_index, policy, rule, pods);
        }
        self.rule_ports.push(spans);
    }

    /// Gives the peers of a rule ports that are the same for all of them.
    fn add_peers(
        &mut self,
        rule_index: u32,
        policy: &NetworkPolicy,
        rule: &Rule,
        spans: &PortSet,
        pods: &dyn PodSource,
    ) {
        if spans.is_empty() {
            return;
        }
        let id = self.contribution(rule_index, spans);
        match &rule.peers {
            Peers::Any => {
                self.intervals_v4
                    .push(((0, pieces::line_end(Family::V4)), id));
                self.intervals_v6
                    .push(((0, pieces::line_end(Family::V6)), id));
            }
            Peers::Of(peers) => {
                for peer in peers {
                    match peer {
                        Peer::Pods(peer) => {
                            pods.visit_matching(&policy.id.namespace, peer, &mut |pod| {
                                for ip in owned(pod, pods) {
                                    self.give_host(ip, id);
                                }
                            });
                        }
                        Peer::Block(block) => {
                            let line = match Family::of(block.cidr.addr()) {
                                Family::V4 => &mut self.intervals_v4,
                                Family::V6 => &mut self.intervals_v6,
                            };
                            line.extend(
                                pieces::block_intervals(block).into_iter().map(|i| (i, id)),
                            );
                        }
                    }
                }
            }
        }
    }

    /// Gives each destination pod the numbers that the rule's port names have on it
    /// (`semantics E8`); without peers that is every pod of the cluster (`semantics E11`), and a
    /// block covers the pods whose addresses lie in it (`semantics E12`).
    fn add_named_egress(
        &mut self,
        rule_index: u32,
        policy: &NetworkPolicy,
        rule: &Rule,
        pods: &dyn PodSource,
    ) {
        let mut give = |pod: &crate::model::Pod, covers: &dyn Fn(IpAddr) -> bool| {
            let spans = ports::resolved_ports(&rule.ports, &pod.ports);
            if spans.is_empty() {
                return;
            }
            let id = self.contribution(rule_index, &spans);
            for ip in owned(pod, pods).filter(|ip| covers(*ip)) {
                self.give_host(ip, id);
            }
        };
        match &rule.peers {
            Peers::Any => pods.visit_all(&mut |pod| give(pod, &|_| true)),
            Peers::Of(peers) => {
                for peer in peers {
                    match peer {
                        Peer::Pods(peer) => {
                            pods.visit_matching(&policy.id.namespace, peer, &mut |pod| {
                                give(pod, &|_| true);
                            });
                        }
                        Peer::Block(block) => pods.visit_all(&mut |pod| {
                            give(pod, &|ip| {
                                block.cidr.contains(&ip)
                                    && !block.except.iter().any(|net| net.contains(&ip))
                            });
                        }),
                    }
                }
            }
        }
    }

    fn contribution(&mut self, rule: u32, spans: &PortSet) -> u32 {
        let next = self.contributions.len() as u32;
        *self
            .ids
            .entry((rule, spans.clone()))
            .or_insert_with_key(|key| {
                self.contributions.push(key.clone());
                next
            })
    }

    fn give_host(&mut self, ip: IpAddr, id: u32) {
        let given = self.hosts.entry(ip).or_default();
        // Rules come in order, so a repeated peer is the last one given.
        if given.last() != Some(&id) {
            given.push(id);
        }
    }

    fn finish(mut self) -> Table {
        let mut classes = Classes::new(&self.contributions);
        let mut lay = |intervals: Vec<(Interval, u32)>, end: u128| -> Vec<pieces::Piece> {
            let pieces = pieces::cut(intervals, end);
            for piece in &pieces {
                classes.of(&piece.covered_by);
            }
            pieces
        };
        let pieces_v4 = lay(
            std::mem::take(&mut self.intervals_v4),
            pieces::line_end(Family::V4),
        );
        let pieces_v6 = lay(
            std::mem::take(&mut self.intervals_v6),
            pieces::line_end(Family::V6),
        );
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for (ip, given) in std::mem::take(&mut self.hosts) {
            let line = match Family::of(ip) {
                Family::V4 => &pieces_v4,
                Family::V6 => &pieces_v6,
            };
            let at = pieces::position(ip);
            let covering = line
                .partition_point(|piece| piece.start <= at)
                .checked_sub(1)
                .and_then(|i| line.get(i))
                .map_or(&[][..], |piece| piece.covered_by.as_slice());
            let mut all = [given.as_slice(), covering].concat();
            all.sort_unstable();
            all.dedup();
            let class = classes.of(&all);
            if class != classes.of(covering) {
                hosts.push((ip, class));
            }
        }
        self.table.hosts = Hosts::new(hosts);
        self.table.ranges_v4 = classes.ranges(&pieces_v4);
        self.table.ranges_v6 = classes.ranges(&pieces_v6);
        self.table.rule_classes = self
            .rule_ports
            .iter()
            .enumerate()
            .map(|(rule, spans)| {
                classes.intern(ports::disjoint_entries([(rule as u32, spans)].into_iter()))
            })
            .collect();
        self.table.classes = classes.classes;
        self.table
    }
}

/// Port classes, each stored once.
struct Classes<'a> {
    contributions: &'a [(u32, PortSet)],
    by_contributions: HashMap<Vec<u32>, u32>,
    by_entries: HashMap<Vec<PortEntry>, u32>,
    classes: Vec<Vec<PortEntry>>,
}

impl<'a> Classes<'a> {
    fn new(contributions: &'a [(u32, PortSet)]) -> Self {
        Self {
            contributions,
            by_contributions: HashMap::from([(Vec::new(), NO_CLASS)]),
            by_entries: HashMap::from([(Vec::new(), NO_CLASS)]),
            classes: vec![Vec::new()],
        }
    }

    /// The class of a sorted set of contributions.
    fn of(&mut self, ids: &[u32]) -> u32 {
        if let Some(class) = self.by_contributions.get(ids) {
            return *class;
        }
        let entries = ports::disjoint_entries(
            ids.iter()
                .filter_map(|id| self.contributions.get(*id as usize))
                .map(|(rule, spans)| (*rule, spans)),
        );
        let class = self.intern(entries);
        self.by_contributions.insert(ids.to_vec(), class);
        class
    }

    fn intern(&mut self, entries: Vec<PortEntry>) -> u32 {
        let next = self.classes.len() as u32;
        *self
            .by_entries
            .entry(entries)
            .or_insert_with_key(|entries| {
                self.classes.push(entries.clone());
                next
            })
    }

    /// Pieces by class: neighbours that ended up alike become one.
    fn ranges(&mut self, pieces: &[pieces::Piece]) -> Vec<(u128, u32)> {
        let mut ranges: Vec<(u128, u32)> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let class = self.of(&piece.covered_by);
            if ranges.last().is_none_or(|(_, last)| *last != class) {
                ranges.push((piece.start, class));
            }
        }
        if ranges.iter().all(|(_, class)| *class == NO_CLASS) {
            ranges.clear();
        }
        ranges
    }
}

/// The addresses that stand for this pod.
fn owned<'a>(
    pod: &'a crate::model::Pod,
    pods: &'a dyn PodSource,
) -> impl Iterator<Item = IpAddr> + 'a {
    pod.ips.iter().copied().filter(|ip| pods.owns(pod, *ip))
}
