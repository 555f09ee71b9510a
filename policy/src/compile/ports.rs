//! Port sets of rules, and the port classes that they add up to.

use std::collections::BTreeSet;

use crate::model::{PodPort, PortRange, Ports, Protocol};

/// Stands for every protocol that a rule cannot name, ICMP among them: only "all protocols"
/// allows those.
pub const OTHER_PROTOCOLS: u8 = 255;

/// The protocol codes of port entries, in the order of the table.
const CODES: [u8; 4] = [
    Protocol::Tcp.number(),
    Protocol::Udp.number(),
    Protocol::Sctp.number(),
    OTHER_PROTOCOLS,
];

/// The code under which a table knows an IP protocol number.
pub const fn protocol_code(number: u8) -> u8 {
    match number {
        6 | 17 | 132 => number,
        _ => OTHER_PROTOCOLS,
    }
}

/// Inclusive port ranges of one protocol each, as one rule gives them.
pub type PortSet = Vec<PortSpan>;

/// An inclusive range of ports of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortSpan {
    /// The protocol code, see [`protocol_code`].
    pub protocol: u8,
    /// The first port.
    pub low: u16,
    /// The last port.
    pub high: u16,
}

/// A range of ports that a class allows, and the rule that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortEntry {
    /// The range.
    pub span: PortSpan,
    /// The rule to name: the first in policy order, as an index into the table's rules.
    pub rule: u32,
}

/// All ports of one protocol code.
const fn every_port(protocol: u8) -> PortSpan {
    PortSpan {
        protocol,
        low: 0,
        high: u16::MAX,
    }
}

/// The ports that do not depend on who the destination is.
pub fn fixed_ports(ports: &Ports) -> PortSet {
    match ports {
        Ports::Any => CODES.map(every_port).to_vec(),
        Ports::Of(list) => list
            .iter()
            .filter_map(|each| match each.port {
                PortRange::All => Some(every_port(each.protocol.number())),
                PortRange::Numbers { low, high } => Some(PortSpan {
                    protocol: each.protocol.number(),
                    low,
                    high,
                }),
                PortRange::Named(_) => None,
            })
            .collect(),
    }
}

