//! The manifests of `envoy/istio`, applied to a sidecar as Istio would make it, in real Envoys.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_host_tests::envoy::{Artifact, artifact, plaintext, template, validate};
use sidewall_host_tests::harness;
use sidewall_host_tests::istio::{EnvoyFilter, Sample};
use sidewall_host_tests::lab::{Lab, LabConfig, SidecarTemplate};

#[path = "lab_support/world.rs"]
mod world;
use world::{policy, three_pods};

fn main() -> ExitCode {
    harness::main(&[
        ("every_chain_begins_with_the_gate", every_chain),
        (
            "the_carrier_gets_what_a_sidecars_carrier_gets",
            same_as_plain,
        ),
        ("the_patched_result_is_accepted_by_envoy", accepted),
        ("the_workload_gets_what_the_filter_needs", workload),
        ("policies_decide_in_a_patched_sidecar", enforced),
    ])
}

fn file(name: &str) -> Result<String> {
    let path = artifact::repository().join("envoy/istio").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn filter() -> Result<EnvoyFilter> {
    Ok(EnvoyFilter::read(&file("envoyfilter.yaml")?)?)
}

fn patched() -> Result<Sample> {
    Ok(filter()?.apply(Sample::read()?)?)
}

/// For a distributor without TLS, such as the lab's. That this part works is shown with
/// `envoy/sidecar.yaml`, which has the same.
fn in_plain_text(mut sample: Sample) -> Result<Sample> {
    plaintext(&mut sample.clusters).context("TLS and a token")?;
    Ok(sample)
}

/// Chains of a listener with the listener's name, the default one included.
fn chains(listener: &Value) -> Vec<&Value> {
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    chains.chain(listener.get("default_filter_chain")).collect()
}

fn every_chain() -> Result<()> {
    let mut gated = 0;
    for listener in patched()?.listeners() {
        if listener["name"] == "sidewall-carrier" {
            continue;
        }
        for chain in chains(listener) {
            let filters = chain["filters"].as_array().context("a chain has filters")?;
            let names: Vec<_> = filters.iter().map(|filter| &filter["name"]).collect();
            ensure!(
                names[0] == "sidewall-gate" && names[1..].iter().all(|name| *name != names[0]),
                "{}: {names:?}",
                listener["name"]
            );
            gated += 1;
        }
    }
    ensure!(
        gated == 11,
        "{gated} chains: the sample has 6 inbound and 5 outbound"
    );
    Ok(())
}

/// Gate, carrier and cluster are those of `envoy/sidecar.yaml`, but for where things are.
fn same_as_plain() -> Result<()> {
    let values = [
        ("SIDEWALL_HOST", "sidewall.sidewall-system.svc"),
        ("SIDEWALL_NAME", "sidewall.sidewall-system.svc"),
        ("SIDEWALL_PORT", "18000"),
        ("SIDEWALL_WASM", "/etc/sidewall/sidewall_filter.wasm"),
        ("SIDEWALL_SDS", "/etc/sidewall"),
    ];
    let plain: Value = serde_saphyr::from_str(&template::render(template::SIDECAR, &values)?)?;
    let patched = patched()?;
    let named = |list: &Value, name: &str| -> Result<Value> {
        let found = list.as_array().into_iter().flatten();
        let mut found = found.filter(|item| item["name"] == name);
        found.next().cloned().with_context(|| format!("no {name}"))
    };
    let outbound = Value::Array(patched.outbound.clone());
    let gate = &patched.inbound[0]["filter_chains"][0]["filters"][0];
    let listeners = &plain["static_resources"]["listeners"];
    let inbound = named(&named(listeners, "inbound")?["filter_chains"], "inbound-v4")?;
    ensure!(*gate == inbound["filters"][0], "the gates differ: {gate}");

    let mut carrier = named(&outbound, "sidewall-carrier")?;
    let cluster = "/filter_chains/0/filters/1/typed_config/cluster";
    *carrier.pointer_mut(cluster).context("a cluster")? = "blackhole".into();
    let expected = named(listeners, "sidewall-carrier")?;
    ensure!(carrier == expected, "the carriers differ: {carrier}");

    let clusters = Value::Array(patched.clusters.clone());
    let distributor = named(&clusters, "sidewall-distributor")?;
    let expected = named(
        &plain["static_resources"]["clusters"],
        "sidewall-distributor",
    )?;
    ensure!(
        distributor == expected,
        "the clusters differ: {distributor}"
    );
    Ok(())
}

fn accepted() -> Result<()> {
    let patched = in_plain_text(patched()?)?;
    let filter = Artifact::Filter.find()?;
    let filter = filter.to_str().context("UTF-8")?;
    // `--mode validate` asks no files for listeners and clusters, so they go into the bootstrap here.
    let mut bootstrap = patched.bootstrap.clone();
    let fields = bootstrap.as_object_mut().context("an object")?;
    fields.remove("dynamic_resources");
    let resources = &mut bootstrap["static_resources"];
    let append = |list: &mut Value, more: Vec<Value>| -> Result<()> {
        list.as_array_mut().context("a list")?.extend(more);
        Ok(())
    };
    append(&mut resources["clusters"], patched.clusters.clone())?;
    append(
        &mut resources["listeners"],
        patched.listeners().cloned().collect(),
    )?;
    let module = "/etc/sidewall/sidewall_filter.wasm";
    let text = bootstrap.to_string().replace(module, filter);
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    fs::write(
        file.path(),
        template::render(&text, &[("SIDEWALL_WASM", filter)])?,
    )?;
    validate(&Artifact::Envoy.find()?, file.path())?;
    Ok(())
}

fn workload() -> Result<()> {
    let patch: Value = serde_saphyr::from_str(&file("workload-patch.yaml")?)?;
    let metadata = &patch["spec"]["template"]["metadata"];
    for (label, value) in filter()?.labels() {
        ensure!(metadata["labels"][label] == value.as_str(), "{metadata}");
    }
    let annotation = |name: &str| -> Result<Value> {
        let text = metadata["annotations"][name].as_str().context("a string")?;
        Ok(serde_saphyr::from_str(text)?)
    };
    let volumes = annotation("sidecar.istio.io/userVolume")?;
    let mounts = annotation("sidecar.istio.io/userVolumeMount")?;
    for place in [0, 1] {
        ensure!(
            volumes[place]["name"] == mounts[place]["name"],
            "{volumes} {mounts}"
        );
    }
    for secret in [template::TOKEN_SECRET, template::CA_SECRET] {
        let mounted = mounts[1]["mountPath"].as_str().context("a path")?;
        ensure!(
            secret.contains(&format!("{{filename: {mounted}/")),
            "{secret}"
        );
    }
    let module = "/vm_config/code/local/filename";
    let gate = &patched()?.inbound[0]["filter_chains"][0]["filters"][0]["typed_config"]["config"];
    let expected = format!(
        "{}/sidewall_filter.wasm",
        mounts[0]["mountPath"].as_str().context("a path")?
    );
    ensure!(gate.pointer(module) == Some(&expected.into()), "{gate}");
    ensure!(filter()?.priority() > 0, "others are applied before");
    Ok(())
}

/// A server that answers every HTTP request with its name, on both families, until the lab ends.
fn serve_http(lab: &Lab, pod: &str, port: u16) -> Result<()> {
    let netns = lab.netns(pod)?;
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = netns.run(|| TcpListener::bind(address))??;
    let name = pod.to_owned();
    netns.spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 1024];
            // A client that goes away gets no answer.
            let _ = stream.read(&mut request);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{name}",
                name.len()
            );
        }
    })?;
    Ok(())
}

