//! Records that lead outside, are out of order or contradict each other.

use zerocopy::byteorder::little_endian::{U32, U128};

use super::{refused, with};
use crate::snapshot::Snapshot;
use crate::snapshot::layout::{
    Backing, Entry, Group, NONE, NodePort, Policy, Rule, ServiceAddress, ServicePort,
    ServiceVerdict, Span, Subject, SubjectV4, SubjectV6, Table, TableRule,
};

const FAR: U32 = U32::new(1 << 30);

fn beyond(span: Span) -> Span {
    Span { start: FAR, ..span }
}

#[test]
fn addresses_of_subjects_are_ascending_and_lead_to_one() {
    const ORDER: &str = "addresses are not strictly ascending";
    refused(
        with("subjects_v4", |s: &mut [SubjectV4]| s.swap(0, 1)),
        "subjects_v4",
        ORDER,
    );
    refused(
        with("subjects_v4", |s: &mut [SubjectV4]| {
            s[1].address = s[0].address;
        }),
        "subjects_v4",
        ORDER,
    );
    refused(
        with("subjects_v6", |s: &mut [SubjectV6]| s.swap(0, 1)),
        "subjects_v6",
        ORDER,
    );
    // Two subjects: number 2 is the first that is not there.
    refused(
        with("subjects_v4", |s: &mut [SubjectV4]| s[0].subject = 2.into()),
        "subjects_v4",
        "unknown subject",
    );
    refused(
        with("subjects_v6", |s: &mut [SubjectV6]| s[1].subject = 2.into()),
        "subjects_v6",
        "unknown subject",
    );
}

#[test]
fn subjects_lead_inside() {
    let subject = |change: fn(&mut Subject)| with("subjects", move |s: &mut [_]| change(&mut s[1]));
    refused(subject(|s| s.group = FAR), "subjects", "unknown group");
    refused(
        subject(|s| s.tcp_path = 3),
        "subjects",
        "unknown path of TCP",
    );
    refused(
        subject(|s| s.node = beyond(s.node)),
        "subjects",
        "node outside",
    );
    refused(
        subject(|s| s.backings = beyond(s.backings)),
        "subjects",
        "backings outside",
    );
    const NAME: &str = "a name lies outside the text";
    refused(subject(|s| s.namespace.start = FAR), "subjects", NAME);
    refused(
        subject(|s| s.name.length = u16::MAX.into()),
        "subjects",
        NAME,
    );
    refused(
        with("node_addresses", |a: &mut [[u8; 16]]| a.swap(0, 1)),
        "node_addresses",
        "addresses are not strictly ascending",
    );
    refused(
        with("backings", |b: &mut [Backing]| b[0].service_port = 3.into()),
        "backings",
        "service ports are not ascending",
    );
    refused(
        with("backings", |b: &mut [Backing]| {
            b.iter_mut().for_each(|each| each.service_port = FAR);
        }),
        "backings",
        "unknown service port",
    );
}

#[test]
fn groups_lead_to_tables() {
    let group = |change: fn(&mut Group)| with("groups", move |g: &mut [_]| change(&mut g[0]));
    refused(group(|g| g.ingress = FAR), "groups", "unknown table");
    refused(group(|g| g.egress = NONE.into()), "groups", "unknown table");
    const AUDIT: &str = "unknown audit table";
    refused(group(|g| g.audit_ingress = FAR), "groups", AUDIT);
    refused(group(|g| g.audit_egress = FAR), "groups", AUDIT);
    let unaudited = group(|g| g.audit_egress = NONE.into());
    Snapshot::check(unaudited).expect("no audited policies are no mistake");
}

#[test]
fn names_lie_in_the_text_and_policies_are_known() {
    const NAME: &str = "a name lies outside the text";
    refused(
        with("policies", |p: &mut [Policy]| p[0].name.start = FAR),
        "policies",
        NAME,
    );
    refused(
        with("policies", |p: &mut [Policy]| p[1].namespace.start = FAR),
        "policies",
        NAME,
    );
    let service =
        |change: fn(&mut ServicePort)| with("service_ports", move |s: &mut [_]| change(&mut s[0]));
    refused(service(|s| s.namespace.start = FAR), "service_ports", NAME);
    refused(service(|s| s.name.start = FAR), "service_ports", NAME);
    refused(
        with("policy_refs", |p: &mut [U32]| p[0] = 2.into()),
        "policy_refs",
        "unknown policy",
    );
    refused(
        with("rules", |r: &mut [Rule]| r[0].policy = 2.into()),
        "rules",
        "unknown policy",
    );
}

#[test]
fn tables_lead_inside() {
    let table = |change: fn(&mut Table)| with("tables", move |t: &mut [_]| change(&mut t[0]));
    for (bytes, reason) in [
        (
            table(|t| t.policies = beyond(t.policies)),
            "policies outside",
        ),
        (table(|t| t.classes = beyond(t.classes)), "classes outside"),
        (
            table(|t| t.classes.count = 0.into()),
            "the first class is not the empty one",
        ),
        (
            table(|t| t.classes.start = (t.classes.start.get() + 1).into()),
            "the first class is not the empty one",
        ),
        (table(|t| t.rules = beyond(t.rules)), "rules outside"),
        (
            table(|t| t.services = beyond(t.services)),
            "service verdicts outside",
        ),
        (table(|t| t.hosts_v4 = beyond(t.hosts_v4)), "hosts outside"),
        (table(|t| t.hosts_v6 = beyond(t.hosts_v6)), "hosts outside"),
        (
            table(|t| t.ranges_v4 = beyond(t.ranges_v4)),
            "ranges outside",
        ),
        (
            table(|t| t.ranges_v6 = beyond(t.ranges_v6)),
            "ranges outside",
        ),
        (table(|t| t.range_classes = FAR), "range classes outside"),
        (
            table(|t| t.class_width = 3),
            "a class is not 1, 2 or 4 bytes wide",
        ),
        (
            table(|t| t.class_width = 0),
            "a class is not 1, 2 or 4 bytes wide",
        ),
    ] {
        refused(bytes, "tables", reason);
    }
    refused(
        table(|t| t.host_classes = FAR),
        "host_classes",
        "unknown class",
    );
}

