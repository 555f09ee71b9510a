//! Objects as the API server would read them: every field known, and of its type.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{apps, batch, core, networking, policy, rbac};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Holds an object to its type.
///
/// # Errors
///
/// Names the field that is unknown or of another type.
pub fn check(object: &Value) -> Result<()> {
    let kind = object["kind"].as_str().context("a kind")?;
    let version = object["apiVersion"].as_str().context("an apiVersion")?;
    match (version, kind) {
        ("apps/v1", "Deployment") => strict::<apps::v1::Deployment>(object),
        ("apps/v1", "DaemonSet") => strict::<apps::v1::DaemonSet>(object),
        ("apps/v1", "StatefulSet") => strict::<apps::v1::StatefulSet>(object),
        ("apps/v1", "ReplicaSet") => strict::<apps::v1::ReplicaSet>(object),
        ("batch/v1", "Job") => strict::<batch::v1::Job>(object),
        ("batch/v1", "CronJob") => strict::<batch::v1::CronJob>(object),
        ("v1", "Pod") => strict::<core::v1::Pod>(object),
        ("v1", "Service") => strict::<core::v1::Service>(object),
        ("v1", "ServiceAccount") => strict::<core::v1::ServiceAccount>(object),
        ("v1", "ConfigMap") => strict::<core::v1::ConfigMap>(object),
        ("policy/v1", "PodDisruptionBudget") => strict::<policy::v1::PodDisruptionBudget>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            strict::<networking::v1::NetworkPolicy>(object)
        }
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => strict::<rbac::v1::ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            strict::<rbac::v1::ClusterRoleBinding>(object)
        }
        ("monitoring.coreos.com/v1", "ServiceMonitor") => strict::<ServiceMonitor>(object),
        _ => bail!("{version} {kind} is not known here"),
    }
    .with_context(|| format!("{kind} {}", object["metadata"]["name"]))
}

fn strict<T: DeserializeOwned>(object: &Value) -> Result<()> {
    let mut unknown = Vec::new();
    let _: T = serde_ignored::deserialize(object, |path| unknown.push(path.to_string()))?;
    // Every object has these two, and not every type reads them.
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    ensure!(unknown.is_empty(), "unknown fields {unknown:?}");
    Ok(())
}

/// As far as the chart uses it.
#[derive(Deserialize)]
struct ServiceMonitor {
    #[serde(rename = "metadata")]
    _metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    #[serde(rename = "spec")]
    _spec: Monitor,
}

#[derive(Deserialize)]
struct Monitor {
    #[serde(rename = "selector")]
    _selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    #[serde(rename = "endpoints")]
    _endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "port")]
    _port: String,
    #[serde(rename = "path")]
    _path: String,
    #[serde(rename = "interval")]
    _interval: String,
    #[serde(rename = "honorLabels")]
    _honor_labels: bool,
}
