//! The API server stand-in, as the real `kubectl` finds it.

use std::io::{BufRead as _, BufReader};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::apiserver::{ApiServer, Kubectl};
use sidewall_host_tests::harness::{self, Case};

fn main() -> ExitCode {
    harness::main_with_kubectl(&CASES)
}

const CASES: [Case; 7] = [
    ("apply_get_label_delete", apply_get_label_delete),
    ("what_an_api_server_refuses", what_an_api_server_refuses),
    ("a_watch_shows_every_change", a_watch_shows_every_change),
    ("status_has_a_path_of_its_own", status_has_a_path_of_its_own),
    ("lists_come_in_pages", lists_come_in_pages),
    ("a_patch_can_be_for_one_uid", a_patch_can_be_for_one_uid),
    ("events_are_created_and_found", events_are_created_and_found),
];

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: allow-web, namespace: shop }
spec:
  podSelector: { matchLabels: { app: db } }
  ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }], ports: [{ port: 80 }] }]
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: { name: db, namespace: shop }
spec: { clusterIPs: [10.96.0.10], ports: [{ port: 80 }] }
";

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop, labels: {{ app: web }} }}\n\
         spec: {{ nodeName: one, containers: [{{ name: c, image: i, ports: [{{ containerPort: 80, name: http }}] }}] }}\n"
    )
}

fn server() -> anyhow::Result<(ApiServer, Kubectl)> {
    let server = ApiServer::start()?;
    let kubectl = Kubectl::new(&server.kubeconfig(), None)?;
    kubectl.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n")?;
    Ok((server, kubectl))
}

fn get(kubectl: &Kubectl, what: &str, name: &str) -> anyhow::Result<Value> {
    let text = kubectl.run(&["get", what, name, "-n", "shop", "-o", "json"])?;
    Ok(serde_json::from_str(&text)?)
}

