//! What a mirror makes of a watch's events, and objects as an API server keeps them.

use kube::api::DynamicObject;
use kube::runtime::watcher;
use serde_json::{Value, json};
use sidewall_policy::model::{NamespacedName, NetworkPolicy, Peers};

use super::mirror::Mirror;
use super::watch::needs_list;
use crate::cluster::event::{Batch, Event, Kind, Object, ObjectRef, Origin};

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

fn service(name: &str, port: i32) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "x", "resourceVersion": "1" },
        "spec": { "clusterIP": "10.96.0.1", "ports": [{ "port": port }] },
    })
}

fn list(mirror: &mut Mirror, objects: &[Value]) -> Batch {
    let mut batch = mirror.take(watcher::Event::Init);
    for value in objects {
        batch.extend(mirror.take(watcher::Event::InitApply(object(value))));
    }
    assert_eq!(batch, [], "nothing before the list is complete");
    mirror.take(watcher::Event::InitDone)
}

/// A batch in short: `+name`, `-name`, `!name` with problems, `.name` without any more, `synced`.
fn short(batch: &Batch) -> Vec<String> {
    let name = |reference: &ObjectRef| reference.id.name.to_string();
    let word = |event: &Event| match event {
        Event::Apply(object) => format!("+{}", name(&object.reference())),
        Event::Delete(reference) => format!("-{}", name(reference)),
        Event::Synced(_) => "synced".to_owned(),
        Event::Report(Origin::Object(reference), problems) => {
            let mark = if problems.is_empty() { '.' } else { '!' };
            format!("{mark}{}", name(reference))
        }
        Event::Report(Origin::Source(source), _) => panic!("a report on {source}"),
    };
    batch.iter().map(word).collect()
}

#[test]
fn what_a_server_refuses_for_its_version_is_listed_anew() {
    for (code, message, anew) in [
        (410, "too old resource version: 5 (9)", true),
        (504, "Too large resource version: 9, current: 5", true),
        (
            504,
            "the server was unable to return a response in the time allotted",
            false,
        ),
        (403, "pods is forbidden", false),
    ] {
        let status = json!({ "status": "Failure", "code": code, "message": message, "reason": "" });
        let status = serde_json::from_value(status).unwrap();
        let error = watcher::Error::WatchStartFailed(kube::Error::Api(status));
        assert_eq!(needs_list(&error), anew, "{code} {message}");
    }
}

#[test]
fn a_list_is_one_batch_and_the_next_one_takes_away_what_is_missing() {
    let mut mirror = Mirror::new(Kind::Service);
    let batch = list(&mut mirror, &[service("a", 80), service("b", 0)]);
    assert_eq!(short(&batch), ["+a", "+b", "!b", "synced"]);

    // A list that broke off counts for nothing.
    mirror.take(watcher::Event::Init);
    mirror.take(watcher::Event::InitApply(object(&service("ghost", 80))));
    let batch = list(&mut mirror, &[service("c", 80)]);
    assert_eq!(short(&batch), ["-a", "-b", ".b", "+c"]);
}

#[test]
fn events_change_one_object_each() {
    let mut mirror = Mirror::new(Kind::Service);
    list(&mut mirror, &[service("a", 80)]);
    let take = |mirror: &mut Mirror, event| short(&mirror.take(event));
    let apply = |value: &Value| watcher::Event::Apply(object(value));
    assert_eq!(take(&mut mirror, apply(&service("a", 0))), ["+a", "!a"]);
    assert_eq!(take(&mut mirror, apply(&service("a", 81))), ["+a", ".a"]);
    assert_eq!(take(&mut mirror, apply(&service("b", 81))), ["+b"]);
    let gone = |value: &Value| watcher::Event::Delete(object(value));
    assert_eq!(take(&mut mirror, gone(&service("a", 81))), ["-a"]);
    assert_eq!(take(&mut mirror, gone(&service("a", 81))), [""; 0], "twice");
}

