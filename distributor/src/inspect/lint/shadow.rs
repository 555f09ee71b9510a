//! Rules and policies that add nothing to others.

use sidewall_policy::model::{
    Cluster, Direction, IpBlock, NamespaceScope, NetworkPolicy, Peer, Peers, PodPeer, PortMatch,
    PortRange, Ports, Rule, Selector,
};

use super::rules::{self, Place};
use super::{Finding, Level, about};

/// Rules that another rule of the same policy makes superfluous.
pub(super) fn within(policy: &NetworkPolicy) -> Vec<Finding> {
    let all: Vec<Place<'_>> = rules::of(policy).collect();
    let mut findings = Vec::new();
    for place in &all {
        let stronger = all.iter().find(|other| {
            other.direction == place.direction
                && other.rule.index != place.rule.index
                && covers(other.rule, place.rule)
                // Of two that are equal the later one is superfluous.
                && (other.rule.index < place.rule.index || !covers(place.rule, other.rule))
        });
        if let Some(stronger) = stronger {
            let equal = covers(place.rule, stronger.rule);
            let word = if equal { "the same as" } else { "covered by" };
            findings.push(Finding {
                finding: format!("the rule is {word} {}", stronger.field()),
                consequence: "it allows nothing that is not allowed anyway".to_owned(),
                remedy: "delete it, or check whether the other rule is wider than it should be"
                    .to_owned(),
                ..about(policy, Level::Note, "shadowed-rule", place.field())
            });
        }
    }
    findings
}

/// Policies of one namespace that say the same.
pub(super) fn between(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    for policy in cluster.policies.values() {
        let twin = cluster.policies.values().find(|other| {
            other.id < policy.id
                && other.id.namespace == policy.id.namespace
                && other.pod_selector == policy.pod_selector
                && other.mode == policy.mode
                && [Direction::Ingress, Direction::Egress]
                    .into_iter()
                    .all(|direction| alike(other.rules(direction), policy.rules(direction)))
        });
        if let Some(twin) = twin {
            findings.push(Finding {
                finding: format!("the policy says the same as {}", twin.id),
                consequence: "either of them can be deleted without any effect".to_owned(),
                remedy: "keep one of them".to_owned(),
                ..about(policy, Level::Note, "duplicate-policy", "spec".to_owned())
            });
        }
    }
    findings
}

fn alike(a: Option<&[Rule]>, b: Option<&[Rule]>) -> bool {
    let within = |these: &[Rule], those: &[Rule]| {
        these
            .iter()
            .all(|rule| those.iter().any(|other| covers(other, rule)))
    };
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => within(a, b) && within(b, a),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether `wide` allows everything that `narrow` does, whatever the cluster.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let peers = match (&wide.peers, &narrow.peers) {
        (Peers::Any, _) => true,
        (Peers::Of(_), Peers::Any) => false,
        (Peers::Of(wide), Peers::Of(narrow)) => narrow
            .iter()
            .all(|narrow| wide.iter().any(|wide| covers_peer(wide, narrow))),
    };
    let ports = match (&wide.ports, &narrow.ports) {
        (Ports::Any, _) => true,
        (Ports::Of(_), Ports::Any) => false,
        (Ports::Of(wide), Ports::Of(narrow)) => narrow
            .iter()
            .all(|narrow| wide.iter().any(|wide| covers_port(wide, narrow))),
    };
    peers && ports
}

fn covers_peer(wide: &Peer, narrow: &Peer) -> bool {
    match (wide, narrow) {
        (Peer::Pods(wide), Peer::Pods(narrow)) => covers_pods(wide, narrow),
        (Peer::Block(wide), Peer::Block(narrow)) => covers_block(wide, narrow),
        (Peer::Pods(_), Peer::Block(_)) | (Peer::Block(_), Peer::Pods(_)) => false,
    }
}

fn covers_pods(wide: &PodPeer, narrow: &PodPeer) -> bool {
    let namespaces = match (&wide.namespaces, &narrow.namespaces) {
        (NamespaceScope::Own, NamespaceScope::Own) => true,
        (NamespaceScope::Matching(wide), NamespaceScope::Matching(narrow)) => {
            covers_labels(wide, narrow)
        }
        // Every namespace holds the policy's own.
        (NamespaceScope::Matching(wide), NamespaceScope::Own) => *wide == Selector::everything(),
        (NamespaceScope::Own, NamespaceScope::Matching(_)) => false,
    };
    namespaces && covers_labels(&wide.pods, &narrow.pods)
}

/// More requirements select less.
fn covers_labels(wide: &Selector, narrow: &Selector) -> bool {
    wide.requirements()
        .iter()
        .all(|requirement| narrow.requirements().contains(requirement))
}

fn covers_block(wide: &IpBlock, narrow: &IpBlock) -> bool {
    let harmless = |except: &ipnet::IpNet| {
        let apart = !except.contains(&narrow.cidr) && !narrow.cidr.contains(except);
        apart || narrow.except.iter().any(|same| same.contains(except))
    };
    wide.cidr.contains(&narrow.cidr) && wide.except.iter().all(harmless)
}

fn covers_port(wide: &PortMatch, narrow: &PortMatch) -> bool {
    wide.protocol == narrow.protocol
        && match (&wide.port, &narrow.port) {
            (PortRange::All, _) => true,
            (
                PortRange::Numbers { low, high },
                PortRange::Numbers {
                    low: first,
                    high: last,
                },
            ) => low <= first && last <= high,
            (wide, narrow) => wide == narrow,
        }
}