fn apply_get_label_delete() -> anyhow::Result<()> {
    let (_server, kubectl) = server()?;
    kubectl.apply(POLICY)?;
    let policy = get(&kubectl, "netpol", "allow-web")?;
    ensure!(
        policy["spec"]["policyTypes"] == json!(["Ingress"]),
        "{policy:#}"
    );
    ensure!(
        policy.pointer("/spec/ingress/0/ports/0/protocol") == Some(&"TCP".into()),
        "{policy:#}"
    );

    let changed = POLICY.replace("port: 80", "port: 81");
    ensure!(kubectl.apply(&changed)?.contains("configured"));
    let before = get(&kubectl, "netpol", "allow-web")?;
    kubectl.apply(&changed)?;
    ensure!(
        get(&kubectl, "netpol", "allow-web")? == before,
        "applying the same changed it"
    );
    let policy = get(&kubectl, "netpol", "allow-web")?;
    ensure!(
        policy.pointer("/spec/ingress/0/ports/0/port") == Some(&81.into()),
        "{policy:#}"
    );
    ensure!(policy["metadata"]["generation"] == 2, "{policy:#}");

    kubectl.apply(&pod("web"))?;
    kubectl.run(&["label", "pod", "web", "-n", "shop", "tier=front"])?;
    kubectl.run(&["annotate", "pod", "web", "-n", "shop", "note=this"])?;
    let web = get(&kubectl, "pod", "web")?;
    ensure!(web["metadata"]["labels"]["tier"] == "front", "{web:#}");
    let by_label = kubectl.run(&["get", "pods", "-A", "-l", "tier=front", "-o", "name"])?;
    ensure!(by_label.trim() == "pod/web", "{by_label}");

    // Applying the manifest again leaves the label that it does not know.
    kubectl.apply(&pod("web").replace("app: web", "app: shop"))?;
    let web = get(&kubectl, "pod", "web")?;
    ensure!(web["metadata"]["labels"]["tier"] == "front", "{web:#}");
    ensure!(web["metadata"]["labels"]["app"] == "shop", "{web:#}");

    kubectl.run(&["delete", "pod", "web", "-n", "shop", "--wait=false"])?;
    let web = get(&kubectl, "pod", "web")?;
    ensure!(web["metadata"]["deletionTimestamp"].is_string(), "{web:#}");
    kubectl.run(&[
        "delete",
        "pod",
        "web",
        "-n",
        "shop",
        "--force",
        "--grace-period=0",
    ])?;
    kubectl.run(&["delete", "-n", "shop", "networkpolicy/allow-web"])?;
    let left = kubectl.run(&["get", "pods,networkpolicies", "-A", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

fn what_an_api_server_refuses() -> anyhow::Result<()> {
    let (_server, kubectl) = server()?;
    for (text, why) in [
        (
            POLICY.replace("port: 80", "port: 80, endPort: 70"),
            "endPort",
        ),
        (
            POLICY.replace("namespace: shop", "namespace: nowhere"),
            "not found",
        ),
        (
            POLICY.replace(
                "podSelector: { matchLabels: { app: web } } }",
                "ipBlock: { cidr: 10.0.0.0/33 } }",
            ),
            "must be a valid CIDR",
        ),
        (
            POLICY.replace("{ podSelector: { matchLabels: { app: web } } }", "{}"),
            "must specify a peer",
        ),
        (SERVICE.to_owned(), "must be empty when"),
    ] {
        let refusal = kubectl
            .apply(&text)
            .err()
            .context("it was accepted")?
            .to_string();
        ensure!(refusal.contains(why), "{why:?} is not in {refusal}");
    }
    // Newer `kubectl apply` asks for this by itself.
    let path = "/api/v1/namespaces/shop/pods?fieldValidation=Strict";
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" }, "spec": { "containres": [] } });
    let create = ["create", "--raw", path, "-f", "-"];
    let refusal = kubectl.run_with(&create, &pod.to_string()).err();
    let refusal = refusal.context("it was accepted")?.to_string();
    ensure!(refusal.contains("unknown field"), "{refusal}");
    Ok(())
}

fn a_watch_shows_every_change() -> anyhow::Result<()> {
    let (_server, kubectl) = server()?;
    let mut watch = kubectl
        .command(&[
            "get",
            "pods",
            "-n",
            "shop",
            "--watch",
            "--output-watch-events",
            "-o",
            r#"jsonpath={.type}{"\n"}"#,
        ])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
    kubectl.apply(&pod("a"))?;
    kubectl.run(&["label", "pod", "a", "-n", "shop", "x=y"])?;
    kubectl.run(&[
        "delete",
        "pod",
        "a",
        "-n",
        "shop",
        "--force",
        "--grace-period=0",
    ])?;
    let mut seen = Vec::new();
    for line in lines {
        let line = line?;
        let is_last = line == "DELETED";
        seen.push(line);
        if is_last {
            break;
        }
    }
    watch.kill()?;
    watch.wait()?;
    // A pod's end may be announced before it comes.
    seen.dedup();
    ensure!(seen == ["ADDED", "MODIFIED", "DELETED"], "{seen:?}");
    Ok(())
}

fn status_has_a_path_of_its_own() -> anyhow::Result<()> {
    let (_server, kubectl) = server()?;
    let status = "status: { phase: Running, podIPs: [{ ip: 10.0.0.1 }] }\n";
    kubectl.apply(&format!("{}{status}", pod("a")))?;
    let a = get(&kubectl, "pod", "a")?;
    ensure!(
        a["status"]["phase"] == "Pending" && a["status"]["podIPs"].is_null(),
        "{a:#}"
    );
    // By its own path, with a change that is none of a status.
    let mut pod_with_status = get(&kubectl, "pod", "a")?;
    pod_with_status["status"] = json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }] });
    pod_with_status["spec"]["nodeName"] = json!("two");
    let path = "/api/v1/namespaces/shop/pods/a/status";
    let replace = ["replace", "--raw", path, "-f", "-"];
    kubectl.run_with(&replace, &pod_with_status.to_string())?;
    let a = get(&kubectl, "pod", "a")?;
    ensure!(a["spec"]["nodeName"] == "one", "{a:#}");
    ensure!(a["status"]["podIP"] == "10.0.0.1", "{a:#}");
    kubectl.apply(&pod("a").replace("app: web", "app: db"))?;
    let a = get(&kubectl, "pod", "a")?;
    ensure!(
        a["status"]["phase"] == "Running" && a["metadata"]["labels"]["app"] == "db",
        "{a:#}"
    );
    Ok(())
}

