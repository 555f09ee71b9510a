//! The Helm chart, rendered by the real helm and held to what the binary, Envoy and Kubernetes know.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

#[path = "chart_support/rendered.rs"]
mod rendered;
#[path = "chart_support/typed.rs"]
mod typed;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rendered::{EVERYTHING, containers, find, helm, pods, render};
use serde_json::{Value, json};
use sidewall_host_tests::envoy::{Artifact, artifact, template, validate};

#[test]
fn helm_finds_nothing_to_complain_of() -> Result<()> {
    for values in [&[][..], EVERYTHING] {
        helm(&["lint", "--strict"], values)?;
    }
    Ok(())
}

#[test]
fn every_object_is_what_the_api_server_expects() -> Result<()> {
    for values in [&[][..], EVERYTHING] {
        for object in render(values)? {
            typed::check(&object.value).context(object.source)?;
        }
    }
    Ok(())
}

#[test]
fn a_mistake_in_an_object_would_be_found() {
    let typo = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"hostNetworking": true, "containers": []}});
    let error = format!("{:#}", typed::check(&typo).unwrap_err());
    assert!(error.contains("hostNetworking"), "{error}");
}

#[test]
fn every_template_gives_something() -> Result<()> {
    let sources: BTreeSet<_> = render(EVERYTHING)?
        .into_iter()
        .map(|object| object.source)
        .collect();
    for entry in fs::read_dir(artifact::repository().join("envoy/chart/templates"))? {
        let name = entry?.file_name().into_string().unwrap();
        let gives_objects = name != "_helpers.tpl" && name != "NOTES.txt";
        ensure!(
            sources.contains(&format!("templates/{name}")) == gives_objects,
            "{name}"
        );
    }
    let notes = helm(&["install", "sidewall", "--dry-run=client"], EVERYTHING)?;
    ensure!(notes.contains(
        "sidewall inject -f workload.yaml --distributor sidewall.sidewall-system.svc:18000"
    ));
    ensure!(notes.contains("-- sidewall node --cleanup"), "{notes}");
    Ok(())
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (value, complaint) in [
        ("distributor.replcas=3", "replcas"),
        ("distributor.replicas=0", "replicas"),
        ("distributor.replicas=many", "replicas"),
        ("node.enabled=true", "clusterCidrs"),
        ("node.controlPlanes={fd00::1:18000}", "controlPlanes"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
        ("serviceMonitor.interval=soon", "interval"),
    ] {
        let error = helm(&["template", "sidewall"], &["--set", value]).unwrap_err();
        assert!(error.to_string().contains(complaint), "{value}: {error}");
    }
}

#[test]
fn every_value_is_in_the_schema_and_said_why() -> Result<()> {
    let chart = artifact::repository().join("envoy/chart");
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(chart.join("values.yaml"))?)?;
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart.join("values.schema.json"))?)?;
    for (group, values) in values.as_object().unwrap() {
        let known = &schema["properties"][group]["properties"];
        for name in values.as_object().unwrap().keys() {
            ensure!(
                known.get(name).is_some(),
                "{group}.{name} is not in the schema"
            );
        }
        for name in known.as_object().unwrap().keys() {
            ensure!(
                values.get(name).is_some(),
                "{group}.{name} is not in values.yaml"
            );
        }
    }
    Ok(())
}

/// What a subcommand's help lists.
fn flags(subcommand: &str) -> Result<BTreeSet<String>> {
    let output = Command::new(Artifact::Sidewall.find()?)
        .args([subcommand, "--help"])
        .output()?;
    let help = String::from_utf8(output.stdout)?;
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let words = words.filter(|word| word.starts_with("--") && word.len() > 2);
    Ok(words.map(str::to_owned).collect())
}

#[test]
fn every_flag_is_one_that_the_binary_knows() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let mut checked = 0;
    for pod in pods(&objects) {
        for container in containers(pod) {
            if container["command"] != json!(["sidewall"]) {
                continue;
            }
            let args = container["args"].as_array().unwrap().iter();
            let args: Vec<&str> = args.map(|arg| arg.as_str().unwrap()).collect();
            let subcommand = *args.iter().find(|arg| !arg.starts_with("--")).unwrap();
            let known = flags(subcommand)?;
            for arg in args.iter().filter(|arg| arg.starts_with("--")) {
                let flag = arg.split('=').next().unwrap();
                ensure!(
                    known.contains(flag),
                    "sidewall {subcommand} does not know {flag}"
                );
                checked += 1;
            }
        }
    }
    ensure!(checked > 15, "{checked} flags");
    Ok(())
}

