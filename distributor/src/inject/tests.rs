use serde_json::Value;

use super::*;

fn parts() -> Parts {
    let distributor = "sidewall.sidewall-system.svc:18000".parse().unwrap();
    Parts::new("registry/sidewall-proxy:1", &distributor, None).unwrap()
}

fn injected(text: &str) -> Injected {
    inject(text, &parts()).unwrap()
}

fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

const POD: &str = "\
# A comment.
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
spec:
  initContainers:
  - name: prepare
    image: i
  containers:
  - name: app
    image: i
    args: ['yes', \"0755\", '1e3']
  volumes:
  - name: data
    secret: {secretName: s, defaultMode: 0640}
";

#[test]
fn a_pod_gets_its_parts_before_its_own() {
    let injected = injected(POD);
    assert_eq!(injected.skipped, []);
    let pod = value(&injected.text);
    assert_eq!(
        pod["metadata"]["annotations"]["sidewall.dev/sidecar"],
        "true"
    );
    let names = |list: &str| -> Vec<String> {
        let items = pod["spec"][list].as_array().unwrap().iter();
        items
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names("initContainers"),
        ["sidewall-redirect", "sidewall-sidecar", "prepare"]
    );
    assert_eq!(names("volumes"), ["data", "sidewall-identity"]);
    assert_eq!(names("containers"), ["app"]);
    let sidecar = &pod["spec"]["initContainers"][1];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["image"], "registry/sidewall-proxy:1");
}

#[test]
fn values_stay_what_kubectl_takes_them_for() {
    let text = injected(POD).text;
    let pod = value(&text);
    let args = &pod["spec"]["containers"][0]["args"];
    assert_eq!(*args, serde_json::json!(["yes", "0755", "1e3"]));
    for quoted in ["\"yes\"", "\"0755\"", "\"1e3\""] {
        assert!(
            text.contains(quoted) || text.contains(&quoted.replace('"', "'")),
            "{text}"
        );
    }
    assert!(text.contains("defaultMode: 416"), "0640 is octal: {text}");
    let place = |field: &str| text.find(field).unwrap();
    assert!(place("apiVersion") < place("kind") && place("containers:") < place("volumes:"));
}

#[test]
fn twice_is_once() {
    let workloads = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec: {template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}}
---
# nothing
---
kind: ConfigMap # as it is
apiVersion: v1
";
    for text in [POD, workloads, &serde_json::to_string(&value(POD)).unwrap()] {
        let once = injected(text).text;
        assert_ne!(once, text);
        assert_eq!(injected(&once).text, once);
    }
    assert!(
        injected(workloads)
            .text
            .ends_with("---\n# nothing\n---\nkind: ConfigMap # as it is\napiVersion: v1\n")
    );
}

#[test]
fn another_version_replaces_what_is_there() {
    let newer = Parts::new(
        "registry/sidewall-proxy:2",
        &"10.0.0.1:1".parse().unwrap(),
        Some("sidewall.example"),
    )
    .unwrap();
    let upgraded = inject(&injected(POD).text, &newer).unwrap().text;
    assert_eq!(upgraded, inject(POD, &newer).unwrap().text);
}

#[test]
fn json_stays_json() {
    let text = injected(&serde_json::to_string(&value(POD)).unwrap()).text;
    let pod: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        pod["spec"]["initContainers"][0]["name"],
        "sidewall-redirect"
    );
}

#[test]
fn every_kind_of_workload_is_known() {
    let template = "{spec: {containers: [{name: c, image: i}]}}";
    for (version, kind, spec, path) in [
        (
            "apps/v1",
            "Deployment",
            format!("{{template: {template}}}"),
            "/spec/template",
        ),
        (
            "apps/v1",
            "StatefulSet",
            format!("{{template: {template}}}"),
            "/spec/template",
        ),
        (
            "apps/v1",
            "DaemonSet",
            format!("{{template: {template}}}"),
            "/spec/template",
        ),
        (
            "apps/v1",
            "ReplicaSet",
            format!("{{template: {template}}}"),
            "/spec/template",
        ),
        (
            "batch/v1",
            "Job",
            format!("{{template: {template}}}"),
            "/spec/template",
        ),
        (
            "batch/v1",
            "CronJob",
            format!("{{jobTemplate: {{spec: {{template: {template}}}}}}}"),
            "/spec/jobTemplate/spec/template",
        ),
    ] {
        let object =
            format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}");
        let list = format!(
            "{{apiVersion: v1, kind: List, items: [{object}, {{apiVersion: v1, kind: Secret}}]}}"
        );
        for (text, path) in [(object, path.to_owned()), (list, format!("/items/0{path}"))] {
            let found = value(&injected(&text).text);
            let template = found.pointer(&path).unwrap();
            assert_eq!(
                template["spec"]["initContainers"][1]["name"], "sidewall-sidecar",
                "{kind}"
            );
        }
    }
}

