//! Namespaces.

use k8s_openapi::api::core::v1 as k8s;
use sidewall_policy::model::Namespace;

use super::{labels, mode, tcp_path};
use crate::cluster::report::Report;

/// The label that the API server puts on every namespace (`semantics B8`).
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Reads a Namespace.
pub(in crate::cluster) fn namespace(
    name: &str,
    object: &k8s::Namespace,
    report: &mut Report,
) -> Namespace {
    let mut labels = labels(&object.metadata);
    if labels.get(NAME_LABEL).is_some_and(|value| value != name) {
        report.add(
            format!("metadata.labels[{NAME_LABEL}]"),
            format!("must be the namespace's own name, {name:?}"),
            format!("it is read as {name:?}"),
        );
    }
    labels.insert(NAME_LABEL, name);
    Namespace {
        name: name.into(),
        labels,
        mode: mode(&object.metadata, report),
        tcp_path: tcp_path::of_namespace(&object.metadata, report),
    }
}
