//! Items of `from` and `to` (`semantics 1C`, `1D`, `1K`).

use super::field::Path;
use super::{Findings, cidr, invalid, selector};
use crate::model::{IpBlock, NamespaceScope, Peer, PodPeer, Selector};
use crate::spec;

/// What becomes of a peer with any flaw.
const CLOSED: &str = "this peer matches nothing";

/// Reads one peer; `None` when it was refused and so matches nothing.
pub(super) fn read(raw: &spec::Peer, path: Path<'_>, findings: &mut Findings) -> Option<Peer> {
    let spec::Peer {
        pod_selector,
        namespace_selector,
        ip_block,
    } = raw;
    let before = findings.0.len();
    let mut labels = |raw: &Option<spec::LabelSelector>, field| {
        let raw = raw.as_ref()?;
        selector::read(raw, path.field(field), CLOSED, findings)
    };
    let pods = labels(pod_selector, "podSelector");
    let namespaces = labels(namespace_selector, "namespaceSelector");
    let has_selector = pod_selector.is_some() || namespace_selector.is_some();
    if findings.0.len() > before {
        return None;
    }

    match ip_block {
        Some(_) if has_selector => {
            let reason = "Forbidden: may not specify both ipBlock and another peer";
            findings.refuse(path, reason, CLOSED);
            None
        }
        Some(block) => ip_block_peer(block, path.field("ipBlock"), findings).map(Peer::Block),
        None if has_selector => Some(Peer::Pods(PodPeer {
            namespaces: namespaces.map_or(NamespaceScope::Own, NamespaceScope::Matching),
            pods: pods.unwrap_or_else(Selector::everything),
        })),
        None => {
            findings.refuse(path, "Required value: must specify a peer", CLOSED);
            None
        }
    }
}

/// Reads an ipBlock. One bad `except` spoils it whole: without that exception it would allow more
/// than its author meant.
fn ip_block_peer(raw: &spec::IpBlock, path: Path<'_>, findings: &mut Findings) -> Option<IpBlock> {
    let mut spoiled = false;
    let cidr = range(&raw.cidr, path.field("cidr"), findings);
    let excepts = path.field("except");
    let mut except = Vec::new();
    for (index, text) in raw.except.iter().flatten().enumerate() {
        let path = excepts.index(index);
        match (range(text, path, findings), cidr) {
            (Some(inner), Some(outer)) if !cidr::is_strict_subset(&inner, &outer) => {
                let reason = invalid(text, "must be a strict subset of cidr");
                findings.refuse(path, reason, CLOSED);
                spoiled = true;
            }
            (Some(inner), _) => except.push(inner),
            (None, _) => spoiled = true,
        }
    }
    match cidr {
        Some(cidr) if !spoiled => Some(IpBlock { cidr, except }),
        _ => None,
    }
}

fn range(text: &str, path: Path<'_>, findings: &mut Findings) -> Option<ipnet::IpNet> {
    let Some(read) = cidr::parse(text) else {
        let reason = if text.is_empty() {
            "Required value: must be a CIDR such as 10.9.8.0/24 or 2001:db8::/64".to_owned()
        } else {
            invalid(
                text,
                "must be a valid CIDR such as 10.9.8.0/24 or 2001:db8::/64",
            )
        };
        findings.refuse(path, reason, CLOSED);
        return None;
    };
    if let Some(why) = read.legacy {
        findings.legacy(path, invalid(text, why), format!("read as {}", read.net));
    }
    Some(read.net)
}
