//! Who carries a pod's TCP: the one place that decides which pods have a sidecar.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sidewall_policy::model::TcpPath;

use super::annotation;
use crate::cluster::report::Report;

/// On a pod: whether it has a sidecar that runs Sidewall's filter, whatever else says so.
const SIDECAR_ANNOTATION: &str = "sidewall.dev/sidecar";

/// On a pod or a namespace: whether TCP of pods without a sidecar goes through the node's Envoy.
const REDIRECT_ANNOTATION: &str = "sidewall.dev/redirect";

/// Istio's injector writes it into every pod that it adds a sidecar to.
const ISTIO_STATUS_ANNOTATION: &str = "sidecar.istio.io/status";

/// The name of Istio's sidecar, among the containers or, as a native sidecar, the init containers.
const ISTIO_CONTAINER: &str = "istio-proxy";

/// What a pod says; `None` leaves it to its namespace.
pub(super) fn of_pod(
    metadata: &ObjectMeta,
    spec: Option<&PodSpec>,
    report: &mut Report,
) -> Option<TcpPath> {
    let is_said = yes_or_no(metadata, SIDECAR_ANNOTATION, report);
    let redirect = yes_or_no(metadata, REDIRECT_ANNOTATION, report);
    let has_sidecar = is_said.unwrap_or_else(|| {
        annotation(metadata, ISTIO_STATUS_ANNOTATION).is_some()
            || spec.is_some_and(has_istio_container)
    });
    if has_sidecar {
        Some(TcpPath::Sidecar)
    } else {
        redirect.map(redirected)
    }
}

/// What a namespace says for its pods without a sidecar; `None` leaves it to the cluster's default.
pub(super) fn of_namespace(metadata: &ObjectMeta, report: &mut Report) -> Option<TcpPath> {
    yes_or_no(metadata, REDIRECT_ANNOTATION, report).map(redirected)
}

fn redirected(redirect: bool) -> TcpPath {
    if redirect {
        TcpPath::NodeProxy
    } else {
        TcpPath::Kernel
    }
}

fn has_istio_container(spec: &PodSpec) -> bool {
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers)
        .any(|container| container.name == ISTIO_CONTAINER)
}

fn yes_or_no(metadata: &ObjectMeta, key: &str, report: &mut Report) -> Option<bool> {
    match annotation(metadata, key)? {
        "true" => Some(true),
        "false" => Some(false),
        other => {
            report.add(
                format!("metadata.annotations[{key}]"),
                format!("{other:?} is neither \"true\" nor \"false\""),
                "the annotation is ignored",
            );
            None
        }
    }
}
