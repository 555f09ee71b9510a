//! The parts of a NetworkPolicy, as raw [`spec`] values: defaults and checks come after.

use k8s_openapi::api::networking::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_policy::spec;

/// A label selector.
pub(in crate::cluster) fn selector(raw: meta::LabelSelector) -> spec::LabelSelector {
    let expression = |raw: meta::LabelSelectorRequirement| spec::LabelSelectorRequirement {
        key: raw.key,
        operator: raw.operator,
        values: raw.values.unwrap_or_default(),
    };
    spec::LabelSelector {
        match_labels: raw.match_labels.unwrap_or_default().into_iter().collect(),
        match_expressions: raw
            .match_expressions
            .into_iter()
            .flatten()
            .map(expression)
            .collect(),
    }
}

/// An item of `from` or `to`.
pub(in crate::cluster) fn peer(raw: k8s::NetworkPolicyPeer) -> spec::Peer {
    spec::Peer {
        pod_selector: raw.pod_selector.map(selector),
        namespace_selector: raw.namespace_selector.map(selector),
        ip_block: raw.ip_block.map(|block| spec::IpBlock {
            cidr: block.cidr,
            except: block.except,
        }),
    }
}

/// An item of `ports`.
pub(in crate::cluster) fn port(raw: k8s::NetworkPolicyPort) -> spec::Port {
    spec::Port {
        protocol: raw.protocol,
        port: raw.port.map(|port| match port {
            IntOrString::Int(number) => spec::IntOrString::Int(number),
            IntOrString::String(name) => spec::IntOrString::String(name),
        }),
        end_port: raw.end_port,
    }
}
