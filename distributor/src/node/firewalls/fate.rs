//! What the rules of others do to a redirected connection.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Finding;
use super::listing::{Base, Chains, Hook, Listing};
use crate::node::ruleset::DELIVER;

/// Chains of kube-proxy and the kubelet in iptables. They drop invalid packets and what goes to Services without an
/// endpoint; redirection leaves both to them.
const OF_KUBERNETES: [&str; 6] = [
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FIREWALL",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SERVICES",
];

/// What an operator who redirects pods has to know about these rules.
pub(super) fn findings(listing: &Listing) -> impl Iterator<Item = Finding> {
    listing.bases.iter().filter_map(|base| {
        let none = Chains::new();
        let chains = listing.table(base).unwrap_or(&none);
        match base.hook {
            Hook::Forward => may_drop(base, chains).then(|| Finding::Bypassed(base.chain.clone())),
            Hook::Input => stops(base, chains).then(|| Finding::Blocks(base.chain.clone())),
        }
    })
}

/// What a statement does to a packet that meets it.
enum Verdict<'a> {
    Accept,
    Drop,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

/// Whether a new TCP connection may be dropped here. The agent does not list elements of named maps, so a map of verdicts may
/// drop.
fn may_drop(base: &Base, chains: &Chains) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![base.chain.name.as_str()];
    while let Some(name) = open.pop() {
        if OF_KUBERNETES.contains(&name) || !seen.insert(name) {
            continue;
        }
        let rules = chains.get(name).into_iter().flatten();
        let rules = rules.filter(|rule| !rule.iter().any(is_about_others));
        for statement in rules.flatten() {
            if let Some(map) = statement.get("vmap") {
                let Some(elements) = map.pointer("/data/set").and_then(Value::as_array) else {
                    return true;
                };
                for element in elements.iter().filter_map(|it| it.get(1)) {
                    match verdict(element) {
                        Some(Verdict::Drop) => return true,
                        Some(Verdict::Jump(to) | Verdict::Goto(to)) => open.push(to),
                        _ => {}
                    }
                }
            }
            match verdict(statement) {
                Some(Verdict::Drop) => return true,
                Some(Verdict::Jump(to) | Verdict::Goto(to)) => open.push(to),
                _ => {}
            }
        }
    }
    base.drops_by_policy
}

/// Whether a redirected packet is dropped here, as far as the rules tell: a condition on anything but its mark, its
/// protocol and its new connection counts as not met.
fn stops(base: &Base, chains: &Chains) -> bool {
    match walk(&base.chain.name, chains, MAX_DEPTH) {
        Some(is_dropped) => is_dropped,
        None => base.drops_by_policy,
    }
}

/// The kernel allows 16 nested chains.
const MAX_DEPTH: usize = 16;

/// Whether this chain drops the packet; `None` if the packet returns to the calling chain.
fn walk(name: &str, chains: &Chains, depth: usize) -> Option<bool> {
    let depth = depth.checked_sub(1)?;
    for rule in chains.get(name).into_iter().flatten() {
        if !rule.iter().all(is_met) {
            continue;
        }
        match rule.iter().find_map(verdict) {
            Some(Verdict::Accept) => return Some(false),
            Some(Verdict::Drop) => return Some(true),
            Some(Verdict::Return) => return None,
            Some(Verdict::Goto(to)) => return walk(to, chains, depth),
            Some(Verdict::Jump(to)) => {
                let fate = walk(to, chains, depth);
                if fate.is_some() {
                    return fate;
                }
            }
            None => {}
        }
    }
    None
}

/// Whether a statement is no condition, or one that every redirected first packet meets.
fn is_met(statement: &Value) -> bool {
    if let Some(condition) = statement.get("match") {
        return meets(condition).unwrap_or(false);
    }
    // `nft` does not print the conditions of iptables matches. A comment has no condition.
    match (statement.get("xt"), statement.get("vmap")) {
        (Some(xt), _) => {
            xt.get("type").and_then(Value::as_str) == Some("target")
                || xt.get("name").and_then(Value::as_str) == Some("comment")
        }
        (_, Some(_)) => false,
        _ => true,
    }
}

/// Whether a statement is a condition that the first packet of a TCP connection does not meet.
fn is_about_others(statement: &Value) -> bool {
    let condition = statement.get("match");
    condition.is_some_and(|it| mark_of(it).is_none() && meets(it) == Some(false))
}

fn mark_of(condition: &Value) -> Option<u64> {
    mark(condition.get("left")?)
}

fn meets(condition: &Value) -> Option<bool> {
    let left = condition.get("left")?;
    let right = condition.get("right")?;
    let is_equal = if let Some(mark) = mark(left) {
        match right {
            Value::Object(_) => right.get("set")?.as_array()?.iter().any(|it| it == mark),
            value => value == mark,
        }
    } else if let Some(protocol) = left.pointer("/payload/protocol") {
        // `udp dport 53` has no other condition on the protocol.
        let is_other = ["udp", "icmp", "icmpv6", "sctp"]
            .iter()
            .any(|it| protocol == it);
        return is_other.then_some(false);
    } else if left.pointer("/meta/key").and_then(Value::as_str) == Some("l4proto") {
        one_of(right, "tcp")
    } else if left.pointer("/ct/key").and_then(Value::as_str) == Some("state") {
        one_of(right, "new")
    } else {
        return None;
    };
    match condition.get("op").and_then(Value::as_str)? {
        "==" | "in" => Some(is_equal),
        "!=" => Some(!is_equal),
        _ => None,
    }
}

/// The mark of a redirected packet, or those bits of it that a condition is about.
fn mark(left: &Value) -> Option<u64> {
    let key = |value: &Value| value.pointer("/meta/key").and_then(Value::as_str) == Some("mark");
    if key(left) {
        return Some(u64::from(DELIVER));
    }
    let [value, mask] = left.get("&")?.as_array()?.as_slice() else {
        return None;
    };
    key(value).then_some(u64::from(DELIVER) & mask.as_u64()?)
}

/// Whether a word stands on the right of a condition: alone, in a list or in a set.
fn one_of(right: &Value, word: &str) -> bool {
    let list = right.get("set").unwrap_or(right);
    match list {
        Value::Array(values) => values.iter().any(|it| it == word),
        value => value == word,
    }
}

fn verdict(statement: &Value) -> Option<Verdict<'_>> {
    let target = |of: &str| statement.get(of)?.get("target")?.as_str();
    let has = |of: &str| statement.get(of).is_some();
    if has("accept") {
        return Some(Verdict::Accept);
    }
    if has("return") {
        return Some(Verdict::Return);
    }
    if has("drop") || has("reject") || is_target(statement, "REJECT") {
        return Some(Verdict::Drop);
    }
    let jump = target("jump").map(Verdict::Jump);
    jump.or_else(|| target("goto").map(Verdict::Goto))
}

fn is_target(statement: &Value, name: &str) -> bool {
    let text = |path| statement.pointer(path).and_then(Value::as_str);
    text("/xt/type") == Some("target") && text("/xt/name") == Some(name)
}
