//! What there is to be had, as clients ask for it before anything else.

use serde_json::{Value, json};

use crate::apiserver::resource::{RESOURCES, Resource};

/// Verbs of every resource.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// The groups that keep no objects of their own, with the one resource that each has.
const WRITE_ONLY: [(&str, &str, &str, &str, &str, bool); 2] = [
    (
        "authentication.k8s.io",
        "v1",
        "tokenreviews",
        "tokenreview",
        "TokenReview",
        false,
    ),
    ("events.k8s.io", "v1", "events", "event", "Event", true),
];

/// The answer for a path of discovery, if it is one.
pub(super) fn answer(path: &[&str]) -> Option<Value> {
    match path {
        ["version"] => Some(version()),
        ["healthz" | "livez" | "readyz"] => Some(json!("ok")),
        ["api"] => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        ["apis"] => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["api", "v1"] => resources("", "v1"),
        ["apis", name] => groups().into_iter().find(|(it, _)| it == name).map(group),
        ["apis", name, version] => resources(name, version),
        ["openapi", "v3"] => Some(openapi_index()),
        ["openapi", "v3", "api", "v1"] => Some(openapi("", "v1")),
        ["openapi", "v3", "apis", name, version] => Some(openapi(name, version)),
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "34",
        "gitVersion": "v1.34.0",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-08-27T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    })
}

/// All groups but the core, with their version.
fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<_> = RESOURCES
        .iter()
        .map(|it| (it.group, it.version))
        .filter(|(group, _)| !group.is_empty())
        .chain(WRITE_ONLY.iter().map(|it| (it.0, it.1)))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn group((name, version): (&str, &str)) -> Value {
    let version = json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": [version],
        "preferredVersion": version,
    })
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for it in of_group(group, version) {
        resources.push(json!({
            "name": it.plural,
            "singularName": it.singular,
            "namespaced": it.namespaced,
            "kind": it.kind,
            "verbs": VERBS,
            "shortNames": it.short_names,
        }));
        if it.has_status {
            resources.push(json!({
                "name": format!("{}/status", it.plural),
                "singularName": "",
                "namespaced": it.namespaced,
                "kind": it.kind,
                "verbs": ["get", "patch", "update"],
            }));
        }
    }
    for (of_group, of_version, plural, singular, kind, namespaced) in WRITE_ONLY {
        if (group, version) == (of_group, of_version) {
            resources.push(json!({
                "name": plural,
                "singularName": singular,
                "namespaced": namespaced,
                "kind": kind,
                "verbs": ["create"],
            }));
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        })
    })
}

fn of_group(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    RESOURCES
        .iter()
        .filter(move |it| (it.group, it.version) == (group, version))
}

fn openapi_index() -> Value {
    let mut paths = json!({});
    let core = std::iter::once("api/v1".to_owned());
    let groups = groups()
        .into_iter()
        .map(|(group, version)| format!("apis/{group}/{version}"));
    for path in core.chain(groups) {
        let url = format!("/openapi/v3/{path}?hash=1");
        paths[path] = json!({ "serverRelativeURL": url });
    }
    json!({ "paths": paths })
}

/// Without schemas: it only tells that fields are validated here, so that clients do not try to.
fn openapi(group: &str, version: &str) -> Value {
    let mut paths = json!({});
    for it in of_group(group, version) {
        let base = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let scope = if it.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let operation = json!({
            "x-kubernetes-group-version-kind":
                { "group": it.group, "version": it.version, "kind": it.kind },
            "parameters": [
                { "name": "fieldValidation", "in": "query", "schema": { "type": "string" } },
                { "name": "dryRun", "in": "query", "schema": { "type": "string" } },
            ],
            "responses": {},
        });
        let collection = format!("{base}{scope}/{}", it.plural);
        paths[format!("{collection}/{{name}}")] = json!({ "patch": operation, "put": operation });
        paths[collection] = json!({ "post": operation });
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.34.0" },
        "paths": paths,
        "components": { "schemas": {} },
    })
}
