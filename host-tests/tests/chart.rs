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
    let sources: BTreeSet<_> = [render(&[])?, render(EVERYTHING)?]
        .into_iter()
        .flatten()
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
    let notes = |values| helm(&["install", "sidewall", "--dry-run=client"], values);
    ensure!(notes(&[])?.contains(
        "sidewall inject -f workload.yaml --distributor sidewall.sidewall-system.svc:18000 |"
    ));
    let notes = notes(EVERYTHING)?;
    ensure!(notes.contains(
        "--distributor $address:18000 --distributor-name sidewall.sidewall-system.svc |"
    ));
    // The image's user is not root.
    ensure!(
        notes.contains(r#"{"runAsUser": 0, "privileged": true}"#),
        "{notes}"
    );
    ensure!(
        notes.contains("-- sidewall node --cleanup --boot-table /host/var/lib/sidewall/boot.nft"),
        "{notes}"
    );
    Ok(())
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (value, complaint) in [
        ("distributor.replcas=3", "replcas"),
        ("distributor.replicas=0", "replicas"),
        ("distributor.replicas=many", "replicas"),
        ("node.enabled=true,node.redirect=All", "clusterCidrs"),
        ("node.redirect=Sometimes", "redirect"),
        ("node.deniedTcp=Maybe", "deniedTcp"),
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
fn the_distributor_has_no_privilege_and_the_node_those_of_its_network() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let distributor = &find(&objects, "Deployment", "sidewall")?["spec"]["template"];
    let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
    ensure!(distributor["spec"]["securityContext"]["runAsNonRoot"] == true);
    for pod in [distributor, node] {
        for container in containers(pod) {
            let added = match container["name"].as_str() {
                Some("agent") => json!(["NET_ADMIN", "NET_RAW"]),
                Some("envoy") => json!(["NET_ADMIN"]),
                _ => Value::Null,
            };
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
        let mounted = volumes
            .iter()
            .filter_map(|it| it["hostPath"]["path"].as_str());
        let folders = if pod == node {
            vec!["/var/lib/sidewall", "/etc/systemd/system"]
        } else {
            Vec::new()
        };
        ensure!(mounted.eq(folders));
        ensure!(pod["spec"]["hostPID"].is_null());
    }
    Ok(())
}

#[test]
fn selectors_find_their_pods_and_no_others() -> Result<()> {
    let (objects, alone) = (render(EVERYTHING)?, render(&[])?);
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
    for (objects, kind, field) in [
        (
            &objects,
            "PodDisruptionBudget",
            "/spec/selector/matchLabels",
        ),
        (&alone, "NetworkPolicy", "/spec/podSelector/matchLabels"),
        (&objects, "Service", "/spec/selector"),
    ] {
        let selector = find(objects, kind, "sidewall")?.pointer(field);
        ensure!(selector == Some(distributor), "{kind}");
    }
    Ok(())
}

/// The arguments of a container of a pod.
fn arguments<'a>(pod: &'a Value, container: &str) -> Result<Vec<&'a str>> {
    let found = containers(pod).into_iter();
    let found = found.filter(|it| it["name"] == container);
    let args = found.flat_map(|it| it["args"].as_array()).flatten();
    args.map(|arg| arg.as_str().context("a string")).collect()
}

/// A node's table closes every pod whose snapshot is not there. Were the distributor one of them, or the DNS
/// server asked for its address, nothing would ever open again.
#[test]
fn nodes_wait_for_no_pod_that_they_may_have_closed() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let distributor = &find(&objects, "Deployment", "sidewall")?["spec"];
    ensure!(distributor["template"]["spec"]["hostNetwork"] == true);
    // On a node's network two replicas want the same ports.
    ensure!(
        distributor["strategy"]["rollingUpdate"] == json!({"maxUnavailable": 1, "maxSurge": 0})
    );
    ensure!(!objects.iter().any(|it| it.value["kind"] == "NetworkPolicy"));

    let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
    let service = "$(SIDEWALL_SERVICE_HOST):$(SIDEWALL_SERVICE_PORT)";
    let agent = arguments(node, "agent")?;
    for argument in [
        format!("--distributor=https://{service}"),
        format!("--control-plane={service}"),
        "--xds-server-name=sidewall.sidewall-system.svc".to_owned(),
    ] {
        ensure!(agent.contains(&argument.as_str()), "{agent:?}");
    }
    let envoy = arguments(node, "envoy")?;
    let address = r#"socket_address: {address: "$(SIDEWALL_SERVICE_HOST)", port_value: 18000}"#;
    ensure!(envoy.iter().any(|it| it.contains(address)), "{envoy:?}");

    let named = "--set=node.controlPlanes={[fd00::50]:18000,10.96.0.50:18000}";
    let objects = render(&[EVERYTHING, &[named]].concat())?;
    let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
    let agent = arguments(node, "agent")?;
    for argument in [
        "--distributor=https://[fd00::50]:18000",
        "--control-plane=[fd00::50]:18000",
        "--control-plane=10.96.0.50:18000",
    ] {
        ensure!(agent.contains(&argument), "{agent:?}");
    }
    Ok(())
}

