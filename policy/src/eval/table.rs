//! One table, one peer, one port.

use std::net::IpAddr;

use super::{Flow, Reason, Verdict, mapped, search, unmapped};
use crate::compile::{NO_CLASS, protocol_code};
use crate::model::Direction;
use crate::snapshot::layout::{Backing, Entry, NONE, Subject};
use crate::snapshot::{TableView, View, slice};

type Judged = (Verdict, Reason);

const DENIED: Judged = (Verdict::Deny, Reason::NoRule);

impl View<'_> {
    /// Judges a flow by one table.
    ///
    /// `on_own_node` is the service that the destination, a port of the own node, stands for.
    pub(super) fn judge_table(
        &self,
        table: u32,
        direction: Direction,
        subject: &Subject,
        flow: &Flow,
        on_own_node: Option<u32>,
    ) -> Judged {
        let Some(table) = self.table(table) else {
            return DENIED;
        };
        if table.table.policies.count.get() == 0 {
            return (Verdict::Allow, Reason::NotIsolated);
        }
        if direction == Direction::Egress {
            let service = match on_own_node {
                Some(service_port) => Some(ServiceMatch::Port(service_port)),
                None => self.service_of(flow),
            };
            if let Some(service) = service {
                return self.judge_service(&table, subject, flow, service);
            }
        }
        self.judge_address(&table, flow.peer(direction), flow.protocol, flow.port)
            .map_or(DENIED, |entry| {
                (Verdict::Allow, Reason::Rule(entry.rule.get()))
            })
    }

    /// The entry that allows a port of an address.
    #[inline]
    fn judge_address(
        &self,
        table: &TableView<'_>,
        peer: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Option<&Entry> {
        let entries = self.entries_at(table, peer)?;
        let code = protocol_code(protocol);
        let entry = search::covering(entries, |e| (e.protocol, e.low.get()), (code, port))?;
        (entry.protocol == code && port <= entry.high.get()).then_some(entry)
    }

    /// What is allowed to an address: as a host, else by the range it lies in, else as to anybody.
    #[inline]
    pub(super) fn entries_at(&self, table: &TableView<'_>, ip: IpAddr) -> Option<&[Entry]> {
        let TableView {
            table: record,
            index,
            ..
        } = table;
        let host = match ip {
            IpAddr::V4(v4) => slice(self.hosts_v4, record.hosts_v4)
                .and_then(|keys| index.hosts_v4.find(keys, search::host_key_v4(v4))),
            IpAddr::V6(v6) => slice(self.hosts_v6, record.hosts_v6)
                .and_then(|keys| index.hosts_v6.find(keys, search::host_key_v6(v6)))
                .and_then(|host| host.checked_add(record.hosts_v4.count.get() as usize)),
        };
        if let Some(host) = host {
            return self.entries_of(table, self.host_class(record, host)?);
        }
        let range = match ip {
            IpAddr::V4(v4) => slice(self.ranges_v4, record.ranges_v4)
                .and_then(|starts| index.ranges_v4.covering(starts, v4.into())),
            IpAddr::V6(v6) => slice(self.ranges_v6, record.ranges_v6)
                .and_then(|starts| index.ranges_v6.covering(starts, v6.into()))
                .and_then(|range| range.checked_add(record.ranges_v4.count.get() as usize)),
        };
        match range {
            Some(range) => slice(self.entries, *index.range_entries.get(range)?),
            None => self.entries_of(table, NO_CLASS),
        }
    }

    /// The entries of a class of a table.
    #[inline]
    pub(crate) fn entries_of(&self, table: &TableView<'_>, class: u32) -> Option<&[Entry]> {
        slice(self.entries, *table.classes.get(class as usize)?)
    }

    /// The service that a destination address stands for. A snapshot without verdicts on services only names their
    /// addresses, and judges them like all others.
    pub(super) fn service_of(&self, flow: &Flow) -> Option<ServiceMatch> {
        if self.service_verdicts.is_empty() {
            return None;
        }
        let wanted = (mapped(flow.destination), flow.protocol, flow.port);
        let after = self
            .service_addresses
            .partition_point(|a| (a.address.get(), a.protocol, a.port.get()) < wanted);
        let at = |index: usize| {
            self.service_addresses
                .get(index)
                .filter(|a| a.address.get() == wanted.0)
        };
        let here = at(after);
        match here {
            Some(a) if (a.protocol, a.port.get()) == (wanted.1, wanted.2) => {
                Some(ServiceMatch::Port(a.service_port.get()))
            }
            _ => here
                .or_else(|| at(after.checked_sub(1)?))
                .filter(|a| a.is_cluster_ip != 0)
                .map(|a| ServiceMatch::OtherPort(a.service_port.get())),
        }
    }

    /// Judges a service by its backends (`semantics I1`, `I4`). The subject itself and its node,
    /// if they are among them, count as allowed (`semantics G3`, `G7`).
    fn judge_service(
        &self,
        table: &TableView<'_>,
        subject: &Subject,
        flow: &Flow,
        service: ServiceMatch,
    ) -> Judged {
        let service_port = match service {
            ServiceMatch::Port(service_port) => service_port,
            ServiceMatch::OtherPort(service_port) => {
                return (Verdict::Deny, Reason::ServiceUnknownPort { service_port });
            }
        };
        let verdict = slice(self.service_verdicts, table.table.services)
            .and_then(|verdicts| verdicts.get(service_port as usize));
        let Some(verdict) = verdict else {
            return DENIED;
        };
        let (mut allowed, mut denied) = (verdict.allowed.get(), verdict.denied.get());
        for backing in self.backings(subject, service_port) {
            // The table may deny the backend, for it is shared and judges this address like any.
            let ip = unmapped(backing.address.get());
            let counted_as_denied = self
                .judge_address(table, ip, flow.protocol, backing.port.get())
                .is_none();
            if counted_as_denied {
                denied = denied.saturating_sub(1);
                allowed = allowed.saturating_add(1);
            }
        }
        let rule = verdict.rule.get();
        let rule = (rule != NONE).then_some(rule);
        match (allowed, denied) {
            (0, _) => (Verdict::Deny, Reason::ServiceDenied { service_port }),
            (_, 0) => (
                Verdict::Allow,
                Reason::ServiceAllowed { service_port, rule },
            ),
            _ => {
                let verdict = if self.flags & crate::snapshot::layout::FLAG_NODE_PLANE == 0 {
                    Verdict::Deny
                } else {
                    Verdict::Allow
                };
                (verdict, Reason::ServiceMixed { service_port })
            }
        }
    }

    /// The backends of a service port that are always allowed to a subject.
    fn backings(&self, subject: &Subject, service_port: u32) -> impl Iterator<Item = &Backing> {
        slice(self.backings, subject.backings)
            .unwrap_or_default()
            .iter()
            .filter(move |b| b.service_port.get() == service_port)
    }
}

/// How a destination belongs to a service.
#[derive(Clone, Copy)]
pub(super) enum ServiceMatch {
    /// A port of the service.
    Port(u32),
    /// An address of the service on another port or protocol.
    OtherPort(u32),
}
