//! What becomes of an object on its way into the store: unknown fields, defaults, checks.
//!
//! As much of it as the objects of a lab need, in the words of an API server.

mod defaults;
mod policy;

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::apiserver::answer::{Answer, Refusal};
use crate::apiserver::resource::Resource;

/// What a request wants done about fields that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Dropped,
    Refused,
}

/// Reads an object: of the kind that its path says, without fields that its kind does not have.
pub(super) fn read(resource: &Resource, object: &Value, unknown: Unknown) -> Answer<Value> {
    let (kind, version) = (object["kind"].as_str(), object["apiVersion"].as_str());
    if kind.is_some_and(|kind| kind != resource.kind)
        || version.is_some_and(|version| version != resource.api_version())
    {
        return Err(Refusal::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}",
            kind.unwrap_or_default(),
            version.unwrap_or_default(),
            resource.kind
        )));
    }
    match resource.kind {
        "Namespace" => typed::<Namespace>(object, unknown),
        "Node" => typed::<Node>(object, unknown),
        "Pod" => typed::<Pod>(object, unknown),
        "Service" => typed::<Service>(object, unknown),
        "ServiceAccount" => typed::<ServiceAccount>(object, unknown),
        "EndpointSlice" => typed::<EndpointSlice>(object, unknown),
        "NetworkPolicy" => typed::<NetworkPolicy>(object, unknown),
        _ => typed::<Event>(object, unknown),
    }
}

pub(super) fn typed<T: DeserializeOwned + Serialize>(
    object: &Value,
    unknown: Unknown,
) -> Answer<Value> {
    let mut fields = Vec::new();
    let decoded: T = serde_ignored::deserialize(object, |path| {
        fields.push(path.to_string().replace("?.", ""));
    })
    .map_err(|error| Refusal::bad_request(error.to_string()))?;
    if unknown == Unknown::Refused && !fields.is_empty() {
        let fields: Vec<String> = fields
            .iter()
            .map(|field| format!("unknown field {field:?}"))
            .collect();
        let message = format!("strict decoding error: {}", fields.join(", "));
        return Err(Refusal::bad_request(message));
    }
    serde_json::to_value(decoded).map_err(|error| Refusal::bad_request(error.to_string()))
}

/// Prepares a new object: what only the server may say is the server's.
pub(super) fn create(
    resource: &Resource,
    object: &mut Value,
    mut serial: impl FnMut() -> u64,
) -> Answer<()> {
    // A kubelet writes a Node's status along with it.
    if resource.has_status && resource.kind != "Node" {
        object["status"] = json!({});
    }
    if resource.kind == "Service" {
        address(object, &mut serial)?;
    }
    finish(resource, object)
}

/// Prepares a changed object. Its status is written by another path.
pub(super) fn update(resource: &Resource, before: &Value, object: &mut Value) -> Answer<()> {
    if resource.has_status {
        object["status"] = before["status"].clone();
    }
    if resource.kind == "Service" {
        for field in ["clusterIP", "clusterIPs"] {
            if object["spec"][field].is_null() {
                object["spec"][field] = before["spec"][field].clone();
            }
        }
    }
    finish(resource, object)
}

/// Prepares a changed status. Everything else stays.
pub(super) fn update_status(before: &Value, object: &mut Value) {
    let mut status = object["status"].take();
    if status["podIPs"].is_null() && status["podIP"].is_string() {
        status["podIPs"] = json!([{ "ip": status["podIP"] }]);
    } else if let Some(first) = status.pointer("/podIPs/0/ip").cloned() {
        status["podIP"] = first;
    }
    *object = before.clone();
    object["status"] = status;
}

fn finish(resource: &Resource, object: &mut Value) -> Answer<()> {
    defaults::fill_in(resource, object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let wrong = match resource.kind {
        "NetworkPolicy" => policy::check(&object["spec"]),
        _ => Vec::new(),
    };
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid(resource.kind, name, &wrong))
    }
}

/// Gives a Service an address unless it has one, or wants none.
fn address(object: &mut Value, serial: &mut impl FnMut() -> u64) -> Answer<()> {
    let spec = &mut object["spec"];
    if spec["type"] == "ExternalName" {
        return Ok(());
    }
    if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
        if spec.pointer("/clusterIPs/0").is_some() {
            let what = format!(
                "spec.clusterIPs: Invalid value: {}: must be empty when `clusterIP` is not specified",
                spec["clusterIPs"]
            );
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            return Err(Refusal::invalid("Service", name, &[what]));
        }
        let host = u16::try_from(serial() % 60_000).unwrap_or_default() + 256;
        let [high, low] = host.to_be_bytes();
        spec["clusterIP"] = json!(Ipv4Addr::new(10, 96, high, low).to_string());
    }
    if spec["clusterIPs"].is_null() {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    Ok(())
}
