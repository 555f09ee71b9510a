//! Services.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_policy::model::{NamespacedName, Requirement, Selector, Test};

use super::addresses::addresses;
use super::{port, protocol};
use crate::cluster::event::{Service, ServicePort, Target};
use crate::cluster::report::Report;

/// What a headless Service has instead of a cluster IP.
const HEADLESS: &str = "None";

/// Reads a Service.
pub(in crate::cluster) fn service(
    id: NamespacedName,
    object: &k8s::Service,
    report: &mut Report,
) -> Service {
    let mut service = Service {
        id,
        cluster_ips: Vec::new(),
        external_ips: Vec::new(),
        selector: None,
        ports: Vec::new(),
    };
    let Some(spec) = &object.spec else {
        return service;
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return service;
    }
    service.selector = selector(spec);
    if is_headless(spec) {
        return service;
    }
    service.cluster_ips = cluster_ips(spec, report);
    service.external_ips = external_ips(spec, object.status.as_ref(), report);
    service.ports = ports(spec, report);
    service
}

fn is_headless(spec: &k8s::ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(HEADLESS)
        || spec.cluster_ips.iter().flatten().any(|ip| ip == HEADLESS)
}

/// A Service without selector has no pods of its own (`semantics I7`).
fn selector(spec: &k8s::ServiceSpec) -> Option<Selector> {
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    let requirement = |(key, value): (&String, &String)| Requirement {
        key: key.as_str().into(),
        test: Test::In(vec![value.as_str().into()]),
    };
    Some(Selector::new(labels.iter().map(requirement).collect()))
}

/// What a flawed address of a Service means.
const BY_ADDRESS: &str =
    "connections to it are judged by the address alone, not by the Service's backends";

/// The cluster IPs of all families.
fn cluster_ips(spec: &k8s::ServiceSpec, report: &mut Report) -> Vec<IpAddr> {
    let one = spec.cluster_ip.iter();
    let one = one.map(|ip| ("spec.clusterIP".to_owned(), ip.as_str()));
    let all = spec.cluster_ips.iter().flatten().enumerate();
    let all = all.map(|(i, ip)| (format!("spec.clusterIPs[{i}]"), ip.as_str()));
    let given = one.chain(all).filter(|(_, ip)| !ip.is_empty());
    addresses(given, BY_ADDRESS, report)
}

/// The other addresses that lead to the backends, in all families (`semantics I11`).
fn external_ips(
    spec: &k8s::ServiceSpec,
    status: Option<&k8s::ServiceStatus>,
    report: &mut Report,
) -> Vec<IpAddr> {
    let external = spec.external_ips.iter().flatten().enumerate();
    let external = external.map(|(i, ip)| (format!("spec.externalIPs[{i}]"), ip.as_str()));
    let balancers = status
        .and_then(|status| status.load_balancer.as_ref())
        .into_iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten())
        .enumerate()
        .filter_map(|(i, ingress)| {
            let field = format!("status.loadBalancer.ingress[{i}].ip");
            Some((field, ingress.ip.as_deref()?))
        });
    let given = external.chain(balancers).filter(|(_, ip)| !ip.is_empty());
    addresses(given, BY_ADDRESS, report)
}

fn ports(spec: &k8s::ServiceSpec, report: &mut Report) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for (i, each) in spec.ports.iter().flatten().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        let protocol = protocol(each.protocol.as_deref(), field("protocol"), report);
        let number = port(each.port, field("port"), report);
        let target = match &each.target_port {
            None | Some(IntOrString::Int(0)) => number.map(Target::Number),
            Some(IntOrString::Int(target)) => {
                port(*target, field("targetPort"), report).map(Target::Number)
            }
            Some(IntOrString::String(name)) => Some(Target::Name(name.as_str().into())),
        };
        let node_port = each
            .node_port
            .filter(|number| *number != 0)
            .and_then(|number| port(number, field("nodePort"), report));
        if let (Some(protocol), Some(port), Some(target)) = (protocol, number, target) {
            ports.push(ServicePort {
                name: each.name.as_deref().unwrap_or_default().into(),
                protocol,
                port,
                node_port,
                target,
            });
        }
    }
    ports
}
