//! The constant part of the table: what every packet meets before and behind the pods' own rules.

mod proxy;

use std::net::SocketAddr;

use ipnet::IpNet;
use sidewall_policy::model::{Direction, Protocol};

use super::object::{
    Action, Body, Element, End, Family, Hook, Key, KeyType, Layer, Match, Name, Object, Refusal,
    Rule, State, Verdict,
};
use super::{Settings, names};
use crate::node::nflog::Prefix;

/// Marks packets to be delivered on this node, and connections that its Envoy took over. The
/// routing rule of the node plane goes by it.
pub const DELIVER: u32 = 0x1_0000;

/// Marks the node Envoy's own connections to servers. No routing rule may match it.
pub const UPSTREAM: u32 = 0x2_0000;

/// Marks connections that a change denies: nothing passes on them, either way. And what the agent sends to
/// reset their ends.
pub const SILENCED: u32 = 0x4_0000;

/// Counts first packets that a side allows.
pub(super) const fn allowed(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress_allowed",
        Direction::Ingress => "ingress_allowed",
    }
}

/// The chain without a rule: the packet goes on behind the last jump.
pub(super) const PASSES: &str = "passes";

/// Every named counter of the whole table, with what it counts.
pub const COUNTERS: [(&str, &str); 11] = [
    (
        "egress_allowed",
        "first packets that the source's side allows",
    ),
    (
        "egress_denied",
        "packets that the source's side does not allow",
    ),
    (
        "ingress_allowed",
        "first packets that the destination's side allows",
    ),
    (
        "ingress_denied",
        "packets that the destination's side does not allow",
    ),
    (
        "egress_would_deny",
        "first packets that pass and that the source's audited policies do not allow",
    ),
    (
        "ingress_would_deny",
        "first packets that pass and that the destination's audited policies do not allow",
    ),
    (
        "unknown_denied",
        "packets from or to pod addresses without a snapshot",
    ),
    (
        "stray_denied",
        "packets of no connection: invalid, or TCP that does not begin",
    ),
    (
        "silenced_denied",
        "packets of connections that a change denies",
    ),
    ("proxied", "first packets handed to the node Envoy"),
    (
        "proxy_absent",
        "first packets dropped because no node Envoy listens",
    ),
];

/// How many packets of silenced connections the agent reads in a second: each ends one.
const SILENCED_RATE: u32 = 2000;

/// How many dropped packets are told to the log: in a second, and at once.
const LOG_RATE: u32 = 50;
const LOG_BURST: u32 = 100;

/// Every constant object by name.
pub(super) fn objects(settings: &Settings) -> Vec<(Name, Object)> {
    let mut objects = vec![
        ("prerouting".into(), prerouting(settings)),
        ("pods".into(), pods(settings)),
        ("stray_drop".into(), dropping(count("stray_denied"))),
        ("silenced_drop".into(), silenced(settings)),
        ("untracked_output".into(), untracked_output()),
        (
            "unknown_drop".into(),
            dropping(counted_and_logged(
                "unknown_denied",
                Prefix::Unknown,
                settings,
            )),
        ),
        (PASSES.into(), Object::chain(Layer::Ends, Vec::new())),
        (ported(), ported_set()),
    ];
    for direction in [Direction::Egress, Direction::Ingress] {
        let (counter, prefix) = match direction {
            Direction::Egress => ("egress_denied", Prefix::Egress),
            Direction::Ingress => ("ingress_denied", Prefix::Ingress),
        };
        let mut rules = side(direction);
        if direction == Direction::Egress {
            let control_planes = settings.control_planes.iter();
            rules.splice(
                0..0,
                control_planes.map(|address| to_control_plane(*address)),
            );
        }
        objects.push((names::of_direction(direction, ""), chain(rules)));
        objects.push((names::of_direction(direction, "_open"), open(direction)));
        objects.push((
            names::of_direction(direction, "_drop"),
            denied(counted_and_logged(counter, prefix, settings), settings),
        ));
        objects.push((
            names::of_direction(direction, "_audit"),
            chain(audit(direction)),
        ));
        let (counter, prefix) = match direction {
            Direction::Egress => ("egress_would_deny", Prefix::AuditedEgress),
            Direction::Ingress => ("ingress_would_deny", Prefix::AuditedIngress),
        };
        objects.push((
            names::of_direction(direction, "_audit_record"),
            Object::chain(Layer::Ends, counted_and_logged(counter, prefix, settings)),
        ));
    }
    if let Some(port) = settings.proxy_port {
        objects.extend(proxy::objects(port, settings));
    }
    for family in Family::ALL {
        let ranges = ranges_set(family, &settings.pod_cidrs);
        objects.push((names::of_family("pod_ranges", family), ranges));
    }
    objects.extend(COUNTERS.map(|(name, comment)| (name.into(), counter(comment))));
    objects
}

