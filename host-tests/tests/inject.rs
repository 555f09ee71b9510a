//! What `sidewall inject` makes of a manifest, run for real: the pod is redirected as its init container
//! says, and its Envoy runs what its sidecar says.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::envoy::{Artifact, plaintext};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Lab, LabConfig, Plane, SidecarTemplate};
use sidewall_host_tests::net::CONTROL_V4;

#[path = "chart_support/typed.rs"]
mod typed;
#[path = "lab_support/world.rs"]
mod world;
use world::{policy, three_pods};

fn main() -> ExitCode {
    harness::main(&[
        ("an_injected_pod_is_enforced", enforced),
        ("workloads_stay_valid_objects", valid),
        ("who_has_no_sidecar_is_named", named),
    ])
}

/// Output and messages of the command on one file.
fn inject(manifest: &str, options: &[&str]) -> Result<(String, String)> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(file.path(), manifest)?;
    let output = Command::new(Artifact::Sidewall.find()?)
        .args(["inject", "-f"])
        .arg(file.path())
        .args(options)
        .output()?;
    let messages = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{messages}");
    Ok((String::from_utf8(output.stdout)?, messages))
}

fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents = yaml.split("---\n").filter(|part| !part.trim().is_empty());
    documents
        .map(|document| serde_saphyr::from_str(document).context(document.to_owned()))
        .collect()
}

/// The sidecar of the pod `name`.
fn sidecar(documents: &[Value], name: &str) -> Result<Value> {
    let pod = documents
        .iter()
        .find(|object| object["kind"] == "Pod" && object["metadata"]["name"] == name);
    let spec = &pod.context("the pod is still there")?["spec"];
    let redirect = &spec["initContainers"][0];
    // This is what the lab does to a pod with a sidecar.
    ensure!(
        redirect["command"] == json!(["sidewall", "redirect"]),
        "{redirect}"
    );
    let sidecar = &spec["initContainers"][1];
    ensure!(sidecar["securityContext"]["runAsUser"] == 1337, "{sidecar}");
    Ok(sidecar.clone())
}

fn enforced() -> Result<()> {
    let cluster = three_pods();
    let distributor = format!("{CONTROL_V4}:18000");
    let (injected, _) = inject(&cluster, &["--distributor", &distributor])?;
    let sidecar = sidecar(&documents(&injected)?, "a")?;
    let args = sidecar["args"].as_array().context("arguments")?;
    ensure!(args[0] == "--config-yaml");
    let bootstrap = args[1].as_str().context("the bootstrap")?;
    let module = "/etc/sidewall/sidewall_filter.wasm";
    let mut bootstrap: Value =
        serde_json::from_str(&bootstrap.replace(module, "${SIDEWALL_WASM}"))?;
    // The lab's distributor serves plain text.
    let clusters = bootstrap.pointer_mut("/static_resources/clusters");
    let clusters = clusters.and_then(Value::as_array_mut).context("clusters")?;
    plaintext(clusters).context("TLS and a token")?;
    let bootstrap = bootstrap.to_string();

    // Nodes enforce as well, so who has a sidecar is what the manifests say: all three, and one that nobody
    // has injected.
    let without = world::pod("d", 2, 14);
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .manifest("cluster.yaml", injected)
            .manifest("d.yaml", without)
            .sidecar(SidecarTemplate {
                bootstrap,
                files: Vec::new(),
            }),
    )?;
    let with_sidecar = lab.pods().into_iter().filter(|(_, sidecar)| *sidecar);
    let with_sidecar: Vec<_> = with_sidecar.map(|(name, _)| name).collect();
    ensure!(
        with_sidecar == ["default/a", "default/b", "default/c"],
        "{with_sidecar:?}"
    );
    ensure!(lab.reaches("default/c", "default/a", 80)?, "no policy");
    let from_b = "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";
    lab.apply("policy.yaml", &policy("p", from_b))?;
    ensure!(lab.reaches("default/b", "default/a", 80)?, "a takes b");
    for from in ["default/c", "default/d"] {
        ensure!(
            !lab.reaches(from, "default/a", 80)?,
            "a takes b only, not {from}"
        );
    }
    ensure!(
        lab.stats("default/a", "sidewall_connections_total")?
            .sum("wasmcustom.sidewall_connections_total.direction.ingress")
            > 0,
        "the sidecar of a has judged"
    );

    // The probes say whether the pod's Envoy has a snapshot.
    let port = sidecar["startupProbe"]["tcpSocket"]["port"].as_u64();
    let port = u16::try_from(port.context("a port")?)?;
    ensure!(sidecar["readinessProbe"]["tcpSocket"]["port"] == port);
    let probe = || -> Result<bool> {
        let address = lab.addresses("default/a")?[0];
        let timeout = Duration::from_secs(1);
        let connect = || TcpStream::connect_timeout(&SocketAddr::new(address, port), timeout);
        Ok(lab.netns("node:node-1")?.run(connect)?.is_ok())
    };
    ensure!(probe()?, "it has one");
    lab.kill_distributor();
    lab.kill_sidecar("default/a")?;
    lab.start_sidecar("default/a")?;
    ensure!(!probe()?, "it cannot have one yet");
    lab.start_distributor()?;
    lab.wait_sidecar_ready("default/a", Duration::from_secs(60))?;
    ensure!(probe()?, "it has one again");
    Ok(())
}

fn valid() -> Result<()> {
    let template = "metadata: {labels: {app: x}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}";
    let apps = format!("selector: {{matchLabels: {{app: x}}}}, template: {{{template}}}");
    let job = format!("template: {{{template}}}");
    let mut manifest = String::from(
        "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: c, image: i}]}}\n",
    );
    for (version, kind, spec) in [
        ("apps/v1", "Deployment", apps.clone()),
        ("apps/v1", "StatefulSet", format!("serviceName: x, {apps}")),
        ("apps/v1", "DaemonSet", apps.clone()),
        ("apps/v1", "ReplicaSet", apps.clone()),
        ("batch/v1", "Job", job.clone()),
        (
            "batch/v1",
            "CronJob",
            format!("schedule: '0 0 * * *', jobTemplate: {{spec: {{{job}}}}}"),
        ),
    ] {
        manifest += &format!(
            "---\n{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, spec: {{{spec}}}}}\n"
        );
    }
    let (injected, messages) = inject(&manifest, &[])?;
    let documents = documents(&injected)?;
    ensure!(documents.len() == 7 && messages.is_empty(), "{messages}");
    for object in &documents {
        typed::check(object)?;
        ensure!(object.to_string().contains("sidewall-sidecar"), "{object}");
    }
    let (again, _) = inject(&injected, &[])?;
    ensure!(again == injected, "twice is once");
    Ok(())
}

fn named() -> Result<()> {
    let host = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: proxy, namespace: kube-system}\nspec: {template: {spec: {hostNetwork: true}}} # kept\n";
    let (output, messages) = inject(host, &[])?;
    ensure!(output == host, "{output}");
    ensure!(
        messages.contains("DaemonSet kube-system/proxy: left as it is: hostNetwork"),
        "{messages}"
    );
    let refused = inject(
        &host.replace("hostNetwork: true", "securityContext: {runAsUser: 1337}"),
        &[],
    );
    let refused = format!("{:#}", refused.err().context("it must be refused")?);
    ensure!(
        refused.contains("DaemonSet kube-system/proxy: spec.securityContext.runAsUser"),
        "{refused}"
    );
    Ok(())
}
