//! Redirection: the rules that hand TCP of pods that asked for it to the node Envoy. A node without one has
//! none of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::object::{Action, End, Family, Hook, Match, Name, Object, Rule, State, Verdict};
use super::super::{Settings, names};
use super::{DELIVER, UPSTREAM, chain, goto, hooked, ranges_set, raw};

/// The zone of connection tracking for the node Envoy's connections to pods: they carry the
/// client's address and a port that the client may be using itself.
const ZONE: u16 = 1;

/// Link-local ranges (RFC 3927, RFC 4291 section 2.5.6): what is there is reached from the pod's own link,
/// such as a cloud's metadata service, and answers to a hop limit of 1.
const LINK_LOCAL: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
    )),
];

/// The chains and sets of redirection to an Envoy at this port, by name.
pub(super) fn objects(port: u16, settings: &Settings) -> Vec<(Name, Object)> {
    let mut objects: Vec<(Name, Object)> = vec![
        ("divert".into(), divert()),
        ("hand_over".into(), chain(hand_over())),
        ("proxy".into(), proxy(port)),
        ("zone_prerouting".into(), zone_prerouting()),
        ("zone_output".into(), zone_output()),
        ("mark_output".into(), mark_output()),
    ];
    let link_local = LINK_LOCAL.to_vec();
    for family in Family::ALL {
        for (name, ranges) in [
            ("cluster_ranges", &settings.cluster_cidrs),
            ("link_local", &link_local),
        ] {
            objects.push((names::of_family(name, family), ranges_set(family, ranges)));
        }
    }
    objects
}

/// Packets of connections that the node Envoy carries go to its sockets.
pub(super) fn diverted() -> [Rule; 2] {
    [(Match::Reply, UPSTREAM), (Match::Original, DELIVER)].map(|(way, mark)| {
        let matches = vec![
            Match::Tcp,
            Match::State(&[State::Established]),
            way,
            Match::ConnectionMark(mark),
        ];
        Rule::new(matches, Vec::new(), goto("divert"))
    })
}

/// First packets that both sides allow: which of them the node Envoy takes.
fn hand_over() -> Vec<Rule> {
    // A bridge drops the socket that tproxy assigned, and the packet would be lost (docs/adr/0014).
    let mut rules = vec![Rule::new(
        vec![Match::FromBridge],
        Vec::new(),
        Verdict::Return,
    )];
    for family in Family::ALL {
        let to_proxy = |end| {
            let proxied = Match::In(end, family, names::of_family("proxied", family));
            Rule::new(vec![Match::Tcp, proxied], Vec::new(), goto("proxy"))
        };
        let past_proxy = |ranges| {
            let ranges = names::of_family(ranges, family);
            let to_ranges = Match::In(End::Destination, family, ranges);
            Rule::new(vec![to_ranges], Vec::new(), Verdict::Return)
        };
        rules.extend([
            to_proxy(End::Destination),
            // The destination's node hands over what goes to another pod, or to a port of another node. If the
            // source's node did, its Envoy would connect the client before the other side has judged.
            past_proxy("cluster_ranges"),
            past_proxy("link_local"),
            // What still goes to a Service behind DNAT has no endpoint, or a port that the Service lacks: kube-proxy
            // answers it.
            past_proxy("services"),
            to_proxy(End::Source),
        ]);
    }
    rules
}

/// Delivers a packet to the node Envoy's socket instead of passing it on.
fn divert() -> Object {
    chain(vec![Rule::new(
        Vec::new(),
        vec![Action::Mark(DELIVER)],
        Verdict::Accept,
    )])
}

/// Hands a new connection to the node Envoy. While no socket listens there, the second rule does not match,
/// and the third drops the packet.
fn proxy(port: u16) -> Object {
    chain(vec![
        Rule::new(
            Vec::new(),
            vec![Action::MarkConnection(DELIVER), Action::Mark(DELIVER)],
            Verdict::Continue,
        ),
        Rule::new(
            vec![Match::Tcp],
            vec![Action::Proxy(port), Action::Count("proxied".into())],
            Verdict::Accept,
        ),
        Rule::new(
            Vec::new(),
            vec![Action::Count("proxy_absent".into())],
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
