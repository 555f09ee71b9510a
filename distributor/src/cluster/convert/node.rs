//! Nodes: the addresses their own processes use (`semantics G9`).

use k8s_openapi::api::core::v1 as k8s;
use sidewall_policy::model::Node;

use super::addresses::addresses;
use super::annotation;
use crate::cluster::report::Report;

/// Lists addresses of a node that its status does not: bridges, gateways, tunnels; separated by
/// commas.
const ADDRESSES_ANNOTATION: &str = "sidewall.dev/node-addresses";

/// Reads a Node.
pub(in crate::cluster) fn node(name: &str, object: &k8s::Node, report: &mut Report) -> Node {
    let of_status = object
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
        .enumerate()
        .filter(|(_, address)| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
        .map(|(i, address)| {
            let field = format!("status.addresses[{i}].address");
            (field, address.address.as_str())
        });
    let of_annotation = annotation(&object.metadata, ADDRESSES_ANNOTATION)
        .into_iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| {
            (
                format!("metadata.annotations[{ADDRESSES_ANNOTATION}]"),
                text,
            )
        });
    Node {
        name: name.into(),
        addresses: addresses(
            of_status.chain(of_annotation),
            "traffic of the node's processes from this address is judged like any other",
            report,
        ),
    }
}
