//! A packet's way through the table, as the kernel would walk it.

use std::net::IpAddr;

use sidewall_policy::model::Protocol;

use super::kernel::Objects;
use crate::node::ruleset::object::{
    Action, Body, Element, End, Family, Key, Match, Rule, State, Verdict,
};

/// What the rules look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub port: u16,
    pub state: State,
    pub is_reply: bool,
    pub is_syn: bool,
    pub connection_mark: u32,
    pub from_loopback: bool,
    pub from_bridge: bool,
    pub to_node: bool,
    pub is_discovery: bool,
    pub is_proxy_alive: bool,
}

impl Packet {
    /// The first of a connection.
    pub fn first(source: IpAddr, destination: IpAddr, protocol: u8, port: u16) -> Self {
        Self {
            source,
            destination,
            protocol,
            port,
            state: State::New,
            is_reply: false,
            is_syn: true,
            connection_mark: 0,
            from_loopback: false,
            from_bridge: false,
            to_node: false,
            is_discovery: false,
            is_proxy_alive: true,
        }
    }
}

/// Where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    /// Passed on to a socket of this node, with this mark.
    Delivered(u32),
    Dropped,
}

/// How a chain ended.
enum Flow {
    Continued,
    Ended(Fate),
}

/// Walks a base chain. `seen` is given every counter that counts.
pub(super) fn walk(
    objects: &Objects,
    chain: &str,
    packet: &Packet,
    seen: &mut Vec<String>,
) -> Fate {
    let mut walk = Walk {
        objects,
        packet,
        seen,
        mark: 0,
    };
    match walk.chain(chain) {
        Flow::Ended(Fate::Passed) | Flow::Continued if walk.mark != 0 => Fate::Delivered(walk.mark),
        Flow::Ended(end) => end,
        Flow::Continued => Fate::Passed,
    }
}

struct Walk<'a> {
    objects: &'a Objects,
    packet: &'a Packet,
    seen: &'a mut Vec<String>,
    mark: u32,
}

impl Walk<'_> {
    fn chain(&mut self, name: &str) -> Flow {
        let Body::Chain { rules, .. } = &self.objects[name].body else {
            panic!("{name} is no chain");
        };
        for rule in rules {
            if !rule.matches.iter().all(|each| self.holds(each)) || !self.act(rule) {
                continue;
            }
            match &rule.verdict {
                Verdict::Continue => {}
                Verdict::Accept => return Flow::Ended(Fate::Passed),
                Verdict::Drop | Verdict::Reject(_) => return Flow::Ended(Fate::Dropped),
                Verdict::Return => return Flow::Continued,
                Verdict::Goto(chain) => return self.chain(chain),
                Verdict::Jump(chain) => match self.chain(chain) {
                    Flow::Continued => {}
                    ended => return ended,
                },
                Verdict::Lookup(end, family, map) => {
                    let found = self.address(*end, *family).and_then(|address| {
                        self.find(map, |key| covers(key, address))?.goto.clone()
                    });
                    if let Some(chain) = found {
                        return self.chain(&chain);
                    }
                }
            }
        }
        Flow::Continued
    }

    /// Acts; false where the rule ends early.
    fn act(&mut self, rule: &Rule) -> bool {
        rule.actions.iter().all(|action| {
            match action {
                Action::Count(counter) => self.seen.push(counter.to_string()),
                Action::Mark(mark) => self.mark |= mark,
                Action::Proxy(_) => return self.packet.is_proxy_alive,
                Action::Log { .. }
                | Action::MarkConnection(_)
                | Action::Zone(_)
                | Action::Untrack => {}
            }
            true
        })
    }

    fn holds(&self, condition: &Match) -> bool {
        let packet = self.packet;
        match condition {
            Match::Tcp => packet.protocol == 6,
            Match::State(states) => states.contains(&packet.state),
            Match::Original => !packet.is_reply,
            Match::Reply => packet.is_reply,
            Match::ConnectionMark(mark) => packet.connection_mark & mark == *mark,
            Match::Loopback => packet.from_loopback,
            Match::FromBridge => packet.from_bridge,
            Match::Discovery => packet.is_discovery,
            Match::NotSyn => packet.protocol == 6 && !packet.is_syn,
            Match::ToNode => packet.to_node,
            Match::In(end, family, set) => self
                .address(*end, *family)
                .is_some_and(|address| self.find(set, |key| covers(key, address)).is_some()),
            // These packets' destinations were never rewritten.
            Match::Dialled(address) => {
                (packet.destination, packet.port) == (address.ip(), address.port())
            }
            Match::PairIn(family, set) => {
                let pair = self
                    .address(End::Source, *family)
                    .zip(self.address(End::Destination, *family));
                pair.is_some_and(|(source, destination)| {
                    let wanted = Key::Pair(source, destination);
                    self.find(set, |key| *key == wanted).is_some()
                })
            }
            Match::PortIn(set) => self
                .find(set, |key| {
                    matches!(key, Key::Ports(protocol, low, high)
                        if protocol.number() == packet.protocol
                            && (*low..=*high).contains(&packet.port))
                })
                .is_some(),
            Match::ProtocolNotIn(set) => {
                let number = |key: &Key| match key {
                    Key::Protocol(protocol) => Protocol::number(*protocol),
                    _ => 0,
                };
                self.find(set, |key| number(key) == packet.protocol)
                    .is_none()
            }
            Match::Limit { .. } => true,
            Match::Mark(_) | Match::TransparentSocket(_) | Match::Rewritten => false,
        }
    }

    fn address(&self, end: End, family: Family) -> Option<IpAddr> {
        let address = match end {
            End::Source => self.packet.source,
            End::Destination => self.packet.destination,
        };
        (Family::of(address) == family).then_some(address)
    }

    fn find(&self, set: &str, is_it: impl Fn(&Key) -> bool) -> Option<&Element> {
        let Body::Set { elements, .. } = &self.objects[set].body else {
            panic!("{set} is no set");
        };
        elements.iter().find(|element| is_it(&element.key))
    }
}

fn covers(key: &Key, address: IpAddr) -> bool {
    match *key {
        Key::Address(each) => each == address,
        Key::Range(first, last) => first <= address && address <= last,
        _ => false,
    }
}
