//! Pods that may not ask for names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sidewall_policy::model::{
    Direction, NamespacedName, NetworkPolicy, Pod, PortMatch, PortRange, Ports, Protocol,
};

use super::{Finding, Level, about, some};
use crate::inspect::world::{Cell, World};

const DNS: u16 = 53;

/// One finding for each set of policies under which pods cannot reach DNS.
pub(super) fn check(world: &World) -> Vec<Finding> {
    let servers = servers(world);
    let mut blocked: BTreeMap<Vec<&NamespacedName>, Vec<&Pod>> = BTreeMap::new();
    for pod in world.pods() {
        let isolating: Vec<&NetworkPolicy> = world
            .cluster
            .policies
            .values()
            .filter(|policy| {
                policy.egress.is_some()
                    && policy.id.namespace == pod.id.namespace
                    && policy.pod_selector.matches(&pod.labels)
            })
            .collect();
        if isolating.is_empty() || may_ask(world, pod, &isolating, &servers) {
            continue;
        }
        let names = isolating.iter().map(|policy| &policy.id).collect();
        blocked.entry(names).or_default().push(pod);
    }
    let finding = |(policies, pods): (Vec<&NamespacedName>, Vec<&Pod>)| {
        let policy = world.cluster.policies.get(*policies.first()?)?;
        let mut all = policies
            .iter()
            .filter_map(|id| world.cluster.policies.get(*id));
        // Who allows nothing at all seems to mean it.
        let level = if all.all(|policy| policy.egress.as_ref().is_some_and(Vec::is_empty)) {
            Level::Note
        } else {
            Level::Warning
        };
        let others = match policies.len() - 1 {
            0 => String::new(),
            more => format!(" together with {more} more"),
        };
        Some(Finding {
            finding: format!("it isolates {}{others}, and no rule allows DNS", some(pods)),
            consequence: "these pods cannot resolve any name".to_owned(),
            remedy: "allow egress to the DNS pods on UDP and TCP, by the port they listen on"
                .to_owned(),
            ..about(policy, level, "dns-blocked", "spec.egress".to_owned())
        })
    };
    blocked.into_iter().filter_map(finding).collect()
}

/// The backends of the cluster's DNS, where its manifests are among these: what is judged is the
/// port behind the Service, which need not be 53 (`semantics E19`).
fn servers(world: &World) -> Vec<(Protocol, IpAddr, u16)> {
    let dns = NamespacedName::new("kube-system", "kube-dns");
    let ports = world.cluster.services.get(&dns).map(|dns| &dns.ports);
    let backends = |port: &sidewall_policy::model::ServicePort| {
        let protocol = port.protocol;
        let all = port.backends.clone().into_iter();
        let of_dns = port.port == DNS;
        all.filter(move |_| of_dns)
            .map(move |backend| (protocol, backend.ip, backend.port))
    };
    ports.into_iter().flatten().flat_map(backends).collect()
}

/// Whether a pod reaches a server by UDP; without known servers, whether any rule is about port 53.
fn may_ask(
    world: &World,
    pod: &Pod,
    isolating: &[&NetworkPolicy],
    servers: &[(Protocol, IpAddr, u16)],
) -> bool {
    let mut udp = servers
        .iter()
        .filter(|(protocol, ..)| *protocol == Protocol::Udp)
        .peekable();
    if udp.peek().is_some() {
        return udp.any(|(protocol, server, port)| {
            let source = pod.ips.iter().find(|ip| ip.is_ipv4() == server.is_ipv4());
            source.is_some_and(|source| {
                let cell = world.cell(*source, *server, *protocol, *port);
                matches!(cell, Cell::Allowed | Cell::Ingress)
            })
        });
    }
    let rules = isolating
        .iter()
        .flat_map(|policy| policy.rules(Direction::Egress).unwrap_or_default());
    rules.into_iter().any(|rule| match &rule.ports {
        Ports::Any => true,
        Ports::Of(items) => items.iter().any(is_dns),
    })
}

fn is_dns(port: &PortMatch) -> bool {
    port.protocol == Protocol::Udp
        && match &port.port {
            PortRange::All => true,
            PortRange::Numbers { low, high } => (*low..=*high).contains(&DNS),
            PortRange::Named(name) => name.contains("dns"),
        }
}