/// The named ports of a rule as a destination with these ports resolves them (`semantics E7`).
pub fn resolved_ports(ports: &Ports, destination: &[PodPort]) -> PortSet {
    let mut spans: PortSet = named_ports(ports)
        .flat_map(|(name, protocol)| {
            destination
                .iter()
                .filter(move |port| port.protocol == protocol && port.name.as_ref() == name)
        })
        .map(|port| PortSpan {
            protocol: port.protocol.number(),
            low: port.number,
            high: port.number,
        })
        .collect();
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// The names in a rule's ports, with their protocols.
pub fn named_ports(ports: &Ports) -> impl Iterator<Item = (&str, Protocol)> {
    let list = match ports {
        Ports::Any => &[],
        Ports::Of(list) => list.as_slice(),
    };
    list.iter().filter_map(|each| match &each.port {
        PortRange::Named(name) => Some((name.as_ref(), each.protocol)),
        PortRange::All | PortRange::Numbers { .. } => None,
    })
}

/// Cuts the port sets of several rules into disjoint entries, sorted by protocol and port; where
/// rules overlap the first one is named.
pub fn disjoint_entries<'a>(rules: impl Iterator<Item = (u32, &'a PortSet)>) -> Vec<PortEntry> {
    let mut edges: Vec<(u8, u32, bool, u32)> = Vec::new();
    for (rule, spans) in rules {
        for span in spans {
            edges.push((span.protocol, u32::from(span.low), true, rule));
            edges.push((span.protocol, u32::from(span.high) + 1, false, rule));
        }
    }
    edges.sort_unstable();

    let mut entries: Vec<PortEntry> = Vec::new();
    // A rule may open the same port twice, hence the second number that keeps its spans apart.
    let mut open: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut at = 0;
    while let Some(&(protocol, port, ..)) = edges.get(at) {
        while let Some(&(p, q, opens, rule)) = edges.get(at) {
            if (p, q) != (protocol, port) {
                break;
            }
            let depth = open.range((rule, 0)..=(rule, u32::MAX)).count() as u32;
            if opens {
                open.insert((rule, depth));
            } else {
                open.remove(&(rule, depth.saturating_sub(1)));
            }
            at += 1;
        }
        let (Some(&(rule, _)), Some(&(next_protocol, next_port, ..))) =
            (open.first(), edges.get(at))
        else {
            continue;
        };
        debug_assert_eq!(next_protocol, protocol, "a span ends in its own protocol");
        let span = PortSpan {
            protocol,
            low: port as u16,
            high: (next_port - 1) as u16,
        };
        match entries.last_mut() {
            Some(last)
                if last.rule == rule
                    && last.span.protocol == protocol
                    && u32::from(last.span.high) + 1 == port =>
            {
                last.span.high = span.high;
            }
            _ => entries.push(PortEntry { span, rule }),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(protocol: Protocol, low: u16, high: u16) -> PortSpan {
        PortSpan {
            protocol: protocol.number(),
            low,
            high,
        }
    }

    /// The entries of rules, as protocol, first and last port, and rule.
    fn entries(rules: &[(u32, &[PortSpan])]) -> Vec<(u8, u16, u16, u32)> {
        let sets: Vec<(u32, PortSet)> = rules
            .iter()
            .map(|(rule, spans)| (*rule, spans.to_vec()))
            .collect();
        disjoint_entries(sets.iter().map(|(rule, spans)| (*rule, spans)))
            .into_iter()
            .map(|entry| {
                (
                    entry.span.protocol,
                    entry.span.low,
                    entry.span.high,
                    entry.rule,
                )
            })
            .collect()
    }

    #[test]
    fn overlapping_ranges_become_disjoint_and_name_the_first_rule() {
        use Protocol::{Tcp, Udp};
        for (rules, expected) in [
            (&[][..], vec![]),
            (&[(0, &[span(Tcp, 80, 80)][..])], vec![(6, 80, 80, 0)]),
            // A hole stays one.
            (
                &[(0, &[span(Tcp, 80, 80), span(Tcp, 82, 90)])],
                vec![(6, 80, 80, 0), (6, 82, 90, 0)],
            ),
            // What touches or overlaps within one rule is one entry.
            (
                &[(
                    3,
                    &[
                        span(Tcp, 1, 9),
                        span(Tcp, 10, 20),
                        span(Tcp, 5, 12),
                        span(Tcp, 5, 12),
                    ],
                )],
                vec![(6, 1, 20, 3)],
            ),
            // The earlier rule is named where both allow, whichever begins or ends first.
            (
                &[(1, &[span(Tcp, 10, 20)]), (2, &[span(Tcp, 5, 30)])],
                vec![(6, 5, 9, 2), (6, 10, 20, 1), (6, 21, 30, 2)],
            ),
            (
                &[(1, &[span(Tcp, 5, 30)]), (2, &[span(Tcp, 10, 40)])],
                vec![(6, 5, 30, 1), (6, 31, 40, 2)],
            ),
            // Protocols never meet, not even at their ends.
            (
                &[(1, &[span(Udp, 0, 65535), span(Tcp, 65535, 65535)])],
                vec![(6, 65535, 65535, 1), (17, 0, 65535, 1)],
            ),
        ] {
            assert_eq!(entries(rules), expected, "{rules:?}");
        }
    }

    #[test]
    fn protocols_that_rules_cannot_name_share_a_code() {
        for (number, code) in [(6, 6), (17, 17), (132, 132), (1, 255), (58, 255), (0, 255)] {
            assert_eq!(protocol_code(number), code);
        }
        let any: Vec<u8> = fixed_ports(&Ports::Any)
            .iter()
            .map(|it| it.protocol)
            .collect();
        assert_eq!(any, [6, 17, 132, OTHER_PROTOCOLS]);
    }
}
