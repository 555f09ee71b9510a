//! Where the state of the cluster comes from: Kubernetes objects in, [`Event`]s out.
//!
//! ```text
//!  folder ────manifests──▶ yaml ──▶ decode ──▶ convert ──▶ events
//!  API server ────kube──────────────▶ decode ──▶ convert ──▶ events
//! ```
//!
//! The only module that names `k8s-openapi` and `kube`: everything behind the events speaks
//! [`sidewall_policy::model`]. A source never judges and never keeps quiet: what it cannot read is
//! reported as a [`crate::problem::Problem`], and a NetworkPolicy that cannot be read still
//! isolates what it may have been meant to isolate.

pub mod authority;
mod convert;
mod decode;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod kube;
pub mod manifests;
mod pod_ranges;
mod report;
pub(crate) mod yaml;

pub use event::{
    Batch, EndpointPort, EndpointSlice, Event, Kind, Object, ObjectRef, Origin, Service,
    ServicePort, Target,
};
pub use pod_ranges::{PodRangesError, pod_ranges};
