//! Documents, lists, kinds and versions.

use super::{load, names, policy, problems};
use crate::cluster::event::Object;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";

#[test]
fn documents_lists_and_typed_lists() {
    let loaded = load(
        "# a comment before the first document\n\
         ---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: x}\n\
         --- # nothing but a comment\n\
         ---\n\
         apiVersion: v1\nkind: List\nitems:\n\
         - {apiVersion: v1, kind: Namespace, metadata: {name: x}}\n\
         - {apiVersion: v1, kind: Node, metadata: {name: n}}\n\
         ---\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicyList\nitems:\n\
         - metadata: {name: p}\n\
         ...\n",
    );
    assert_eq!(problems(&loaded), [""; 0]);
    let expected = [
        "Pod x/a",
        "Namespace x",
        "Node n",
        "NetworkPolicy default/p",
    ];
    assert_eq!(names(&loaded), expected);
    assert!(loaded.whole);
}

#[test]
fn json_is_yaml() {
    let loaded =
        load("{\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\"}}\n");
    assert_eq!(names(&loaded), ["Pod default/a"]);
}

#[test]
fn a_directive_belongs_to_the_document_after_it() {
    let loaded = load(&format!("%YAML 1.2\n---\n{POD}"));
    assert_eq!(
        (names(&loaded), problems(&loaded)),
        (vec!["Pod default/a".to_owned()], vec![])
    );
}

#[test]
fn a_byte_order_mark_and_windows_line_ends() {
    let loaded = load(&format!("\u{feff}{POD}---\n{POD}").replace('\n', "\r\n"));
    assert_eq!(names(&loaded), ["Pod default/a", "Pod default/a"]);
}

#[test]
fn a_marker_within_a_block_scalar_is_text() {
    let loaded = load(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    text: |\n      ---\n      more\n",
    );
    assert_eq!(names(&loaded), ["Pod default/a"]);
}

#[test]
fn anchors_and_merge_keys() {
    let loaded = load(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: &l {app: web}\n  annotations: {<<: *l}\n",
    );
    assert_eq!(problems(&loaded), [""; 0]);
    assert_eq!(names(&loaded), ["Pod default/a"]);
}

#[test]
fn other_kinds_are_ignored_and_look_alikes_reported() {
    let loaded = load(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {bogus: 1}}\n\
         ---\n{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: s}}\n\
         ---\n{apiVersion: v1, kind: ConfigMapList, items: [{metadata: {name: c}}]}\n\
         ---\n{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: c}}\n",
    );
    assert_eq!(names(&loaded), [""; 0]);
    assert_eq!(
        problems(&loaded),
        [
            "test.yaml document 4: apiVersion: NetworkPolicy of \"projectcalico.org/v3\" is not a \
          Kubernetes NetworkPolicy; it is not enforced by Sidewall"
        ],
    );
}

#[test]
fn a_wrong_version_of_a_kind_we_use() {
    let loaded = load(
        "{apiVersion: v2, kind: Pod, metadata: {name: a}}\n---\nkind: Service\nmetadata: {name: s}\n",
    );
    assert_eq!(names(&loaded), [""; 0]);
    assert_eq!(
        problems(&loaded),
        [
            "Pod default/a: apiVersion: \"v2\" is not supported, write \"v1\"; the object is not used",
            "Service default/s: apiVersion: \"\" is not supported, write \"v1\"; what was read of it before stays in force; if nothing was, it is not used",
        ],
    );
}

#[test]
fn a_policy_of_an_old_version_isolates_and_allows_nothing() {
    let loaded = load(
        "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: p}\n\
         spec: {podSelector: {matchLabels: {app: db}}, ingress: [{}]}\n",
    );
    assert_eq!(
        problems(&loaded),
        [
            "NetworkPolicy default/p: apiVersion: \"extensions/v1beta1\" is not supported, write \
          \"networking.k8s.io/v1\"; the policy isolates its pods and allows nothing"
        ],
    );
    let policy = policy(&loaded);
    assert_eq!(policy.pod_selector.requirements().len(), 1);
    assert_eq!(
        (policy.ingress.as_deref(), policy.egress.as_deref()),
        (Some(&[][..]), None)
    );
}

#[test]
fn what_is_no_object_is_reported() {
    let loaded = load("just text\n---\n[1, 2]\n---\n{apiVersion: v1, kind: Pod}\n");
    assert_eq!(names(&loaded), [""; 0]);
    assert_eq!(
        problems(&loaded),
        [
            "test.yaml document 1: kind: Required value; the document is not used",
            "test.yaml document 2: kind: Required value; the document is not used",
            "Pod default/(test.yaml document 3): metadata.name: Required value: a name is \
             required; the object is not used",
        ],
    );
}

