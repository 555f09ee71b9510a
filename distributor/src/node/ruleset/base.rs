//! The constant part of the table: what every packet meets before and behind the pods' own rules.

mod proxy;

use std::net::SocketAddr;

use ipnet::IpNet;
use sidewall_policy::model::{Direction, Protocol};

use super::object::{
    Action, Body, Element, End, Family, Hook, Key, KeyType, Layer, Match, Name, Object, Rule,
    State, Verdict,
};
use super::{Settings, names};
use crate::node::nflog::Prefix;

/// Marks packets to be delivered on this node, and connections that its Envoy took over. The
/// routing rule of the node plane goes by it.
pub const DELIVER: u32 = 0x1_0000;

/// Marks the node Envoy's own connections to servers. No routing rule may match it.
pub const UPSTREAM: u32 = 0x2_0000;

/// Marks connections that a change denies: nothing passes on them, either way.
pub const SILENCED: u32 = 0x4_0000;

/// Counts first packets that a side allows.
pub(super) const fn allowed(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress_allowed",
        Direction::Ingress => "ingress_allowed",
    }
}

/// Every named counter, with what it counts.
pub const COUNTERS: [(&str, &str); 9] = [
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

/// How many dropped packets are told to the log: in a second, and at once.
const LOG_RATE: u32 = 50;
const LOG_BURST: u32 = 100;

/// Every constant object by name.
pub(super) fn objects(settings: &Settings) -> Vec<(Name, Object)> {
    let mut objects = vec![
        ("prerouting".into(), prerouting(settings)),
        ("pods".into(), pods(settings)),
        ("stray_drop".into(), drop_chain("stray_denied", None)),
        ("silenced_drop".into(), drop_chain("silenced_denied", None)),
        (
            "unknown_drop".into(),
            drop_chain("unknown_denied", Some((Prefix::Unknown, settings))),
        ),
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
            drop_chain(counter, Some((prefix, settings))),
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
    rules.extend([
        Rule::always(Verdict::Jump(names::of_direction(Direction::Egress, ""))),
        Rule::new(vec![Match::ToNode], Vec::new(), Verdict::Accept),
        Rule::always(Verdict::Jump(names::of_direction(Direction::Ingress, ""))),
    ]);
    if settings.proxy_port.is_some() {
        rules.extend(proxy::handed_over());
    }
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
            vec![Action::Count(allowed(direction))],
            Verdict::Return,
        )],
    )
}

fn drop_chain(counter: &'static str, log: Option<(Prefix, &Settings)>) -> Object {
    let counted = Rule::new(Vec::new(), vec![Action::Count(counter)], Verdict::Continue);
    let logged = log.map(|(prefix, settings)| {
        let limit = Match::Limit {
            rate: LOG_RATE,
            burst: LOG_BURST,
        };
        let log = Action::Log {
            prefix: prefix.as_str(),
            group: settings.nflog_group,
        };
        Rule::new(vec![limit], vec![log], Verdict::Continue)
    });
    let rules = [Some(counted), logged, Some(Rule::always(Verdict::Drop))];
    Object::chain(Layer::Ends, rules.into_iter().flatten().collect())
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
        body: Body::Counter,
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
