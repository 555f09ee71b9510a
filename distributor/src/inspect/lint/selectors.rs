//! Selectors that select nothing, or pods that no policy can select.

use sidewall_policy::model::{NamespaceScope, NetworkPolicy, Peer, Phase, Pod, Selector};

use super::{Finding, Level, about, rules, some};
use crate::inspect::world::World;

pub(super) fn check(world: &World, policy: &NetworkPolicy, subjects: &[&Pod]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(host_network(world, policy));
    if subjects.is_empty() {
        findings.push(Finding {
            finding: format!(
                "it selects no pod of namespace {namespace}",
                namespace = policy.id.namespace
            ),
            consequence: "the policy isolates nothing until such a pod exists".to_owned(),
            remedy: "compare the labels with those of the pods: sidewall matrix lists them"
                .to_owned(),
            ..about(
                policy,
                Level::Warning,
                "selects-nothing",
                "spec.podSelector".to_owned(),
            )
        });
    }
    for place in rules::of(policy) {
        for (index, peer) in place.peers().iter().enumerate() {
            let Peer::Pods(peer) = peer else { continue };
            if rules::pods(world, policy, peer).next().is_some() {
                continue;
            }
            let nowhere = match &peer.namespaces {
                NamespaceScope::Own => false,
                NamespaceScope::Matching(selector) => {
                    let mut all = world.cluster.namespaces.values();
                    !all.any(|namespace| selector.matches(&namespace.labels))
                }
            };
            let finding = if nowhere {
                "no Namespace has such labels"
            } else {
                "no pod matches it"
            };
            findings.push(Finding {
                finding: finding.to_owned(),
                consequence: "this peer allows nobody until such a pod exists".to_owned(),
                remedy: if nowhere {
                    "namespaceSelector looks at the labels of the Namespace object; its name is \
                     in kubernetes.io/metadata.name"
                        .to_owned()
                } else {
                    "without namespaceSelector only pods of the policy's own namespace match"
                        .to_owned()
                },
                ..about(
                    policy,
                    Level::Warning,
                    "peer-matches-nothing",
                    format!("{}[{index}]", place.peers_field()),
                )
            });
        }
    }
    findings
}

/// Pods that share their node's network are not pods to NetworkPolicy (`semantics G11`).
fn host_network(world: &World, policy: &NetworkPolicy) -> Option<Finding> {
    let selected: Vec<&Pod> = world
        .cluster
        .pods
        .values()
        .filter(|pod| {
            pod.host_network
                && pod.phase != Phase::Terminal
                && pod.id.namespace == policy.id.namespace
                && policy.pod_selector.matches(&pod.labels)
        })
        .collect();
    // Who selects everything did not mean these in particular.
    let level = if policy.pod_selector == Selector::everything() {
        Level::Note
    } else {
        Level::Warning
    };
    (!selected.is_empty()).then(|| Finding {
        finding: format!(
            "it selects pods with hostNetwork: {}",
            some(selected.iter().copied())
        ),
        consequence: "the policy does not apply to them: their traffic is their node's".to_owned(),
        remedy: "protect them with a firewall on the node, or do without hostNetwork".to_owned(),
        ..about(policy, level, "host-network", "spec.podSelector".to_owned())
    })
}