/// Without a Service its address is one like any other, and without a backend that is denied the rest of them
/// may be allowed.
#[test]
fn services_and_their_backends_stay_as_they_were_read_last() {
    let slice = |address: &Value| {
        json!({
            "metadata": { "name": "a", "namespace": "x", "labels": { "kubernetes.io/service-name": "a" } },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": address }],
        })
    };
    let mut broken_service = service("a", 80);
    broken_service["spec"]["ports"] = json!("eighty");
    for (kind, good, broken) in [
        (Kind::Service, service("a", 80), broken_service),
        (
            Kind::EndpointSlice,
            slice(&json!(["10.0.0.1"])),
            slice(&json!("10.0.0.1")),
        ),
    ] {
        let mut mirror = Mirror::new(kind);
        list(&mut mirror, std::slice::from_ref(&good));
        let batch = mirror.take(watcher::Event::Apply(object(&broken)));
        assert_eq!(short(&batch), ["!a"], "{kind}");
        assert!(
            matches!(&batch[0], Event::Report(_, problems) if problems[0].consequence.contains("stays in force")),
            "{batch:?}"
        );
        let batch = list(&mut mirror, std::slice::from_ref(&broken));
        assert_eq!(short(&batch), ["!a"], "{kind}: listed anew");
        let batch = mirror.take(watcher::Event::Delete(object(&broken)));
        assert_eq!(short(&batch), ["-a", ".a"], "{kind}");
    }
}

/// What is not known allows nothing.
#[test]
fn pods_namespaces_and_nodes_that_cannot_be_read_any_more_are_taken_away() {
    for kind in [Kind::Pod, Kind::Namespace, Kind::Node] {
        let good = json!({ "metadata": { "name": "a" } });
        let broken = json!({ "metadata": { "name": "a" }, "status": "none" });
        let mut mirror = Mirror::new(kind);
        list(&mut mirror, &[good]);
        let batch = mirror.take(watcher::Event::Apply(object(&broken)));
        assert_eq!(short(&batch), ["-a", "!a"], "{kind}");
        let batch = mirror.take(watcher::Event::Delete(object(&broken)));
        assert_eq!(short(&batch), [".a"], "{kind}");
    }
}

#[test]
fn a_policy_that_cannot_be_read_any_more_isolates_all_the_more() {
    let (sealed, fields) = policy(&json!("none"));
    assert_eq!(fields, ["spec"]);
    assert_eq!(sealed.ingress.map(|rules| rules.len()), Some(0));
    assert_eq!(sealed.egress.map(|rules| rules.len()), Some(0));
    let (closed, _) = policy(&json!({ "podSelector": { "matchLabels": 7 }, "ingress": [{}] }));
    assert_eq!(closed.ingress.map(|rules| rules.len()), Some(0));
}

fn policy(spec: &Value) -> (NetworkPolicy, Vec<String>) {
    let mut mirror = Mirror::new(Kind::NetworkPolicy);
    let metadata = json!({
        "name": "p", "namespace": "x", "uid": "u", "managedFields": [{ "manager": "m", "time": "2024-01-01T00:00:00Z" }],
    });
    let value = json!({ "metadata": metadata, "spec": spec, "futureField": {} });
    let batch = mirror.take(watcher::Event::Apply(object(&value)));
    let mut fields = Vec::new();
    let mut found = None;
    for event in batch {
        match event {
            Event::Apply(Object::NetworkPolicy(policy)) => found = Some(policy),
            Event::Report(_, problems) => fields.extend(problems.into_iter().map(|it| it.field)),
            other => panic!("{other:?}"),
        }
    }
    (found.expect("a policy"), fields)
}

#[test]
fn a_future_field_closes_what_it_stands_in() {
    let peer = json!({ "podSelector": {} });
    let (open, fields) = policy(&json!({ "podSelector": {}, "ingress": [{ "from": [peer] }] }));
    assert_eq!(fields, [""; 0]);
    assert_eq!(open.id, NamespacedName::new("x", "p"));
    let peers = |policy: NetworkPolicy| policy.ingress.expect("isolated")[0].peers.clone();
    assert!(matches!(peers(open), Peers::Of(them) if them.len() == 1));

    let closed = json!({ "podSelector": {}, "serviceAccounts": ["a"] });
    let (closed, fields) = policy(&json!({ "podSelector": {}, "ingress": [{ "from": [closed] }] }));
    assert_eq!(fields, ["spec.ingress[0].from[0].serviceAccounts"]);
    assert_eq!(peers(closed), Peers::Of(Vec::new()), "nobody");

    let (sealed, fields) =
        policy(&json!({ "podSelector": {}, "ingress": [{}], "only": "weekdays" }));
    assert_eq!(fields, ["spec.only"]);
    assert_eq!(sealed.ingress.map(|rules| rules.len()), Some(0));
}

#[test]
fn legacy_addresses_are_read_for_what_they_mean() {
    let block = json!({ "ipBlock": { "cidr": "010.0.0.7/24" } });
    let (policy, fields) = policy(&json!({ "podSelector": {}, "ingress": [{ "from": [block] }] }));
    assert_eq!(fields, ["spec.ingress[0].from[0].ipBlock.cidr"]);
    let rules = policy.ingress.expect("ingress");
    assert!(matches!(&rules[0].peers, Peers::Of(them) if them.len() == 1));
}
