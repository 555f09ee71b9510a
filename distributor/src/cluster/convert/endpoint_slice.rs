//! EndpointSlices.

use k8s_openapi::api::discovery::v1 as k8s;
use sidewall_policy::model::NamespacedName;

use super::addresses::addresses;
use super::{port, protocol};
use crate::cluster::event::{Endpoint, EndpointPort, EndpointSlice};
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
        endpoints: match object.address_type.as_str() {
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

fn endpoints(object: &k8s::EndpointSlice, report: &mut Report) -> Vec<Endpoint> {
    let endpoints = object.endpoints.iter().flatten().enumerate();
    endpoints
        .map(|(i, each)| {
            let given = each.addresses.iter().enumerate();
            let given =
                given.map(|(j, ip)| (format!("endpoints[{i}].addresses[{j}]"), ip.as_str()));
            let conditions = each.conditions.as_ref();
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            Endpoint {
                addresses: addresses(given, "the Service has no such backend", report),
                ready,
                serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
            }
        })
        .collect()
}