/// Group, resource and verb of every permission of a role.
fn permissions(role: &Value) -> BTreeSet<String> {
    let list = |rule: &Value, field: &str| -> Vec<String> {
        let items = rule[field].as_array().unwrap().iter();
        items
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let mut permissions = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                for verb in list(rule, "verbs") {
                    permissions.insert(format!("{verb} {resource}.{group}"));
                }
            }
        }
    }
    permissions
}

#[test]
fn nobody_may_more_than_this() -> Result<()> {
    let mut expected = BTreeSet::from([
        "create events.events.k8s.io",
        "create tokenreviews.authentication.k8s.io",
        "get pods.",
        "list endpointslices.discovery.k8s.io",
        "list namespaces.",
        "list networkpolicies.networking.k8s.io",
        "list nodes.",
        "list pods.",
        "list services.",
        "watch endpointslices.discovery.k8s.io",
        "watch namespaces.",
        "watch networkpolicies.networking.k8s.io",
        "watch nodes.",
        "watch pods.",
        "watch services.",
    ]);
    let found = permissions(find(&render(&[])?, "ClusterRole", "sidewall")?);
    ensure!(found.iter().eq(&expected), "{found:?}");

    let objects = render(EVERYTHING)?;
    expected.insert("patch pods/status.");
    let found = permissions(find(&objects, "ClusterRole", "sidewall")?);
    ensure!(found.iter().eq(&expected), "{found:?}");
    let found = permissions(find(&objects, "ClusterRole", "sidewall-node")?);
    ensure!(found.iter().eq(["get nodes."]), "{found:?}");
    Ok(())
}

#[test]
fn the_distributor_has_no_privilege_and_the_node_has_one() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let distributor = &find(&objects, "Deployment", "sidewall")?["spec"]["template"];
    let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
    ensure!(distributor["spec"]["securityContext"]["runAsNonRoot"] == true);
    for (pod, added) in [(distributor, Value::Null), (node, json!(["NET_ADMIN"]))] {
        for container in containers(pod) {
            let context = &container["securityContext"];
            ensure!(
                context["readOnlyRootFilesystem"] == true
                    && context["allowPrivilegeEscalation"] == false
                    && context["privileged"].is_null()
                    && context["capabilities"]["drop"] == json!(["ALL"])
                    && context["capabilities"]["add"] == added,
                "{context}"
            );
        }
        ensure!(pod["spec"]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault");
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        ensure!(volumes.iter().all(|volume| volume["hostPath"].is_null()));
        ensure!(pod["spec"]["hostPID"].is_null());
    }
    Ok(())
}

#[test]
fn selectors_find_their_pods_and_no_others() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let workload = |kind, name| -> Result<(&Value, &Value)> {
        let spec = &find(&objects, kind, name)?["spec"];
        let labels = &spec["template"]["metadata"]["labels"];
        Ok((&spec["selector"]["matchLabels"], labels))
    };
    let (distributor, distributor_labels) = workload("Deployment", "sidewall")?;
    let (node, node_labels) = workload("DaemonSet", "sidewall-node")?;
    let selects = |selector: &Value, labels: &Value| {
        let mut pairs = selector.as_object().unwrap().iter();
        pairs.all(|(name, value)| labels[name] == *value)
    };
    ensure!(selects(distributor, distributor_labels) && selects(node, node_labels));
    ensure!(!selects(distributor, node_labels) && !selects(node, distributor_labels));
    for (kind, field) in [
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
        ("Service", "/spec/selector"),
    ] {
        let selector = find(&objects, kind, "sidewall")?.pointer(field);
        ensure!(selector == Some(distributor), "{kind}");
    }
    Ok(())
}

#[test]
fn the_nodes_envoy_accepts_its_bootstrap() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let map = find(&objects, "ConfigMap", "sidewall-node-envoy")?;
    let bootstrap = map["data"]["node.yaml"].as_str().unwrap();
    ensure!(!bootstrap.contains("${"), "a placeholder is left");
    // The image has these.
    let module = "/etc/sidewall/sidewall_filter.wasm";
    for path in [
        module,
        "/etc/sidewall/sds/token.yaml",
        "/etc/sidewall/sds/ca.yaml",
    ] {
        ensure!(bootstrap.contains(path), "{path}");
    }
    // Envoy would look for them here, so its check goes without them.
    let bootstrap = template::plaintext(bootstrap);
    let filter = Artifact::Filter.find()?;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(
        file.path(),
        bootstrap.replace(module, filter.to_str().unwrap()),
    )?;
    validate(&Artifact::Envoy.find()?, file.path())?;
    Ok(())
}
