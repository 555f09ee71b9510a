//! Kubernetes objects as `k8s-openapi` types, reduced to what verdicts depend on.
//!
//! A field that is wrong is reported and left out; it never takes the object with it.

mod addresses;
mod endpoint_slice;
mod namespace;
mod node;
mod pod;
pub(super) mod policy;
mod service;
mod tcp_path;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sidewall_policy::admit::{self, MODE_ANNOTATION, Violation};
use sidewall_policy::model::{Labels, Mode, Protocol};

use super::report::Report;

pub(super) use endpoint_slice::endpoint_slice;
pub(super) use namespace::namespace;
pub(super) use node::node;
pub(super) use pod::pod;
pub(super) use service::service;

fn labels(metadata: &ObjectMeta) -> Labels {
    metadata
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Enforced or only observed, by the annotation of a Namespace.
fn mode(metadata: &ObjectMeta, report: &mut Report) -> Mode {
    let (mode, violation) = admit::mode(annotation(metadata, MODE_ANNOTATION));
    if let Some(Violation {
        field,
        reason,
        consequence,
        severity: _,
    }) = violation
    {
        report.add(field, reason, consequence);
    }
    mode
}

/// A protocol of the API, TCP when it is left out.
fn protocol(name: Option<&str>, field: String, report: &mut Report) -> Option<Protocol> {
    let Some(name) = name else {
        return Some(Protocol::Tcp);
    };
    let known = Protocol::from_api(name);
    if known.is_none() {
        let reason = format!("{name:?} is not one of TCP, UDP, SCTP");
        report.add(field, reason, "this port is ignored");
    }
    known
}

/// A port number of the API.
fn port(number: i32, field: impl Into<String>, report: &mut Report) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Some(port),
        _ => {
            let reason = format!("{number} is not between 1 and 65535");
            report.add(field, reason, "this port is ignored");
            None
        }
    }
}