#[test]
fn who_cannot_have_a_sidecar_is_named_and_left_alone() {
    for (field, reason) in [
        ("spec: {hostNetwork: true, containers: []}", "hostNetwork"),
        ("spec: {os: {name: windows}, containers: []}", "windows"),
        ("spec: {containers: [{name: istio-proxy}]}", "Istio"),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop}}\n{field}\n"
        );
        let injected = injected(&text);
        assert_eq!(injected.text, text);
        let message = injected.skipped[0].to_string();
        assert!(
            message.starts_with("Pod shop/web: left as it is: ") && message.contains(reason),
            "{message}"
        );
    }
    let out = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, annotations: {sidewall.dev/sidecar: 'false'}}\nspec: {}\n";
    assert_eq!(injected(out).skipped.len(), 1);
}

#[test]
fn who_would_go_round_its_sidecar_is_refused() {
    for (spec, field) in [
        (
            "{securityContext: {runAsUser: 1337}, containers: []}",
            "spec.securityContext.runAsUser",
        ),
        (
            "{containers: [{name: c, securityContext: {runAsGroup: 1337}}]}",
            "spec.containers[c].securityContext.runAsGroup",
        ),
        (
            "{initContainers: [{name: i, securityContext: {runAsUser: 1337}}], containers: []}",
            "spec.initContainers[i].securityContext.runAsUser",
        ),
        (
            "{containers: [{name: c, ports: [{containerPort: 15001}]}]}",
            "spec.containers[c].ports",
        ),
    ] {
        let text = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {spec}}}");
        let message = inject(&text, &parts()).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("Pod web: {field}: ")),
            "{message}"
        );
    }
}

#[test]
fn what_is_not_yaml_is_named_by_document_and_line() {
    let message = inject("a: 1\n---\n{", &parts()).unwrap_err().to_string();
    assert!(message.starts_with("document 2: line 3"), "{message}");
}

#[test]
fn a_distributor_is_a_host_and_a_port() {
    let endpoint = |text: &str| text.parse::<Endpoint>();
    assert_eq!(endpoint("[fd00::1]:18000").unwrap().host, "fd00::1");
    assert_eq!(endpoint("a-b.svc:1").unwrap().port, 1);
    for text in [
        "a",
        "a:0",
        "a:70000",
        ":1",
        "fd00::1:1",
        "a b:1",
        "a\"b:1",
        "[a]:x",
    ] {
        assert!(endpoint(text).is_err(), "{text}");
    }
}

#[test]
fn a_certificate_may_be_for_another_name_than_the_address_that_is_dialled() {
    let certificate_names = |name| {
        let distributor = "10.96.0.50:18000".parse().unwrap();
        let parts = Parts::new("image", &distributor, name).unwrap();
        let injected = inject(POD, &parts).unwrap().text;
        let bootstrap = value(&injected)["spec"]["initContainers"][1]["args"][1].clone();
        let bootstrap: Value = serde_json::from_str(bootstrap.as_str().unwrap()).unwrap();
        let clusters = bootstrap["static_resources"]["clusters"]
            .as_array()
            .unwrap();
        let cluster = clusters
            .iter()
            .find(|it| it["name"] == "sidewall-distributor");
        let names = cluster.unwrap().pointer(
            "/transport_socket/typed_config/common_tls_context/combined_validation_context\
             /default_validation_context/match_typed_subject_alt_names",
        );
        let names = names.unwrap().as_array().unwrap().iter();
        names
            .map(|name| name["matcher"]["exact"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let service = "sidewall.sidewall-system.svc";
    assert_eq!(certificate_names(Some(service)), [service, "10.96.0.50"]);
    assert_eq!(certificate_names(None), ["10.96.0.50", "10.96.0.50"]);
}

#[test]
fn the_readiness_gate_is_added_once_and_only_if_it_is_wanted() {
    assert_eq!(
        value(&injected(POD).text)["spec"]["readinessGates"],
        Value::Null
    );
    let mut parts = parts();
    parts.readiness_gate = true;
    let with_another = POD.replace(
        "spec:\n",
        "spec:\n  readinessGates: [{conditionType: load.balancer/ready}]\n",
    );
    let once = inject(&with_another, &parts).unwrap().text;
    let gates = serde_json::json!([
        { "conditionType": "load.balancer/ready" },
        { "conditionType": "sidewall.dev/policy-applied" },
    ]);
    assert_eq!(value(&once)["spec"]["readinessGates"], gates);
    assert_eq!(inject(&once, &parts).unwrap().text, once);
}