/// Nodes run an Envoy only where somebody may ask for it, and the distributor asks for all only when told.
#[test]
fn redirection_is_asked_for() -> Result<()> {
    for (redirect, has_envoy, is_for_all) in [
        ("Never", false, false),
        ("OnRequest", true, false),
        ("All", true, true),
    ] {
        let value = format!("--set=node.redirect={redirect}");
        let objects = render(&[
            "--set=node.enabled=true",
            "--set=node.clusterCidrs={10.244.0.0/16}",
            &value,
        ])?;
        let distributor = &find(&objects, "Deployment", "sidewall")?["spec"]["template"];
        let asks = arguments(distributor, "distributor")?.contains(&"--redirect");
        let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
        let hands_over = arguments(node, "agent")?.contains(&"--proxy-port=15100");
        let runs = containers(node).iter().any(|it| it["name"] == "envoy");
        ensure!(
            (runs, hands_over, asks) == (has_envoy, has_envoy, is_for_all),
            "{redirect}: {runs} {hands_over} {asks}"
        );
    }
    let default = render(&["--set=node.enabled=true"])?;
    let node = &find(&default, "DaemonSet", "sidewall-node")?["spec"]["template"];
    ensure!(containers(node).len() == 1, "the kernel decides by default");
    Ok(())
}

/// The agent writes what the unit loads, and neither is there unless asked for.
#[test]
fn the_boot_table_is_where_its_unit_looks_for_it() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
    let file = "/var/lib/sidewall/boot.nft";
    let argument = format!("--boot-table={file}");
    ensure!(arguments(node, "agent")?.contains(&argument.as_str()));
    let unit =
        fs::read_to_string(artifact::repository().join("envoy/chart/files/sidewall-boot.service"))?;
    ensure!(
        unit.contains(&format!("ExecStart=nft -f {file}\n")),
        "{unit}"
    );
    let installs = containers(node)
        .into_iter()
        .find(|it| it["name"] == "boot-unit");
    let installed = &installs.context("an init container")?["env"][0]["value"];
    ensure!(installed == unit.as_str(), "{installed}");

    let plain = render(&["--set=node.enabled=true"])?;
    let node = &find(&plain, "DaemonSet", "sidewall-node")?["spec"]["template"];
    ensure!(node["spec"]["initContainers"].is_null());
    let volumes = node["spec"]["volumes"].as_array().context("volumes")?;
    ensure!(volumes.iter().all(|volume| volume["hostPath"].is_null()));
    Ok(())
}

/// The folder of the socket is mounted where the agent looks for it, and not unless asked for.
#[test]
fn the_agent_reaches_the_container_runtime_where_it_is_told_to() -> Result<()> {
    let objects = render(&[
        "--set=node.enabled=true",
        "--set=node.nriSocket=/run/nri/nri.sock",
    ])?;
    let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
    ensure!(arguments(node, "agent")?.contains(&"--nri-socket=/run/nri/nri.sock"));
    let mounts = containers(node)[0]["volumeMounts"]
        .as_array()
        .context("mounts")?;
    ensure!(mounts.contains(&json!({"name": "nri", "mountPath": "/run/nri", "readOnly": true})));
    let volumes = node["spec"]["volumes"].as_array().context("volumes")?;
    let folder = json!({"path": "/run/nri", "type": "DirectoryOrCreate"});
    ensure!(volumes.contains(&json!({"name": "nri", "hostPath": folder})));

    let plain = render(&["--set=node.enabled=true"])?;
    let node = &find(&plain, "DaemonSet", "sidewall-node")?["spec"]["template"];
    ensure!(
        arguments(node, "agent")?
            .iter()
            .all(|it| !it.starts_with("--nri-socket"))
    );
    Ok(())
}

/// `/status` and `/metrics` tell the names of all pods.
#[test]
fn the_admin_port_is_open_where_a_policy_or_the_operator_says_so() -> Result<()> {
    let node = "--set=node.enabled=true";
    let monitored = "--set=serviceMonitor.enabled=true";
    for (values, host) in [
        (&[][..], "[::]"),
        (&[node], "127.0.0.1"),
        (&[node, monitored], "[::]"),
    ] {
        let objects = render(values)?;
        let pod = &find(&objects, "Deployment", "sidewall")?["spec"]["template"];
        let listens = format!("--admin-listen={host}:18080");
        ensure!(
            arguments(pod, "distributor")?.contains(&listens.as_str()),
            "{values:?}"
        );
        let probe = &containers(pod)[0]["readinessProbe"]["httpGet"]["host"];
        let is_local = host == "127.0.0.1";
        ensure!(
            *probe == if is_local { json!(host) } else { Value::Null },
            "{values:?}"
        );
        let ports = find(&objects, "Service", "sidewall")?["spec"]["ports"].as_array();
        let mut ports = ports.into_iter().flatten();
        ensure!(
            ports.any(|port| port["name"] == "admin") != is_local,
            "{values:?}"
        );
    }
    Ok(())
}

#[test]
fn the_nodes_envoy_accepts_its_bootstrap() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let node = &find(&objects, "DaemonSet", "sidewall-node")?["spec"]["template"];
    let envoy = arguments(node, "envoy")?;
    let bootstrap = envoy.iter().find(|it| it.contains("static_resources"));
    let bootstrap = bootstrap.context("a bootstrap")?;
    ensure!(!bootstrap.contains("${"), "a placeholder is left");
    // As Kubernetes does it.
    let bootstrap = bootstrap.replace("$(SIDEWALL_SERVICE_HOST)", "10.96.0.50");
    ensure!(!bootstrap.contains("$("), "Kubernetes fills in no more");
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
    let bootstrap = template::plaintext(&bootstrap);
    let filter = Artifact::Filter.find()?;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(
        file.path(),
        bootstrap.replace(module, filter.to_str().unwrap()),
    )?;
    validate(&Artifact::Envoy.find()?, file.path())?;
    Ok(())
}
