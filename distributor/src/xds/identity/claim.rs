//! What a client says it is: `node.id`, read.

use std::net::IpAddr;

use sidewall_policy::model::NamespacedName;

use super::Refusal;
use crate::snapshots::Recipient;

/// Reads a pod's or a node's name from a node id.
///
/// Three forms: `node~NAME` for the agent and the Envoy of a node; Istio's
/// `TYPE~IP~POD.NAMESPACE~DOMAIN`, where TYPE is `sidecar`, or `router` for a gateway, which is a pod
/// like any other; and `NAMESPACE/POD`, for bootstraps written by hand.
pub(super) fn recipient(id: &str) -> Result<Recipient, Refusal> {
    let malformed = |reason| Refusal::MalformedId {
        id: id.to_owned(),
        reason,
    };
    if let Some(node) = id.strip_prefix("node~") {
        return if is_subdomain(node) {
            Ok(Recipient::Node(node.into()))
        } else {
            Err(malformed("the node is not a DNS subdomain"))
        };
    }
    let (namespace, pod) = if id.contains('~') {
        istio(id).map_err(malformed)?
    } else {
        id.split_once('/')
            .ok_or_else(|| malformed("it has neither a '~' nor a '/'"))?
    };
    if !is_label(namespace) {
        return Err(malformed("the namespace is not a DNS label"));
    }
    if !is_subdomain(pod) {
        return Err(malformed("the pod is not a DNS subdomain"));
    }
    Ok(Recipient::Pod(NamespacedName::new(namespace, pod)))
}

/// Splits Istio's form into namespace and pod.
fn istio(id: &str) -> Result<(&str, &str), &'static str> {
    let parts: Vec<&str> = id.split('~').collect();
    let [kind, address, workload, _domain] = parts[..] else {
        return Err("it does not have four parts joined by '~'");
    };
    if !matches!(kind, "sidecar" | "router") {
        return Err("its first part is neither sidecar nor router");
    }
    if address.parse::<IpAddr>().is_err() {
        return Err("its second part is not an IP address");
    }
    // A pod's name may have dots in it, a namespace's may not.
    let (pod, namespace) = workload
        .rsplit_once('.')
        .ok_or("its third part is not POD.NAMESPACE")?;
    Ok((namespace, pod))
}

/// RFC 1123 labels joined by dots, at most 253 bytes.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// An RFC 1123 label: at most 63 of a-z, 0-9 and '-', not at either end.
fn is_label(text: &str) -> bool {
    text.len() <= 63
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(id: &str) -> String {
        match recipient(id) {
            Ok(name) => name.to_string(),
            Err(Refusal::MalformedId { reason, .. }) => reason.to_owned(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn both_forms_name_a_pod() {
        assert_eq!(
            pod("sidecar~10.0.0.7~db-0.default~default.svc.cluster.local"),
            "default/db-0"
        );
        assert_eq!(
            pod("sidecar~fd00::7~db-0.default~default.svc.cluster.local"),
            "default/db-0"
        );
        assert_eq!(
            pod("router~10.0.0.7~gw.istio-system~istio-system.svc.cluster.local"),
            "istio-system/gw"
        );
        assert_eq!(pod("default/db-0"), "default/db-0");
    }

    #[test]
    fn a_node_is_named_by_itself() {
        assert_eq!(
            pod("node~worker-1.example.org"),
            "node worker-1.example.org"
        );
        for id in ["node~", "node~a b", "node~a~b", "node~a/b"] {
            assert_eq!(pod(id), "the node is not a DNS subdomain", "{id}");
        }
    }

    #[test]
    fn the_namespace_follows_the_last_dot() {
        assert_eq!(
            pod("sidecar~10.0.0.7~web.v1.2.shop~shop.svc.cluster.local"),
            "shop/web.v1.2"
        );
        assert_eq!(pod("shop/web.v1.2"), "shop/web.v1.2");
    }

    #[test]
    fn a_malformed_id_says_why() {
        for (id, reason) in [
            ("", "it has neither a '~' nor a '/'"),
            ("db-0.default", "it has neither a '~' nor a '/'"),
            (
                "sidecar~10.0.0.7~db-0.default",
                "it does not have four parts joined by '~'",
            ),
            (
                "sidecar~10.0.0.7~db-0.default~d~e",
                "it does not have four parts joined by '~'",
            ),
            (
                "ztunnel~10.0.0.7~db-0.default~d",
                "its first part is neither sidecar nor router",
            ),
            (
                "sidecar~10.0.0~db-0.default~d",
                "its second part is not an IP address",
            ),
            (
                "sidecar~10.0.0.7~db-0~d",
                "its third part is not POD.NAMESPACE",
            ),
            (
                "sidecar~10.0.0.7~.default~d",
                "the pod is not a DNS subdomain",
            ),
            (
                "sidecar~10.0.0.7~db-0.~d",
                "the namespace is not a DNS label",
            ),
            ("De fault/db-0", "the namespace is not a DNS label"),
            ("default/db-0/x", "the pod is not a DNS subdomain"),
            ("/db-0", "the namespace is not a DNS label"),
            ("default/", "the pod is not a DNS subdomain"),
        ] {
            assert_eq!(pod(id), reason, "{id:?}");
        }
    }

    #[test]
    fn a_refusal_shows_the_forms_that_work() {
        let refusal = recipient("nobody").unwrap_err().to_string();
        assert_eq!(
            refusal,
            "node.id \"nobody\" names no pod and no node: it has neither a '~' nor a '/'; \
             use sidecar~IP~POD.NAMESPACE~DOMAIN, NAMESPACE/POD or node~NAME"
        );
    }
}