#[test]
fn an_unknown_field_of_a_pod_is_reported_and_the_pod_is_in_force() {
    let loaded = load(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n\
         spec:\n  containers: [{name: c, resources: {limits: {cpu: 1, memory: 1Gi}}, prots: []}]\n\
         status: {podIPs: [{ip: 10.0.0.1}, {ip: nonsense}]}\n",
    );
    assert_eq!(names(&loaded), ["Pod default/a"]);
    assert_eq!(
        problems(&loaded),
        [
            "Pod default/a: spec.containers[0].prots: unknown field; the object is in force \
             without this field",
            "Pod default/a: status.podIPs[1].ip: \"nonsense\" is not an IP address such as \
             10.0.0.1 or fd00::1; the pod is not known by it: what it sends from there is judged \
             as a stranger's",
        ],
    );
}

#[test]
fn a_pod_with_a_field_of_the_wrong_type_is_not_used() {
    let loaded = load(&format!("{POD}spec: {{hostNetwork: maybe}}\n---\n{POD}"));
    assert_eq!(names(&loaded), ["Pod default/a"], "the second one");
    assert_eq!(loaded.problems[0].field, "spec.hostNetwork");
    assert_eq!(loaded.problems[0].consequence, "the object is not used");
}

#[test]
fn numbers_that_readers_disagree_about_are_refused() {
    for number in ["080", "010", "8_0"] {
        let loaded = load(&format!(
            "{POD}spec: {{containers: [{{name: c, ports: [{{containerPort: {number}}}]}}]}}\n"
        ));
        assert_eq!(names(&loaded), [""; 0], "{number}");
        assert_eq!(
            loaded.problems[0].field,
            "spec.containers[0].ports[0].containerPort"
        );
    }
}

#[test]
fn words_that_some_read_as_booleans_are_words() {
    let loaded =
        load("apiVersion: v1\nkind: Pod\nmetadata: {name: y, namespace: n, labels: {env: no}}\n");
    assert_eq!(
        (names(&loaded), problems(&loaded)),
        (vec!["Pod n/y".to_owned()], vec![])
    );
    let loaded = load(&format!("{POD}spec: {{hostNetwork: yes}}\n"));
    assert_eq!(loaded.problems[0].field, "spec.hostNetwork");
    let loaded = load("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {env: true}}\n");
    assert_eq!(loaded.problems[0].field, "metadata.labels.env");
}

#[test]
fn a_key_that_is_there_twice_spoils_the_object() {
    let loaded = load(&format!(
        "{POD}  \n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: b\n  name: c\n"
    ));
    assert_eq!(names(&loaded), ["Pod default/a"]);
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(loaded.problems[0].object, "Pod default/c");
    let reason = &loaded.problems[0].reason;
    assert!(
        reason.starts_with("line 10 column 3: ") && reason.contains("name"),
        "{reason}"
    );
    assert!(loaded.whole);
}

#[test]
fn broken_yaml_names_the_line_and_the_rest_is_read() {
    let loaded = load(&format!(
        "{POD}---\nkind: Pod\nmetadata: {{name: [\n---\n{}",
        POD.replace(": a", ": b")
    ));
    assert_eq!(names(&loaded), ["Pod default/a", "Pod default/b"]);
    assert!(!loaded.whole);
    let problem = &loaded.problems[0];
    assert_eq!(problem.object, "test.yaml document 2");
    assert!(
        problem
            .reason
            .starts_with("test.yaml document 2 is not valid YAML: line "),
        "{problem}"
    );
    assert_eq!(
        problem.consequence,
        "what was read of it before stays in force"
    );
}

#[test]
fn a_policy_in_broken_yaml_has_a_stand_in() {
    let loaded = load(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  labels:\n    name: x\n  \
         name: \"p\" # the one\n  namespace: prod\nspec:\n  ingress: [\n",
    );
    assert_eq!(names(&loaded), [""; 0]);
    let [Object::NetworkPolicy(policy)] = loaded.stand_ins.as_slice() else {
        panic!("no stand-in: {loaded:?}");
    };
    assert_eq!(policy.id.to_string(), "prod/p");
    assert_eq!(
        (policy.ingress.as_deref(), policy.egress.as_deref()),
        (Some(&[][..]), Some(&[][..]))
    );
    assert!(policy.pod_selector.requirements().is_empty());
    assert_eq!(loaded.problems[0].object, "NetworkPolicy prod/p");

    let in_flow_style =
        load("kind: NetworkPolicy\nmetadata: {name: p, namespace: 'prod'}\nspec: {\n");
    assert_eq!(in_flow_style.problems[0].object, "NetworkPolicy prod/p");
    let nameless = load("kind: NetworkPolicy\nmetadata: {\nname: p\n");
    assert_eq!(
        nameless.problems[0].object,
        "NetworkPolicy default/(test.yaml document 1)"
    );
    let other = load("kind: Pod\nmetadata: {name: p}\nspec: {\n");
    assert!(other.stand_ins.is_empty());
}
