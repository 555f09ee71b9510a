//! Verifies every index, order and limit of a view once, so that evaluation need not.

use zerocopy::byteorder::little_endian::U32;

use super::error::SnapshotError;
use super::layout::{Entry, NONE, Span, TCP_KERNEL, TCP_NODE_PROXY, TCP_SIDECAR, Table, Text};
use super::view::{View, slice};
use crate::compile::{OTHER_PROTOCOLS, protocol_code};

#[cfg(test)]
mod tests;

type Checked = Result<(), SnapshotError>;

/// Checks the contents of all sections.
pub(super) fn check(view: &View<'_>) -> Checked {
    subjects(view)?;
    groups(view)?;
    names(view)?;
    for table in view.tables {
        check_table(view, table)?;
    }
    for class in view.classes {
        check_class(view, *class)?;
    }
    services(view)
}

fn error(section: &'static str, reason: &'static str) -> SnapshotError {
    SnapshotError::Section { section, reason }
}

fn require(holds: bool, section: &'static str, reason: &'static str) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(error(section, reason))
    }
}

fn index<T>(records: &[T], index: U32, section: &'static str, reason: &'static str) -> Checked {
    require((index.get() as usize) < records.len(), section, reason)
}

fn span<'a, T>(
    records: &'a [T],
    span: Span,
    section: &'static str,
    reason: &'static str,
) -> Result<&'a [T], SnapshotError> {
    slice(records, span).ok_or_else(|| error(section, reason))
}

/// Strictly ascending by a key: sorted and without duplicates.
fn ascending<T, K: Ord>(records: &[T], key: impl Fn(&T) -> K) -> bool {
    records.is_sorted_by(|a, b| key(a) < key(b))
}

fn subjects(view: &View<'_>) -> Checked {
    const ORDER: &str = "addresses are not strictly ascending";
    require(
        ascending(view.subjects_v4, |s| s.address),
        "subjects_v4",
        ORDER,
    )?;
    require(
        ascending(view.subjects_v6, |s| s.address),
        "subjects_v6",
        ORDER,
    )?;
    for subject in view.subjects_v4 {
        index(
            view.subjects,
            subject.subject,
            "subjects_v4",
            "unknown subject",
        )?;
    }
    for subject in view.subjects_v6 {
        index(
            view.subjects,
            subject.subject,
            "subjects_v6",
            "unknown subject",
        )?;
    }
    for subject in view.subjects {
        index(view.groups, subject.group, "subjects", "unknown group")?;
        require(
            matches!(subject.tcp_path, TCP_SIDECAR | TCP_NODE_PROXY | TCP_KERNEL),
            "subjects",
            "unknown path of TCP",
        )?;
        let node = span(
            view.node_addresses,
            subject.node,
            "subjects",
            "node outside",
        )?;
        require(ascending(node, |a| *a), "node_addresses", ORDER)?;
        let backings = span(
            view.backings,
            subject.backings,
            "subjects",
            "backings outside",
        )?;
        require(
            backings.is_sorted_by_key(|b| b.service_port.get()),
            "backings",
            "service ports are not ascending",
        )?;
        for backing in backings {
            index(
                view.service_ports,
                backing.service_port,
                "backings",
                "unknown service port",
            )?;
        }
    }
    Ok(())
}

fn groups(view: &View<'_>) -> Checked {
    for group in view.groups {
        for table in [group.ingress, group.egress] {
            index(view.tables, table, "groups", "unknown table")?;
        }
        for table in [group.audit_ingress, group.audit_egress] {
            if table.get() != NONE {
                index(view.tables, table, "groups", "unknown audit table")?;
            }
        }
    }
    Ok(())
}

fn names(view: &View<'_>) -> Checked {
    let text = |text: Text, section| {
        view.text_checked(text)
            .map(|_| ())
            .ok_or_else(|| error(section, "a name lies outside the text"))
    };
    for subject in view.subjects {
        text(subject.namespace, "subjects")?;
        text(subject.name, "subjects")?;
    }
    for policy in view.policies {
        text(policy.namespace, "policies")?;
        text(policy.name, "policies")?;
    }
    for service in view.service_ports {
        text(service.namespace, "service_ports")?;
        text(service.name, "service_ports")?;
    }
    for policy in view.policy_refs {
        index(view.policies, *policy, "policy_refs", "unknown policy")?;
    }
    for rule in view.rules {
        index(view.policies, rule.policy, "rules", "unknown policy")?;
    }
    Ok(())
}

