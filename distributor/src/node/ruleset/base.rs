//! The constant part of the table: what every packet meets before and behind the pods' own rules.

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

/// The zone of connection tracking for the node Envoy's connections to pods: they carry the
/// client's address and a port that the client may be using itself.
const ZONE: u16 = 1;

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
        ("prerouting".into(), prerouting()),
        ("pods".into(), pods()),
        ("divert".into(), divert()),
        ("proxy".into(), proxy(settings.proxy_port)),
        ("zone_prerouting".into(), zone_prerouting()),
        ("zone_output".into(), zone_output()),
        ("mark_output".into(), mark_output()),
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
    for family in Family::ALL {
        for (name, ranges) in [
            ("pod_ranges", &settings.pod_cidrs),
            ("cluster_ranges", &settings.cluster_cidrs),
        ] {
            objects.push((names::of_family(name, family), ranges_set(family, ranges)));
        }
    }
    objects.extend(COUNTERS.map(|(name, comment)| (name.into(), counter(comment))));
    objects
}

/// Behind DNAT, so that addresses and ports are those of the pod that really answers.
fn prerouting() -> Object {
    let diverted = |way, mark| {
        Rule::new(
            vec![
                Match::Tcp,
                Match::State(&[State::Established]),
                way,
                Match::ConnectionMark(mark),
            ],
            Vec::new(),
            goto("divert"),
        )
    };
    let accepted = |matches| Rule::new(matches, Vec::new(), Verdict::Accept);
    let mut rules = vec![
        Rule::new(
            vec![Match::ConnectionMark(SILENCED)],
            Vec::new(),
            goto("silenced_drop"),
        ),
        diverted(Match::Reply, UPSTREAM),
        diverted(Match::Original, DELIVER),
        accepted(vec![Match::State(&[State::Established, State::Related])]),
        accepted(vec![Match::Loopback]),
        accepted(vec![Match::Discovery]),
    ];
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

/// First packets from or to pods of this node: both sides are judged, then the proxy takes its
/// share.
fn pods() -> Object {
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
        // While a bridge has a packet the kernel forgets which socket it was given to: it would be lost.
        // It has been judged.
        Rule::new(vec![Match::FromBridge], Vec::new(), Verdict::Accept),
    ]);
    for family in Family::ALL {
        let to_proxy = |end| {
            let proxied = Match::In(end, family, names::of_family("proxied", family));
            Rule::new(vec![Match::Tcp, proxied], Vec::new(), goto("proxy"))
        };
        // What goes to another pod, or to a port of another node, is the other node's to hand over:
        // were the source's node to answer, the client would be connected before the other side is
        // judged.
        let cluster = names::of_family("cluster_ranges", family);
        let to_cluster = Match::In(End::Destination, family, cluster);
        rules.extend([
            to_proxy(End::Destination),
            Rule::new(vec![to_cluster], Vec::new(), Verdict::Accept),
            to_proxy(End::Source),
        ]);
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

/// Delivers a packet to the node Envoy's socket instead of passing it on.
fn divert() -> Object {
    chain(vec![Rule::new(
        Vec::new(),
        vec![Action::Mark(DELIVER)],
        Verdict::Accept,
    )])
}

/// Hands a new connection to the node Envoy. While none listens the second rule is left without
/// its end, and the connection is closed.
fn proxy(port: u16) -> Object {
    chain(vec![
        Rule::new(
            Vec::new(),
            vec![Action::MarkConnection(DELIVER), Action::Mark(DELIVER)],
            Verdict::Continue,
        ),
        Rule::new(
            vec![Match::Tcp],
            vec![Action::Proxy(port), Action::Count("proxied")],
            Verdict::Accept,
        ),
        Rule::new(
            Vec::new(),
            vec![Action::Count("proxy_absent")],
            Verdict::Drop,
        ),
    ])
}

/// Answers to the node Envoy's connections, found by its socket: the condition on addresses is
/// that of [`zone_output`], seen from the other end.
fn zone_prerouting() -> Object {
    let rule = |family| {
        let cluster = names::of_family("cluster_ranges", family);
        Rule::new(
            vec![
                Match::Tcp,
                Match::In(End::Source, family, cluster),
                Match::TransparentSocket(UPSTREAM),
            ],
            vec![Action::Zone(ZONE)],
            Verdict::Continue,
        )
    };
    hooked(raw("prerouting"), Family::ALL.map(rule).into())
}

/// The node Envoy's connections to pods.
fn zone_output() -> Object {
    let rule = |family| {
        let cluster = names::of_family("cluster_ranges", family);
        Rule::new(
            vec![
                Match::Tcp,
                Match::Mark(UPSTREAM),
                Match::In(End::Destination, family, cluster),
            ],
            vec![Action::Zone(ZONE)],
            Verdict::Continue,
        )
    };
    hooked(raw("output"), Family::ALL.map(rule).into())
}

/// Remembers the node Envoy's connections, so that answers to them are diverted.
fn mark_output() -> Object {
    let point = Hook {
        point: "output",
        priority: "mangle",
        number: -150,
    };
    let rule = Rule::new(
        vec![Match::Tcp, Match::Mark(UPSTREAM)],
        vec![Action::MarkConnection(UPSTREAM)],
        Verdict::Continue,
    );
    hooked(point, vec![rule])
}

/// The set of protocols that have ports.
pub(super) fn ported() -> Name {
    "ported".into()
}

fn ported_set() -> Object {
    let elements = Protocol::ALL.map(|protocol| Element::member(Key::Protocol(protocol)));
    Object::set(Layer::Base, KeyType::Protocol, false, elements.into())
}

fn ranges_set(family: Family, ranges: &[IpNet]) -> Object {
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

fn chain(rules: Vec<Rule>) -> Object {
    Object::chain(Layer::Base, rules)
}

fn hooked(hook: Hook, rules: Vec<Rule>) -> Object {
    Object {
        layer: Layer::Base,
        comment: None,
        body: Body::Chain {
            hook: Some(hook),
            rules,
        },
    }
}

const fn raw(point: &'static str) -> Hook {
    Hook {
        point,
        priority: "raw",
        number: -300,
    }
}

fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.into())
}
