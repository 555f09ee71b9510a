//! The chart in `envoy/chart`, as the real helm renders it.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_host_tests::envoy::{Artifact, artifact};

/// One object, and the template it comes from.
#[derive(Clone, Debug)]
pub struct Object {
    /// Such as `templates/node.yaml`.
    pub source: String,
    pub value: Value,
}

/// Values that switch everything on.
pub const EVERYTHING: &[&str] = &[
    "--set=node.enabled=true",
    "--set=node.redirect=All",
    "--set=node.bootTable=true",
    "--set=node.clusterCidrs={10.244.0.0/16,fd00:244::/48}",
    "--set=serviceMonitor.enabled=true",
    "--set=distributor.clientCaKey=ca.crt",
    "--set=distributor.readinessGates=true",
    "--set=distributor.podMetrics=false",
    "--set=distributor.enforceOwnNodeEgress=true",
    "--set=distributor.nodeSelector.disk=ssd",
    "--set=distributor.tolerations[0].operator=Exists",
    "--set=node.nodeSelector.disk=ssd",
    "--set=images.pullSecrets={registry}",
    "--set=networkPolicy.adminFrom[0].namespaceSelector.matchLabels.name=monitoring",
];

/// Runs helm with the chart.
///
/// # Errors
///
/// What helm says, when it refuses.
pub fn helm(command: &[&str], values: &[&str]) -> Result<String> {
    let chart = artifact::repository().join("envoy/chart");
    let home = tempfile::tempdir()?;
    let output = Command::new(Artifact::Helm.find()?)
        .args(command)
        .arg(chart)
        .args(["--namespace", "sidewall-system"])
        .args(values)
        // No plugins, no repositories and no cluster of whoever runs this.
        .env("HOME", home.path())
        .env_remove("KUBECONFIG")
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "helm {command:?}: {}{}",
        text(&output.stderr),
        text(&output.stdout)
    );
    Ok(text(&output.stdout))
}

/// Renders the chart.
///
/// # Errors
///
/// When helm refuses, or prints what is no YAML.
pub fn render(values: &[&str]) -> Result<Vec<Object>> {
    let text = helm(&["template", "sidewall"], values)?;
    let documents = text.split("---\n").filter(|part| !part.trim().is_empty());
    documents
        .map(|document| {
            let source = document
                .lines()
                .find_map(|line| line.strip_prefix("# Source: sidewall/"))
                .context("helm names the template")?;
            Ok(Object {
                source: source.to_owned(),
                value: serde_saphyr::from_str(document).context(document.to_owned())?,
            })
        })
        .collect()
}

/// The one object of that kind and name.
///
/// # Errors
///
/// When there is none.
pub fn find<'a>(objects: &'a [Object], kind: &str, name: &str) -> Result<&'a Value> {
    let is_it = |value: &&Value| value["kind"] == kind && value["metadata"]["name"] == name;
    let mut values = objects.iter().map(|object| &object.value);
    values
        .find(is_it)
        .with_context(|| format!("no {kind} {name}"))
}

/// The pod templates of workloads.
pub fn pods(objects: &[Object]) -> Vec<&Value> {
    let templates = objects
        .iter()
        .map(|object| &object.value["spec"]["template"]);
    templates.filter(|template| template.is_object()).collect()
}

/// The containers of a pod.
pub fn containers(pod: &Value) -> Vec<&Value> {
    let lists = ["initContainers", "containers"];
    let lists = lists.iter().filter_map(|list| pod["spec"][list].as_array());
    lists.flatten().collect()
}