#[test]
fn a_table_judges_all_services_or_none_and_only_where_it_isolates() {
    let judging = |change: fn(&mut Table)| {
        with("tables", move |tables: &mut [Table]| {
            let judging = |table: &&mut Table| table.services.count.get() > 0;
            change(tables.iter_mut().find(judging).expect("it judges"));
        })
    };
    refused(
        judging(|t| t.services.count = 1.into()),
        "tables",
        "service verdicts are not one for each service port",
    );
    refused(
        judging(|t| t.policies.count = 0.into()),
        "tables",
        "a table without policies judges services",
    );
    Snapshot::check(judging(|t| t.services.count = 0.into())).expect("none is no mistake");
}

#[test]
fn classes_of_hosts_ranges_and_rules_are_known() {
    const UNKNOWN: &str = "unknown class";
    refused(
        with("host_classes", |c: &mut [u8]| c[0] = 9),
        "host_classes",
        UNKNOWN,
    );
    refused(
        with("range_classes", |c: &mut [U32]| c[0] = 9.into()),
        "range_classes",
        UNKNOWN,
    );
    refused(
        with("table_rules", |r: &mut [TableRule]| r[0].class = 9.into()),
        "table_rules",
        UNKNOWN,
    );
    refused(
        with("table_rules", |r: &mut [TableRule]| r[0].rule = FAR),
        "table_rules",
        "unknown rule",
    );
}

#[test]
fn keys_and_starts_are_strictly_ascending() {
    const KEYS: &str = "keys are not strictly ascending";
    const STARTS: &str = "starts are not strictly ascending";
    refused(
        with("hosts_v4", |k: &mut [U32]| k.swap(0, 1)),
        "hosts_v4",
        KEYS,
    );
    refused(
        with("hosts_v6", |k: &mut [U128]| k[1] = k[0]),
        "hosts_v6",
        KEYS,
    );
    refused(
        with("ranges_v4", |k: &mut [U32]| k[1] = k[0]),
        "ranges_v4",
        STARTS,
    );
    refused(
        with("ranges_v6", |k: &mut [U128]| k.swap(0, 1)),
        "ranges_v6",
        STARTS,
    );
}

#[test]
fn entries_of_a_class_are_ranges_side_by_side() {
    const SIDE_BY_SIDE: &str = "ranges of a class are not disjoint and ascending";
    let entry = |change: fn(&mut [Entry])| with("entries", change);
    refused(
        entry(|e| e[0].low = (e[0].high.get() + 1).into()),
        "entries",
        "a range ends before it begins",
    );
    refused(entry(|e| e[0].rule = FAR), "entries", "unknown rule");
    refused(entry(|e| e.swap(0, 1)), "entries", SIDE_BY_SIDE);
    // One port in both is too much already.
    refused(entry(|e| e[0].high = e[1].low), "entries", SIDE_BY_SIDE);
    Snapshot::check(entry(|e| e[0].high = (e[1].low.get() - 1).into())).expect("ranges may touch");
    refused(
        with("classes", |c: &mut [Span]| c[1] = beyond(c[1])),
        "classes",
        "entries outside",
    );
}

/// The node's table would take an unknown protocol for "all others", and a part of their ports for
/// the whole; judging would not.
#[test]
fn entries_are_of_tcp_udp_and_sctp_or_of_all_others_without_ports() {
    let last = |change: fn(&mut Entry)| {
        with("entries", move |e: &mut [_]| {
            change(e.last_mut().expect("one"));
        })
    };
    for protocol in [18, 133, 254] {
        let odd = with("entries", move |e: &mut [Entry]| {
            e.last_mut().expect("one").protocol = protocol;
        });
        refused(odd, "entries", "unknown protocol");
    }
    refused(
        last(|e| e.protocol = 255),
        "entries",
        "protocols without ports have a part of them",
    );
    let whole = last(|e| {
        e.protocol = 255;
        e.low = 0.into();
        e.high = u16::MAX.into();
    });
    Snapshot::check(whole).expect("all other protocols");
}

#[test]
fn services_are_in_order_and_their_verdicts_add_up() {
    const ORDER: &str = "they are not strictly ascending";
    const UNKNOWN: &str = "unknown service port";
    let address = |change: fn(&mut [ServiceAddress])| with("service_addresses", change);
    refused(address(|a| a.swap(0, 1)), "service_addresses", ORDER);
    refused(
        address(|a| a[0].service_port = FAR),
        "service_addresses",
        UNKNOWN,
    );
    let port = |change: fn(&mut [NodePort])| with("node_ports", change);
    refused(port(|p| p.swap(0, 1)), "node_ports", ORDER);
    refused(port(|p| p[0].service_port = FAR), "node_ports", UNKNOWN);
    let verdict = |change: fn(&mut ServiceVerdict)| {
        with("service_verdicts", move |v: &mut [_]| change(&mut v[0]))
    };
    refused(
        verdict(|v| v.rule = NONE.into()),
        "service_verdicts",
        "unknown rule",
    );
    refused(
        verdict(|v| v.allowed = 0.into()),
        "service_verdicts",
        "a rule is named but allows nothing",
    );
}
