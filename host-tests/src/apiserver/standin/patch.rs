//! Patches, of the three types that `kubectl` and controllers send.

use serde_json::{Map, Value};

use crate::apiserver::answer::{Answer, Refusal};
use crate::apiserver::resource::Resource;

/// Applies a patch of a media type.
pub(super) fn apply(
    resource: &Resource,
    kind: &str,
    body: &[u8],
    object: &mut Value,
) -> Answer<()> {
    let malformed = |error: serde_json::Error| Refusal::bad_request(format!("{kind}: {error}"));
    let read = || serde_json::from_slice::<Value>(body).map_err(malformed);
    match kind {
        "application/merge-patch+json" => json_patch::merge(object, &read()?),
        "application/strategic-merge-patch+json" => merge(resource, "", object, read()?),
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(body).map_err(malformed)?;
            let applied = json_patch::patch(object, &patch);
            applied.map_err(|error| Refusal::bad_request(error.to_string()))?;
        }
        other => return Err(Refusal::unsupported_media(other)),
    }
    Ok(())
}

/// By which field the items of a list are told apart; `None` for lists that are replaced as a whole.
fn merge_key(resource: &Resource, list: &str) -> Option<&'static str> {
    match (resource.kind, list) {
        (_, "ownerReferences") => Some("uid"),
        (_, "conditions") => Some("type"),
        (
            "Pod",
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "volumes"
            | "env"
            | "imagePullSecrets",
        )
        | ("ServiceAccount", "secrets" | "imagePullSecrets") => Some("name"),
        ("Pod", "readinessGates") => Some("conditionType"),
        ("Pod", "volumeMounts") => Some("mountPath"),
        ("Pod", "ports") => Some("containerPort"),
        ("Pod", "podIPs" | "hostIPs") => Some("ip"),
        ("Service", "ports") => Some("port"),
        ("Node", "addresses") => Some("type"),
        _ => None,
    }
}

/// A strategic merge: like a JSON merge, but some lists are merged item by item, and keys that begin
/// with `$` say more than values could.
fn merge(resource: &Resource, field: &str, target: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => merge_object(resource, target, fields),
        Value::Array(items) => match merge_key(resource, field) {
            Some(key) => merge_list(resource, target, key, items),
            None if field == "finalizers" => add_all(target, items),
            None => *target = Value::Array(items),
        },
        other => *target = other,
    }
}

fn merge_object(resource: &Resource, target: &mut Value, mut patch: Map<String, Value>) {
    if patch.remove("$patch").is_some_and(|how| how == "replace") {
        *target = Value::Object(patch);
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else {
        return;
    };
    if let Some(Value::Array(kept)) = patch.remove("$retainKeys") {
        fields.retain(|key, _| kept.iter().any(|it| it == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), &value)
            {
                items.retain(|item| !gone.contains(item));
            }
        } else if key.starts_with("$setElementOrder/") {
            // The order of these lists means nothing.
        } else if value.is_null() {
            fields.remove(&key);
        } else {
            let slot = fields.entry(key.as_str()).or_insert(Value::Null);
            merge(resource, &key, slot, value);
        }
    }
}

fn merge_list(resource: &Resource, target: &mut Value, key: &str, patch: Vec<Value>) {
    let replaces = |item: &Value| item["$patch"] == "replace";
    if patch.iter().any(replaces) {
        let items = patch.into_iter().filter(|item| !replaces(item));
        *target = Value::Array(items.collect());
        return;
    }
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Value::Array(items) = target else { return };
    for item in patch {
        let place = items.iter().position(|each| each[key] == item[key]);
        match (place, item["$patch"] == "delete") {
            (Some(place), true) => {
                items.remove(place);
            }
            (None, true) => {}
            (Some(place), false) => merge(resource, "", &mut items[place], item),
            (None, false) => {
                let mut added = Value::Null;
                merge(resource, "", &mut added, item);
                items.push(added);
            }
        }
    }
}

/// For lists of plain values that are sets.
fn add_all(target: &mut Value, values: Vec<Value>) {
    match target {
        Value::Array(items) => {
            for value in values {
                if !items.contains(&value) {
                    items.push(value);
                }
            }
        }
        other => *other = Value::Array(values),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strategic(kind: &str, mut object: Value, patch: Value) -> Value {
        let resource = crate::apiserver::resource::RESOURCES
            .iter()
            .find(|it| it.kind == kind)
            .unwrap();
        merge(resource, "", &mut object, patch);
        object
    }

    #[test]
    fn containers_are_merged_by_name_and_ports_by_number() {
        let pod = json!({ "spec": { "containers": [
            { "name": "a", "image": "x", "ports": [{ "containerPort": 80, "name": "http" }] },
            { "name": "b", "image": "y" },
        ] } });
        let patch = json!({ "spec": {
            "$setElementOrder/containers": [{ "name": "a" }],
            "containers": [
                { "name": "a", "ports": [{ "containerPort": 80, "name": "web" }, { "containerPort": 81 }] },
                { "$patch": "delete", "name": "b" },
            ],
        } });
        let merged = json!({ "spec": { "containers": [
            { "name": "a", "image": "x", "ports": [{ "containerPort": 80, "name": "web" }, { "containerPort": 81 }] },
        ] } });
        assert_eq!(strategic("Pod", pod, patch), merged);
    }

    #[test]
    fn conditions_are_merged_by_type() {
        let pod = json!({ "status": { "phase": "Running", "conditions": [
            { "type": "one", "status": "True" },
            { "type": "two", "status": "False" },
        ] } });
        let patch = json!({ "status": { "conditions": [{ "type": "two", "status": "True" }, { "type": "three" }] } });
        let merged = json!({ "status": { "phase": "Running", "conditions": [
            { "type": "one", "status": "True" },
            { "type": "two", "status": "True" },
            { "type": "three" },
        ] } });
        assert_eq!(strategic("Pod", pod, patch), merged);
    }

    #[test]
    fn rules_of_policies_are_replaced_as_a_whole() {
        let policy = json!({ "spec": { "ingress": [{ "ports": [{ "port": 80 }] }], "policyTypes": ["Ingress"] } });
        let patch =
            json!({ "spec": { "ingress": [{ "ports": [{ "port": 81 }] }], "policyTypes": null } });
        let merged = json!({ "spec": { "ingress": [{ "ports": [{ "port": 81 }] }] } });
        assert_eq!(strategic("NetworkPolicy", policy, patch), merged);
    }

    #[test]
    fn keys_are_kept_or_taken_away() {
        let object =
            json!({ "metadata": { "finalizers": ["a", "b"] }, "spec": { "x": 1, "y": 2 } });
        let patch = json!({
            "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"] },
            "spec": { "$retainKeys": ["y"], "y": 3 },
        });
        let merged = json!({ "metadata": { "finalizers": ["b", "c"] }, "spec": { "y": 3 } });
        assert_eq!(strategic("Node", object, patch), merged);
    }
}
