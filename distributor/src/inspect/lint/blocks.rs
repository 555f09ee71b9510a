//! ipBlocks over addresses that are better named otherwise, or are never seen.

use std::net::IpAddr;

use sidewall_policy::model::{Direction, IpBlock, NetworkPolicy, Peer, Pod};

use super::{Finding, Level, about, rules, some};
use crate::inspect::world::World;

pub(super) fn check(world: &World, policy: &NetworkPolicy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for place in rules::of(policy) {
        for (index, peer) in place.peers().iter().enumerate() {
            let Peer::Block(block) = peer else { continue };
            let field = format!("{}[{index}].ipBlock", place.peers_field());
            findings.extend(over_pods(world, policy, block, field.clone()));
            if place.direction == Direction::Egress {
                findings.extend(over_services(world, policy, block, field));
            }
        }
    }
    findings
}

/// Addresses of pods come and go, and a block lets in whichever pod has them (`semantics C4`, `D4`).
fn over_pods(
    world: &World,
    policy: &NetworkPolicy,
    block: &IpBlock,
    field: String,
) -> Option<Finding> {
    let pods: Vec<&Pod> = world
        .pods()
        .filter(|pod| pod.ips.iter().any(|ip| holds(block, *ip)))
        .collect();
    if pods.is_empty() {
        return None;
    }
    // "Everywhere" is usually meant as it is written.
    let everywhere = block.cidr.prefix_len() == 0;
    let level = if everywhere {
        Level::Note
    } else {
        Level::Warning
    };
    Some(Finding {
        finding: format!("{} holds addresses of pods: {}", block.cidr, some(pods)),
        consequence: "it also allows pods, whichever has such an address at the moment".to_owned(),
        remedy: if everywhere {
            "name the range of pod addresses in except if only the outside world is meant"
        } else {
            "select pods by podSelector and namespaceSelector"
        }
        .to_owned(),
        ..about(policy, level, "block-over-pods", field)
    })
}

/// Policies judge the backend, not the Service's address (`semantics 1I`).
fn over_services(
    world: &World,
    policy: &NetworkPolicy,
    block: &IpBlock,
    field: String,
) -> Option<Finding> {
    if block.cidr.prefix_len() == 0 {
        return None;
    }
    let service = world
        .cluster
        .services
        .values()
        .find(|service| service.cluster_ips.iter().any(|ip| holds(block, *ip)))?;
    Some(Finding {
        finding: format!("{} holds the address of Service {}", block.cidr, service.id),
        consequence: "it does not allow that Service: its backends are what is judged".to_owned(),
        remedy: "select the pods behind the Service".to_owned(),
        ..about(policy, Level::Warning, "block-over-services", field)
    })
}

fn holds(block: &IpBlock, ip: IpAddr) -> bool {
    block.cidr.contains(&ip) && !block.except.iter().any(|except| except.contains(&ip))
}
