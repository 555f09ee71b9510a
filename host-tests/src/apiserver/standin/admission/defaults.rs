//! What an API server adds to objects.

use serde_json::{Value, json};

use crate::apiserver::resource::Resource;

/// Fills in what was left out.
pub(super) fn fill_in(resource: &Resource, object: &mut Value) {
    match resource.kind {
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            or(&mut object["status"], "phase", json!("Active"));
        }
        "Pod" => {
            or(&mut object["spec"], "restartPolicy", json!("Always"));
            or(&mut object["status"], "phase", json!("Pending"));
            for containers in ["containers", "initContainers"] {
                for container in items(&mut object["spec"], containers) {
                    each_protocol(container, "ports");
                }
            }
        }
        "Service" => {
            let spec = &mut object["spec"];
            or(spec, "type", json!("ClusterIP"));
            each_protocol(spec, "ports");
            for port in items(spec, "ports") {
                let number = port["port"].clone();
                or(port, "targetPort", number);
            }
            or(&mut object["status"], "loadBalancer", json!({}));
        }
        "EndpointSlice" => each_protocol(object, "ports"),
        "NetworkPolicy" => policy(&mut object["spec"]),
        _ => {}
    }
}

fn policy(spec: &mut Value) {
    if spec.is_null() {
        return;
    }
    or(spec, "podSelector", json!({}));
    if spec["policyTypes"].as_array().is_none_or(Vec::is_empty) {
        let has_egress = spec["egress"].as_array().is_some_and(|it| !it.is_empty());
        spec["policyTypes"] = if has_egress {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        };
    }
    for rules in ["ingress", "egress"] {
        for rule in items(spec, rules) {
            each_protocol(rule, "ports");
        }
    }
}

fn each_protocol(object: &mut Value, ports: &str) {
    for port in items(object, ports) {
        or(port, "protocol", json!("TCP"));
    }
}

fn or(object: &mut Value, field: &str, default: Value) {
    if object[field].is_null() {
        object[field] = default;
    }
}

/// The items of a list, none if there is no such list.
fn items<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