fn lists_come_in_pages() -> anyhow::Result<()> {
    let (_server, kubectl) = server()?;
    let pods: Vec<String> = (0..7).map(|i| pod(&format!("p{i}"))).collect();
    kubectl.apply(&pods.join("---\n"))?;
    let names = kubectl.run(&["get", "pods", "-A", "--chunk-size=3", "-o", "name"])?;
    ensure!(names.lines().count() == 7, "{names}");
    Ok(())
}

fn a_patch_can_be_for_one_uid() -> anyhow::Result<()> {
    let (_server, kubectl) = server()?;
    kubectl.apply(&pod("a"))?;
    let patch = |uid: &Value| {
        let patch = json!({ "metadata": { "uid": uid, "labels": { "x": "y" } } }).to_string();
        kubectl.run(&["patch", "pod", "a", "-n", "shop", "-p", &patch])
    };
    let before = get(&kubectl, "pod", "a")?;
    let refusal = patch(&json!("another")).err().context("it was accepted")?;
    ensure!(refusal.to_string().contains("metadata.uid"), "{refusal}");
    ensure!(get(&kubectl, "pod", "a")? == before);
    patch(&before["metadata"]["uid"])?;
    let after = get(&kubectl, "pod", "a")?;
    ensure!(after["metadata"]["labels"]["x"] == "y", "{after:#}");
    Ok(())
}

fn events_are_created_and_found() -> anyhow::Result<()> {
    let (_server, kubectl) = server()?;
    kubectl.apply(POLICY)?;
    let policy = get(&kubectl, "netpol", "allow-web")?;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": { "name": "allow-web.1", "namespace": "shop" },
        "eventTime": "2026-01-02T03:04:05.000006Z",
        "reportingController": "example.com/x", "reportingInstance": "x-1",
        "action": "Look", "reason": "Found", "note": "this and that", "type": "Warning",
        "regarding": {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "namespace": "shop", "name": "allow-web", "uid": policy["metadata"]["uid"],
        },
    });
    let path = "/apis/events.k8s.io/v1/namespaces/shop/events?fieldValidation=Strict";
    let create = ["create", "--raw", path, "-f", "-"];
    kubectl.run_with(&create, &event.to_string())?;
    let about = "--field-selector=involvedObject.kind=NetworkPolicy,involvedObject.name=allow-web";
    let found = kubectl.run(&["get", "events", "-n", "shop", about, "-o", "json"])?;
    let found: Value = serde_json::from_str(&found)?;
    ensure!(found["items"][0]["message"] == "this and that", "{found:#}");

    let twice = kubectl.run_with(&create, &event.to_string()).err();
    ensure!(
        twice
            .context("twice")?
            .to_string()
            .contains("already exists")
    );
    for (field, value, told) in [
        ("type", json!("Error"), "type"),
        ("action", json!(""), "action"),
        ("note", json!("x".repeat(1025)), "at most 1024 characters"),
        ("eventTime", Value::Null, "eventTime"),
    ] {
        let mut bad = event.clone();
        bad["metadata"]["name"] = json!("allow-web.2");
        bad[field] = value;
        let refusal = kubectl.run_with(&create, &bad.to_string()).err();
        let refusal = refusal.with_context(|| format!("{field} was accepted"))?;
        ensure!(refusal.to_string().contains(told), "{field}: {refusal}");
    }
    Ok(())
}
