//! Rules and policies that add nothing to others.

use sidewall_policy::model::{
    Cluster, Direction, IpBlock, Mode, NamespaceScope, NetworkPolicy, Peer, Peers, PodPeer,
    PortMatch, PortRange, Ports, Rule, Selector,
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

/// Policies of one namespace that say the same, and rules that another policy makes superfluous.
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
        if twin.is_none() {
            let others = cluster.policies.values();
            let others: Vec<_> = others.filter(|other| applies_with(other, policy)).collect();
            findings
                .extend(rules::of(policy).filter_map(|place| elsewhere(policy, place, &others)));
        }
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

/// Whether one policy is in force wherever the other is.
fn applies_with(other: &NetworkPolicy, policy: &NetworkPolicy) -> bool {
    other.id != policy.id
        && other.id.namespace == policy.id.namespace
        && (other.mode == Mode::Enforce || policy.mode == Mode::Audit)
        && covers_labels(&other.pod_selector, &policy.pod_selector)
}

/// A rule that a rule of one of these policies makes superfluous.
fn elsewhere(
    policy: &NetworkPolicy,
    place: Place<'_>,
    others: &[&NetworkPolicy],
) -> Option<Finding> {
    let (other, stronger) = others
        .iter()
        .flat_map(|other| rules::of(other).map(move |stronger| (*other, stronger)))
        .find(|(other, stronger)| {
            stronger.direction == place.direction
                && covers(stronger.rule, place.rule)
                // Of two that cover each other the later policy's is superfluous.
                && (other.id < policy.id
                    || !covers(place.rule, stronger.rule)
                    || !applies_with(policy, other))
        })?;
    Some(Finding {
        finding: format!(
            "the rule is covered by {} of NetworkPolicy {}, which selects these pods as well",
            stronger.field(),
            other.id
        ),
        consequence: "it allows nothing that is not allowed anyway".to_owned(),
        remedy: "delete it, or check whether the other policy is wider than it should be"
            .to_owned(),
        ..about(policy, Level::Note, "shadowed-rule", place.field())
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Event, Object, manifests};

    /// What is found in policies of one namespace, as `policy field: finding`.
    fn found(policies: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (place, (head, spec)) in policies.iter().enumerate() {
            let text = format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                 metadata: {{namespace: x, {head}}}\nspec: {spec}\n"
            );
            std::fs::write(folder.path().join(format!("{place}.yaml")), text).unwrap();
        }
        let mut cluster = Cluster::default();
        for event in manifests::read(folder.path()) {
            if let Event::Apply(Object::NetworkPolicy(policy)) = event {
                cluster.policies.insert(policy.id.clone(), policy);
            }
        }
        assert_eq!(cluster.policies.len(), policies.len());
        between(&cluster)
            .into_iter()
            .map(|it| format!("{} {}: {}", it.object, it.field, it.finding))
            .collect()
    }

    const WIDE: &str = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}";
    const NARROW: &str = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}]}]}";
    const AUDIT: &str = "annotations: {sidewall.dev/mode: audit}";

    #[test]
    fn a_rule_that_a_wider_policy_covers_is_told_with_its_place() {
        let told = "NetworkPolicy x/narrow spec.ingress[0]: the rule is covered by spec.ingress[0] of NetworkPolicy x/wide, which selects these pods as well";
        assert_eq!(
            found(&[("name: wide", WIDE), ("name: narrow", NARROW)]),
            [told]
        );
    }

    #[test]
    fn what_is_not_in_force_everywhere_covers_nothing() {
        // An audited policy allows nothing that is enforced; the other way round it adds nothing.
        let audited = |name: &str| format!("name: {name}, {AUDIT}");
        let none: [&str; 0] = [];
        assert_eq!(
            found(&[(&audited("wide"), WIDE), ("name: narrow", NARROW)]),
            none
        );
        assert_eq!(
            found(&[("name: wide", WIDE), (&audited("narrow"), NARROW)]).len(),
            1
        );
        // Other pods, or another direction.
        let others = WIDE.replace(
            "podSelector: {}, i",
            "podSelector: {matchLabels: {app: db}}, i",
        );
        assert_eq!(
            found(&[("name: wide", &others), ("name: narrow", NARROW)]),
            none
        );
        let egress = "{podSelector: {}, policyTypes: [Egress], egress: [{}]}";
        assert_eq!(
            found(&[("name: wide", egress), ("name: narrow", NARROW)]),
            none
        );
    }

    #[test]
    fn of_two_that_say_the_same_one_is_told() {
        let both = [("name: a", WIDE), ("name: b", WIDE)];
        let told = found(&both);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("NetworkPolicy x/b spec: the policy says the same"));
        let more = WIDE.replace("ingress: [", "ingress: [{ports: [{port: 1}]}, ");
        let told = found(&[("name: a", WIDE), ("name: b", &more)]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("NetworkPolicy x/b spec.ingress[1]"),
            "{told:?}"
        );
    }
}
