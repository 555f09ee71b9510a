//! Objects as `nft` reads them.

use std::fmt::{self, Display, Formatter, Write as _};

use sidewall_policy::model::Protocol;

use super::object::{
    Action, Body, Element, End, Family, Key, KeyType, Match, Object, Refusal, Rule, State, Verdict,
};

/// An object with its content, as it stands in a `table` block.
pub(super) fn declare(script: &mut String, name: &str, object: &Object) {
    let _ = writeln!(script, "  {} {name} {{", kind(object));
    match &object.body {
        Body::Counter(_) => comment(script, object),
        Body::Chain { hook, rules } => {
            if let Some(hook) = hook {
                let _ = writeln!(
                    script,
                    "    type filter hook {} priority {}; policy accept;",
                    hook.point, hook.priority
                );
            }
            comment(script, object);
            for rule in rules {
                let _ = writeln!(script, "    {rule}");
            }
        }
        Body::Set {
            key,
            is_map,
            elements,
        } => {
            let verdict = if *is_map { " : verdict" } else { "" };
            let _ = writeln!(script, "    type {}{verdict}", key.words().join(" . "));
            if key.is_interval() {
                script.push_str("    flags interval\n");
            }
            comment(script, object);
            if !elements.is_empty() {
                let _ = writeln!(script, "    elements = {{\n{}\n    }}", List(elements));
            }
        }
    }
    script.push_str("  }\n");
}

fn comment(script: &mut String, object: &Object) {
    if let Some(comment) = &object.comment {
        let _ = writeln!(script, "    comment \"{comment}\"");
    }
}

/// The word by which `nft` calls this kind of object.
pub(super) const fn kind(object: &Object) -> &'static str {
    match object.body {
        Body::Counter(_) => "counter",
        Body::Chain { .. } => "chain",
        Body::Set { is_map: true, .. } => "map",
        Body::Set { is_map: false, .. } => "set",
    }
}

/// Elements, one a line.
pub(super) struct List<'a>(pub &'a [Element]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, element) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ",\n" };
            write!(f, "{separator}      {element}")?;
        }
        Ok(())
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(comment) = &self.comment {
            write!(f, " comment \"{comment}\"")?;
        }
        match &self.goto {
            Some(chain) => write!(f, " : goto {chain}"),
            None => Ok(()),
        }
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Pair(source, destination) => write!(f, "{source} . {destination}"),
            Self::Range(first, last) if first == last => write!(f, "{first}"),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
            Self::Protocol(protocol) => f.write_str(word(protocol)),
            Self::Ports(protocol, low, high) if low == high => {
                write!(f, "{} . {low}", word(protocol))
            }
            Self::Ports(protocol, low, high) => write!(f, "{} . {low}-{high}", word(protocol)),
        }
    }
}

const fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

impl KeyType {
    /// The types that a key is made of.
    pub fn words(self) -> Vec<&'static str> {
        let address = |family| match family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        match self {
            Self::Address(family) | Self::Range(family) => vec![address(family)],
            Self::Pair(family) => vec![address(family); 2],
            Self::Protocol => vec!["inet_proto"],
            Self::Ports => vec!["inet_proto", "inet_service"],
        }
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        })
    }
}

impl Display for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "saddr",
            Self::Destination => "daddr",
        })
    }
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Related => "related",
            Self::Invalid => "invalid",
        })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let matches = self.matches.iter().map(ToString::to_string);
        let actions = self.actions.iter().map(ToString::to_string);
        let verdict = self.verdict.to_string();
        let words: Vec<String> = matches
            .chain(actions)
            .chain((!verdict.is_empty()).then_some(verdict))
            .collect();
        f.write_str(&words.join(" "))
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::State(states) => {
                let states: Vec<String> = states.iter().map(ToString::to_string).collect();
                write!(f, "ct state {}", states.join(","))
            }
            Self::Original => f.write_str("ct direction original"),
            Self::Reply => f.write_str("ct direction reply"),
            Self::Mark(mark) => write!(f, "meta mark & {mark:#x} == {mark:#x}"),
            Self::ConnectionMark(mark) => write!(f, "ct mark & {mark:#x} == {mark:#x}"),
            Self::TransparentSocket(mark) => {
                write!(
                    f,
                    "socket transparent 1 socket mark & {mark:#x} == {mark:#x}"
                )
            }
            Self::Loopback => f.write_str("iif \"lo\""),
            Self::FromBridge => f.write_str("meta iifkind \"bridge\""),
            Self::Rewritten => f.write_str("ct status dnat"),
            Self::Discovery => f.write_str(
                "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, \
                 nd-neighbor-advert, nd-redirect }",
            ),
            Self::NotSyn => f.write_str("tcp flags & (fin | syn | rst | ack) != syn"),
            Self::ToNode => f.write_str("fib daddr type local"),
            Self::In(end, family, set) => write!(f, "{family} {end} @{set}"),
            Self::Dialled(address) => write!(
                f,
                "ct original {} daddr {} ct original proto-dst {}",
                Family::of(address.ip()),
                address.ip(),
                address.port()
            ),
            Self::PairIn(family, set) => write!(f, "{family} saddr . {family} daddr @{set}"),
            Self::PortIn(set) => write!(f, "meta l4proto . th dport @{set}"),
            Self::ProtocolNotIn(set) => write!(f, "meta l4proto != @{set}"),
            Self::Limit { rate, burst } => {
                write!(f, "limit rate {rate}/second burst {burst} packets")
            }
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(counter) => write!(f, "counter name {counter}"),
            Self::Log { prefix, group } => write!(f, "log prefix \"{prefix}\" group {group}"),
            Self::Mark(mark) => write!(f, "meta mark set meta mark | {mark:#x}"),
            Self::MarkConnection(mark) => write!(f, "ct mark set ct mark | {mark:#x}"),
            Self::Zone(zone) => write!(f, "ct zone set {zone}"),
            Self::Untrack => f.write_str("notrack"),
            Self::Proxy(port) => write!(f, "tproxy to :{port}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => Ok(()),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reject(Refusal::Reset) => f.write_str("reject with tcp reset"),
            Self::Reject(Refusal::Prohibited) => {
                f.write_str("reject with icmpx type admin-prohibited")
            }
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Lookup(end, family, map) => write!(f, "{family} {end} vmap @{map}"),
        }
    }
}
