//! Who is at the other end of a stream: the seam between "somebody connected" and "this pod" or
//! "this node".
//!
//! The stream loop asks an [`Authenticator`] and serves what it answers; it never reads a name from
//! a request itself. So real credentials (a service-account token, a client certificate) replace
//! [`PlaintextIdentity`] without a change to the protocol code.

use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use sidewall_policy::model::NamespacedName;
use tonic::metadata::MetadataMap;

use crate::snapshots::Recipient;

/// What a client shows when it opens a stream.
#[derive(Debug)]
pub struct Caller<'a> {
    /// The other end of the TCP connection, if the transport knows it.
    pub peer: Option<SocketAddr>,
    /// The metadata of the call: where a bearer token would be.
    pub metadata: &'a MetadataMap,
    /// `node.id` of the first request: a claim, not a proof.
    pub node_id: &'a str,
}

/// Why a client was turned away. Sent to it as the status of its stream, so it says nothing secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What the client claims cannot be read: it has to change its configuration.
    #[error(
        "node.id {id:?} names no pod and no node: {reason}; use sidecar~IP~POD.NAMESPACE~DOMAIN, NAMESPACE/POD or node~NAME"
    )]
    Malformed {
        /// The id as the client sent it.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Decides who a client is, and so which snapshot it may have.
pub trait Authenticator: Send + Sync + 'static {
    /// Who is at the other end, or why nobody is served. Called once a stream, before anything is sent.
    fn authenticate<'a>(&'a self, caller: Caller<'a>) -> BoxFuture<'a, Result<Recipient, Refusal>>;
}

/// Believes `node.id`. For development on one machine: [`crate::serve`] permits it on loopback,
/// or elsewhere only when the operator asked for it by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaintextIdentity;

impl Authenticator for PlaintextIdentity {
    fn authenticate<'a>(&'a self, caller: Caller<'a>) -> BoxFuture<'a, Result<Recipient, Refusal>> {
        Box::pin(std::future::ready(recipient_of_node_id(caller.node_id)))
    }
}

/// Reads a pod's or a node's name from a node id.
///
/// Three forms: `node~NAME` for the agent and the Envoy of a node; Istio's `TYPE~IP~POD.NAMESPACE~DOMAIN`, where TYPE is `sidecar`, or `router` for a
/// gateway, which is a pod like any other; and `NAMESPACE/POD`, for bootstraps written by hand.
fn recipient_of_node_id(id: &str) -> Result<Recipient, Refusal> {
    let malformed = |reason| Refusal::Malformed {
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
        match recipient_of_node_id(id) {
            Ok(name) => name.to_string(),
            Err(Refusal::Malformed { reason, .. }) => reason.to_owned(),
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
        let refusal = recipient_of_node_id("nobody").unwrap_err().to_string();
        assert_eq!(
            refusal,
            "node.id \"nobody\" names no pod and no node: it has neither a '~' nor a '/'; \
             use sidecar~IP~POD.NAMESPACE~DOMAIN, NAMESPACE/POD or node~NAME"
        );
    }
}
