//! The messages of NRI and ttrpc, with those fields that the agent reads or writes.
//!
//! Sources: `pkg/api/api.proto` of github.com/containerd/nri (package `nri.pkg.api.v1alpha1`), and `request.proto` of
//! github.com/containerd/ttrpc. Fields that are not named here are skipped.

use std::collections::HashMap;

use prost::Message;

/// The service that a plugin serves.
pub(super) const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";

/// The service that the runtime serves.
pub(super) const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";

/// `Event`, as bits of a mask: bit `event - 1`.
pub(super) const EVENTS: i32 =
    1 << (RUN_POD_SANDBOX - 1) | 1 << (STOP_POD_SANDBOX - 1) | 1 << (REMOVE_POD_SANDBOX - 1);

/// `Event` values that `StateChange` carries with older runtimes.
pub(super) const RUN_POD_SANDBOX: i32 = 1;
pub(super) const STOP_POD_SANDBOX: i32 = 2;
pub(super) const REMOVE_POD_SANDBOX: i32 = 3;

/// `ttrpc.Request`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

/// `ttrpc.Response`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RegisterPluginRequest {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    #[prost(string, tag = "2")]
    pub plugin_idx: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigureRequest {
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    /// In milliseconds.
    #[prost(int64, tag = "5")]
    pub request_timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigureResponse {
    #[prost(int32, tag = "2")]
    pub events: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SynchronizeRequest {
    #[prost(message, repeated, tag = "1")]
    pub pods: Vec<PodSandbox>,
    /// Others follow.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SynchronizeResponse {
    /// As the request says it.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// `RunPodSandboxRequest`, `StopPodSandboxRequest` and `RemovePodSandboxRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxRequest {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StateChangeEvent {
    #[prost(int32, tag = "1")]
    pub event: i32,
    #[prost(message, optional, tag = "2")]
    pub pod: Option<PodSandbox>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodSandbox {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub uid: String,
    #[prost(string, tag = "4")]
    pub namespace: String,
    #[prost(map = "string, string", tag = "6")]
    pub annotations: HashMap<String, String>,
    #[prost(string, repeated, tag = "10")]
    pub ips: Vec<String>,
}