/// Asks over every family; whether the server itself answered, over all or over none.
fn asks_http(lab: &Lab, from: &str, to: &str, port: u16) -> Result<bool> {
    let mut answers = Vec::new();
    for address in lab.addresses(to)? {
        answers.push(lab.netns(from)?.run(|| ask(address, port))? == to);
    }
    ensure!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{from} to {to}:{port}: the families differ: {answers:?}"
    );
    Ok(answers[0])
}

/// The body of the answer; empty when there is none.
fn ask(address: IpAddr, port: u16) -> String {
    let ask = || -> std::io::Result<String> {
        let address = SocketAddr::new(address, port);
        let timeout = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        write!(
            stream,
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => body.to_owned(),
        _ => String::new(),
    }
}

/// TCP that is declared, and that nobody declared; HTTP that is declared, and that nobody declared.
const TCP: [u16; 2] = [80, 81];
const HTTP: [u16; 2] = [8080, 9090];

fn expect(lab: &Lab, from: &str, to: &str, expected: bool) -> Result<()> {
    for port in TCP {
        ensure!(
            lab.reaches(from, to, port)? == expected,
            "{from} to {to}:{port} over TCP should be {expected}"
        );
    }
    for port in HTTP {
        ensure!(
            asks_http(lab, from, to, port)? == expected,
            "{from} to {to}:{port} over HTTP should be {expected}"
        );
    }
    Ok(())
}

fn enforced() -> Result<()> {
    let patched = in_plain_text(patched()?)?;
    let service = "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: default}, \
         spec: {selector: {app: a}, clusterIPs: [10.96.0.1], ports: [{port: 5432, targetPort: web}]}}";
    let lab = Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .manifest("service.yaml", service)
            .sidecar(SidecarTemplate {
                bootstrap: patched.bootstrap.to_string(),
                files: patched
                    .file_templates()
                    .context("the distributor's cluster has an address")?,
            }),
    )?;
    for pod in ["default/a", "default/b"] {
        for port in HTTP {
            serve_http(&lab, pod, port)?;
        }
    }
    for (from, to) in [
        ("default/b", "default/a"),
        ("default/c", "default/a"),
        ("default/a", "default/b"),
    ] {
        expect(&lab, from, to, true).context("no policy")?;
    }
    ensure!(lab.reaches("default/c", "service:default/db", 5432)?);
    ensure!(lab.decisions("default/a")?.is_empty(), "nothing was denied");

    // Inbound, at the server's sidecar.
    let from_b = "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";
    lab.apply("policy.yaml", &policy("p", from_b))?;
    expect(&lab, "default/b", "default/a", true).context("a takes b")?;
    expect(&lab, "default/c", "default/a", false).context("a takes b only")?;
    ensure!(!lab.reaches("default/c", "service:default/db", 5432)?);
    denied_by(&lab, "default/a", "ingress", "default/p")?;

    // The own node, from which probes come, is always let in.
    expect(&lab, "node:node-1", "default/a", true).context("the own node")?;

    // Outbound, at the client's sidecar: passthrough, HTTP, and a Service by its address.
    let nowhere = "podSelector: {matchLabels: {app: c}}, policyTypes: [Egress]";
    lab.apply("policy.yaml", &policy("q", nowhere))?;
    expect(&lab, "default/b", "default/a", true).context("c only")?;
    expect(&lab, "default/c", "default/a", false).context("c goes nowhere")?;
    ensure!(!lab.reaches("default/c", "service:default/db", 5432)?);
    denied_by(&lab, "default/c", "egress", "default/q")?;

    lab.unapply("policy.yaml")?;
    expect(&lab, "default/c", "default/a", true).context("no policy again")?;
    ensure!(lab.reaches("default/c", "service:default/db", 5432)?);
    Ok(())
}

/// The sidecar of this pod, and not something else on the way, has denied every port that was tried.
fn denied_by(lab: &Lab, pod: &str, direction: &str, policy: &str) -> Result<()> {
    let records = lab.decisions(pod)?;
    for port in TCP.into_iter().chain(HTTP) {
        let port = format!(":{port}");
        let is_it = |record: &&Value| {
            record["direction"] == direction
                && record["policies"] == serde_json::json!([policy])
                && record["destination"]
                    .as_str()
                    .is_some_and(|to| to.ends_with(&port))
        };
        ensure!(
            records.iter().any(|record| is_it(&record)),
            "no record of {direction} {port} by {policy}: {records:?}"
        );
    }
    Ok(())
}
