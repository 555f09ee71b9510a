//! Pods.

use k8s_openapi::api::core::v1 as k8s;
use sidewall_policy::model::{NamespacedName, Phase, Pod, PodPort};

use super::addresses::addresses;
use super::{labels, port, protocol, tcp_path};
use crate::cluster::report::Report;

/// Reads a Pod.
pub(in crate::cluster) fn pod(id: NamespacedName, object: &k8s::Pod, report: &mut Report) -> Pod {
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    let phase = phase(status.and_then(|s| s.phase.as_deref()), report);
    let created = object
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(0, |time| time.0.as_second());
    Pod {
        id,
        labels: labels(&object.metadata),
        node: spec
            .and_then(|spec| spec.node_name.as_deref())
            .filter(|name| !name.is_empty())
            .map(Into::into),
        ips: status.map_or_else(Vec::new, |status| ips(status, report)),
        uid: object
            .metadata
            .uid
            .as_deref()
            .filter(|uid| !uid.is_empty())
            .map(Into::into),
        host_network: spec.is_some_and(|spec| spec.host_network == Some(true)),
        phase,
        created,
        ports: spec.map_or_else(Vec::new, |spec| ports(spec, report)),
        tcp_path: tcp_path::of_pod(&object.metadata, spec, report),
    }
}

fn phase(name: Option<&str>, report: &mut Report) -> Phase {
    match name {
        None | Some("" | "Pending") => Phase::Pending,
        Some("Running") => Phase::Running,
        Some("Succeeded" | "Failed") => Phase::Terminal,
        Some("Unknown") => Phase::Unknown,
        Some(other) => {
            let reason =
                format!("{other:?} is not one of Pending, Running, Succeeded, Failed, Unknown");
            report.add(
                "status.phase",
                reason,
                "it is read as Unknown: enforcement goes on",
            );
            Phase::Unknown
        }
    }
}

/// All of `podIPs` (`semantics H12`), or `podIP` where an older API server wrote only that.
fn ips(status: &k8s::PodStatus, report: &mut Report) -> Vec<std::net::IpAddr> {
    let consequence = "the pod is not known by it: what it sends from there is judged as a \
                       stranger's";
    let all = status.pod_ips.as_deref().unwrap_or_default();
    if all.is_empty() {
        let single = status.pod_ip.as_deref().filter(|ip| !ip.is_empty());
        let single = single.map(|ip| ("status.podIP".to_owned(), ip));
        return addresses(single, consequence, report);
    }
    let all = all
        .iter()
        .enumerate()
        .map(|(i, ip)| (format!("status.podIPs[{i}].ip"), ip.ip.as_str()));
    addresses(all, consequence, report)
}

/// Named ports of containers, and of those init containers that keep running (`semantics E14`).
fn ports(spec: &k8s::PodSpec, report: &mut Report) -> Vec<PodPort> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init
        .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
        .map(|(i, container)| (format!("spec.initContainers[{i}]"), container));
    let containers = spec.containers.iter().enumerate();
    let containers = containers.map(|(i, each)| (format!("spec.containers[{i}]"), each));
    let mut ports = Vec::new();
    for (path, container) in containers.chain(init) {
        for (i, each) in container.ports.iter().flatten().enumerate() {
            let Some(name) = each.name.as_deref().filter(|name| !name.is_empty()) else {
                continue;
            };
            let field = |name: &str| format!("{path}.ports[{i}].{name}");
            let number = port(each.container_port, field("containerPort"), report);
            let protocol = protocol(each.protocol.as_deref(), field("protocol"), report);
            if let (Some(number), Some(protocol)) = (number, protocol) {
                let name = name.into();
                ports.push(PodPort {
                    name,
                    protocol,
                    number,
                });
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}
