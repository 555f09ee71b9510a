//! EndpointSlices.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as k8s;
use sidewall_policy::model::NamespacedName;

use super::addresses::addresses;
use super::{port, protocol};
use crate::cluster::event::{EndpointPort, EndpointSlice};
use crate::cluster::report::Report;

/// Names the Service that a slice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Reads an EndpointSlice. One with names instead of addresses has no endpoints here: nothing
/// proxies it.
pub(in crate::cluster) fn endpoint_slice(
    id: NamespacedName,
    object: &k8s::EndpointSlice,
    report: &mut Report,
) -> EndpointSlice {
    let labels = object.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_LABEL));
    EndpointSlice {
        id,
        service: service.map(|name| name.as_str().into()),
        ports: ports(object, report),
        addresses: match object.address_type.as_str() {
            "FQDN" => Vec::new(),
            _ => endpoints(object, report),
        },
    }
}

fn ports(object: &k8s::EndpointSlice, report: &mut Report) -> Vec<EndpointPort> {
    let mut ports = Vec::new();
    for (i, each) in object.ports.iter().flatten().enumerate() {
        let field = |name: &str| format!("ports[{i}].{name}");
        // No number means every port, which no Service port can lead to.
        let number = each.port.and_then(|n| port(n, field("port"), report));
        let protocol = protocol(each.protocol.as_deref(), field("protocol"), report);
        if let (Some(port), Some(protocol)) = (number, protocol) {
            ports.push(EndpointPort {
                name: each.name.as_deref().unwrap_or_default().into(),
                protocol,
                port,
            });
        }
    }
    ports
}

/// The addresses of all endpoints, ready or not: any of them may be chosen at some moment of a
/// connection's life, and a connection must not end because a probe failed.
fn endpoints(object: &k8s::EndpointSlice, report: &mut Report) -> Vec<IpAddr> {
    let endpoints = object.endpoints.iter().flatten().enumerate();
    let given = endpoints.flat_map(|(i, each)| {
        let given = each.addresses.iter().enumerate();
        given.map(move |(j, ip)| (format!("endpoints[{i}].addresses[{j}]"), ip.as_str()))
    });
    addresses(given, "the Service has no such backend", report)
}