fn check_table(view: &View<'_>, table: &Table) -> Checked {
    let policies = span(
        view.policy_refs,
        table.policies,
        "tables",
        "policies outside",
    )?;
    let classes = span(view.classes, table.classes, "tables", "classes outside")?;
    require(
        classes.first().is_some_and(|class| class.count.get() == 0),
        "tables",
        "the first class is not the empty one",
    )?;
    let known = |class: u32| (class as usize) < classes.len();

    for rule in span(view.table_rules, table.rules, "tables", "rules outside")? {
        index(view.rules, rule.rule, "table_rules", "unknown rule")?;
        require(known(rule.class.get()), "table_rules", "unknown class")?;
    }
    check_hosts(view, table, known)?;
    check_ranges(view, table, known)?;

    let services = span(
        view.service_verdicts,
        table.services,
        "tables",
        "service verdicts outside",
    )?;
    require(
        services.is_empty() || services.len() == view.service_ports.len(),
        "tables",
        "service verdicts are not one for each service port",
    )?;
    require(
        services.is_empty() || !policies.is_empty(),
        "tables",
        "a table without policies judges services",
    )
}

fn check_hosts(view: &View<'_>, table: &Table, known: impl Fn(u32) -> bool) -> Checked {
    const ORDER: &str = "keys are not strictly ascending";
    let v4 = span(view.hosts_v4, table.hosts_v4, "tables", "hosts outside")?;
    let v6 = span(view.hosts_v6, table.hosts_v6, "tables", "hosts outside")?;
    require(ascending(v4, |key| key.get()), "hosts_v4", ORDER)?;
    require(ascending(v6, |key| key.get()), "hosts_v6", ORDER)?;
    require(
        matches!(table.class_width, 1 | 2 | 4),
        "tables",
        "a class is not 1, 2 or 4 bytes wide",
    )?;
    let hosts = v4.len().saturating_add(v6.len());
    for host in 0..hosts {
        let class = view.host_class(table, host);
        require(class.is_some_and(&known), "host_classes", "unknown class")?;
    }
    Ok(())
}

fn check_ranges(view: &View<'_>, table: &Table, known: impl Fn(u32) -> bool) -> Checked {
    const ORDER: &str = "starts are not strictly ascending";
    let v4 = span(view.ranges_v4, table.ranges_v4, "tables", "ranges outside")?;
    let v6 = span(view.ranges_v6, table.ranges_v6, "tables", "ranges outside")?;
    require(ascending(v4, |start| start.get()), "ranges_v4", ORDER)?;
    require(ascending(v6, |start| start.get()), "ranges_v6", ORDER)?;
    let all = Span {
        start: table.range_classes,
        count: U32::new(
            table
                .ranges_v4
                .count
                .get()
                .saturating_add(table.ranges_v6.count.get()),
        ),
    };
    let classes = span(view.range_classes, all, "tables", "range classes outside")?;
    let all_known = classes.iter().all(|class| known(class.get()));
    require(all_known, "range_classes", "unknown class")
}

fn check_class(view: &View<'_>, class: Span) -> Checked {
    let entries = span(view.entries, class, "classes", "entries outside")?;
    for entry in entries {
        index(view.rules, entry.rule, "entries", "unknown rule")?;
        require(
            entry.low.get() <= entry.high.get(),
            "entries",
            "a range ends before it begins",
        )?;
        require(
            protocol_code(entry.protocol) == entry.protocol,
            "entries",
            "unknown protocol",
        )?;
        let is_whole = (entry.low.get(), entry.high.get()) == (0, u16::MAX);
        require(
            is_whole || entry.protocol != OTHER_PROTOCOLS,
            "entries",
            "protocols without ports have a part of them",
        )?;
    }
    let disjoint = |a: &Entry, b: &Entry| (a.protocol, a.high.get()) < (b.protocol, b.low.get());
    require(
        entries.is_sorted_by(disjoint),
        "entries",
        "ranges of a class are not disjoint and ascending",
    )
}

fn services(view: &View<'_>) -> Checked {
    const ORDER: &str = "they are not strictly ascending";
    const UNKNOWN: &str = "unknown service port";
    require(
        ascending(view.service_addresses, |a| {
            (a.address.get(), a.protocol, a.port.get())
        }),
        "service_addresses",
        ORDER,
    )?;
    for address in view.service_addresses {
        index(
            view.service_ports,
            address.service_port,
            "service_addresses",
            UNKNOWN,
        )?;
    }
    require(
        ascending(view.node_ports, |p| (p.family, p.protocol, p.port.get())),
        "node_ports",
        ORDER,
    )?;
    for port in view.node_ports {
        index(view.service_ports, port.service_port, "node_ports", UNKNOWN)?;
    }
    for verdict in view.service_verdicts {
        let rule = verdict.rule;
        if verdict.allowed.get() > 0 {
            index(view.rules, rule, "service_verdicts", "unknown rule")?;
        } else {
            require(
                rule.get() == NONE,
                "service_verdicts",
                "a rule is named but allows nothing",
            )?;
        }
    }
    Ok(())
}