/// Behind DNAT, so that addresses and ports are those of the pod that really answers.
fn prerouting(settings: &Settings) -> Object {
    let accepted = |matches| Rule::new(matches, Vec::new(), Verdict::Accept);
    let mut rules = vec![Rule::new(
        vec![Match::ConnectionMark(SILENCED)],
        Vec::new(),
        goto("silenced_drop"),
    )];
    if settings.proxy_port.is_some() {
        rules.extend(proxy::diverted());
    }
    rules.extend([
        accepted(vec![Match::State(&[State::Established, State::Related])]),
        accepted(vec![Match::Loopback]),
        accepted(vec![Match::Discovery]),
    ]);
    for set in ["pod_ranges", "other_pods"] {
        for family in Family::ALL {
            for end in [End::Source, End::Destination] {
                let known = Match::In(end, family, names::of_family(set, family));
                rules.push(Rule::new(vec![known], Vec::new(), goto("pods")));
            }
        }
    }
    let point = Hook {
        point: "prerouting",
        priority: "dstnat + 5",
        number: -95,
    };
    hooked(point, rules)
}

/// First packets from or to pods of this node: both sides are judged, then the node Envoy takes the
/// connections of pods that asked for it.
fn pods(settings: &Settings) -> Object {
    let stray = |matches| Rule::new(matches, Vec::new(), goto("stray_drop"));
    let mut rules = vec![
        stray(vec![Match::State(&[State::Invalid])]),
        stray(vec![Match::NotSyn, Match::State(&[State::New])]),
    ];
    for family in Family::ALL {
        let itself = Match::PairIn(family, names::of_family("same_pod", family));
        rules.push(Rule::new(vec![itself], Vec::new(), Verdict::Accept));
    }
    let jump = |direction, suffix| Verdict::Jump(names::of_direction(direction, suffix));
    let to_node = |verdict| Rule::new(vec![Match::ToNode], Vec::new(), verdict);
    rules.extend([
        Rule::always(jump(Direction::Egress, "")),
        to_node(jump(Direction::Egress, "_audit")),
        to_node(Verdict::Accept),
        Rule::always(jump(Direction::Ingress, "")),
    ]);
    if settings.proxy_port.is_some() {
        // What it takes is recorded by the node Envoy.
        rules.push(Rule::always(Verdict::Jump("hand_over".into())));
    }
    rules.extend([
        Rule::always(jump(Direction::Egress, "_audit")),
        Rule::always(jump(Direction::Ingress, "_audit")),
    ]);
    chain(rules)
}

/// One side: on to the pod's table. An address of this node's ranges that stands for no pod is
/// closed.
fn side(direction: Direction) -> Vec<Rule> {
    let end = End::subject(direction);
    let map = |family| names::of_family(names::of_direction(direction, "_pods"), family);
    let known = Family::ALL.map(|family| Rule::always(Verdict::Lookup(end, family, map(family))));
    let unknown = Family::ALL.map(|family| {
        let in_range = Match::In(end, family, names::of_family("pod_ranges", family));
        Rule::new(vec![in_range], Vec::new(), goto("unknown_drop"))
    });
    known.into_iter().chain(unknown).collect()
}

/// What the audited policies of one side say of a packet that passes. A sidecar records the TCP that it carries
/// itself.
fn audit(direction: Direction) -> Vec<Rule> {
    let end = End::subject(direction);
    let by_sidecar = |family| {
        let sidecars = Match::In(end, family, names::of_family("sidecars", family));
        Rule::new(vec![Match::Tcp, sidecars], Vec::new(), Verdict::Return)
    };
    let map = |family| names::of_family(names::of_direction(direction, "_audited_pods"), family);
    let audited = |family| Rule::always(Verdict::Lookup(end, family, map(family)));
    let families = Family::ALL;
    let by_sidecar = families.map(by_sidecar).into_iter();
    by_sidecar.chain(families.map(audited)).collect()
}

/// A sidecar asks for its snapshot. By the address that it dialled: behind a Service, DNAT has
/// chosen a replica by now.
fn to_control_plane(address: SocketAddr) -> Rule {
    let family = Family::of(address.ip());
    let sidecars = names::of_family("sidecars", family);
    Rule::new(
        vec![
            Match::Tcp,
            Match::In(End::Source, family, sidecars),
            Match::Dialled(address),
        ],
        Vec::new(),
        goto(&names::of_direction(Direction::Egress, "_open")),
    )
}

/// Allows a side.
fn open(direction: Direction) -> Object {
    Object::chain(
        Layer::Ends,
        vec![Rule::new(
            Vec::new(),
            vec![Action::Count(allowed(direction).into())],
            Verdict::Return,
        )],
    )
}

fn count(counter: &'static str) -> Vec<Rule> {
    vec![Rule::new(
        Vec::new(),
        vec![Action::Count(counter.into())],
        Verdict::Continue,
    )]
}

fn counted_and_logged(counter: &'static str, prefix: Prefix, settings: &Settings) -> Vec<Rule> {
    let limit = Match::Limit {
        rate: LOG_RATE,
        burst: LOG_BURST,
    };
    let log = Action::Log {
        prefix: prefix.as_str(),
        group: settings.nflog_group,
    };
    let mut rules = count(counter);
    rules.push(Rule::new(vec![limit], vec![log], Verdict::Continue));
    rules
}

/// A connection that a change denies: both ends of TCP are reset, and the agent learns the sequence numbers
/// that the other end expects (`resets`).
fn silenced(settings: &Settings) -> Object {
    let mut rules = count("silenced_denied");
    let limit = Match::Limit {
        rate: SILENCED_RATE,
        burst: SILENCED_RATE,
    };
    let log = Action::Log {
        prefix: Prefix::Silenced.as_str(),
        group: settings.nflog_group,
    };
    rules.push(Rule::new(
        vec![Match::Tcp, limit],
        vec![log],
        Verdict::Continue,
    ));
    rules.push(Rule::new(
        vec![Match::Tcp],
        Vec::new(),
        Verdict::Reject(Refusal::Reset),
    ));
    dropping(rules)
}

/// What the agent sends to ends of silenced connections is about none that the kernel tracks.
fn untracked_output() -> Object {
    let rule = Rule::new(
        vec![Match::Tcp, Match::Mark(SILENCED)],
        vec![Action::Untrack],
        Verdict::Continue,
    );
    hooked(raw("output"), vec![rule])
}

const fn raw(point: &'static str) -> Hook {
    Hook {
        point,
        priority: "raw",
        number: -300,
    }
}

fn dropping(mut rules: Vec<Rule>) -> Object {
    rules.push(Rule::always(Verdict::Drop));
    Object::chain(Layer::Ends, rules)
}

/// What a side does not allow: new TCP connections may be refused (docs/adr/0016).
fn denied(mut rules: Vec<Rule>, settings: &Settings) -> Object {
    if let Some(how) = settings.denied_tcp.refusal() {
        // What the kernel answers to a bridge bypasses NAT: the sender would not know the address.
        let bridged = vec![Match::Tcp, Match::FromBridge, Match::Rewritten];
        rules.extend([
            Rule::new(bridged, Vec::new(), Verdict::Drop),
            Rule::new(vec![Match::Tcp], Vec::new(), Verdict::Reject(how)),
        ]);
    }
    dropping(rules)
}

/// The set of protocols that have ports.
pub(super) fn ported() -> Name {
    "ported".into()
}

fn ported_set() -> Object {
    let elements = Protocol::ALL.map(|protocol| Element::member(Key::Protocol(protocol)));
    Object::set(Layer::Base, KeyType::Protocol, false, elements.into())
}

pub(super) fn ranges_set(family: Family, ranges: &[IpNet]) -> Object {
    let ranges = IpNet::aggregate(&ranges.to_vec());
    let of_family = ranges
        .iter()
        .filter(|range| Family::of(range.addr()) == family)
        .map(|range| Element::member(Key::Range(range.network(), range.broadcast())));
    Object::set(
        Layer::Base,
        KeyType::Range(family),
        false,
        of_family.collect(),
    )
}

fn counter(comment: &str) -> Object {
    Object {
        layer: Layer::Ends,
        comment: Some(comment.into()),
        body: Body::Counter(None),
    }
}

pub(super) fn chain(rules: Vec<Rule>) -> Object {
    Object::chain(Layer::Base, rules)
}

pub(super) fn hooked(hook: Hook, rules: Vec<Rule>) -> Object {
    Object {
        layer: Layer::Base,
        comment: None,
        body: Body::Chain {
            hook: Some(hook),
            rules,
        },
    }
}

pub(super) fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.into())
}
