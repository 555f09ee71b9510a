//! Events of `events.k8s.io/v1`: created there, kept and read as those of the core, as in a real server.

use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use super::admission::{self, Unknown};
use crate::apiserver::answer::{Answer, Refusal};

/// Checks an event and rewrites it as one of the core.
pub(super) fn to_core(event: &Value, unknown: Unknown) -> Answer<Value> {
    let event = admission::typed::<Event>(event, unknown)?;
    let wrong = check(&event);
    if !wrong.is_empty() {
        let name = event["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Refusal::invalid("Event", name, &wrong));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": event["metadata"],
        "involvedObject": event["regarding"],
        "related": event["related"],
        "eventTime": event["eventTime"],
        "series": event["series"],
        "reportingComponent": event["reportingController"],
        "reportingInstance": event["reportingInstance"],
        "action": event["action"],
        "reason": event["reason"],
        "message": event["note"],
        "type": event["type"],
    }))
}

/// What an API server would refuse: more than it demands of events of the core.
fn check(event: &Value) -> Vec<String> {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let mut wrong = Vec::new();
    if text("eventTime").is_empty() {
        wrong.push("eventTime: Required value".to_owned());
    }
    for field in [
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        match text(field).len() {
            0 => wrong.push(format!("{field}: Required value")),
            1..=128 => {}
            _ => wrong.push(format!(
                "{field}: Invalid value: can have at most 128 characters"
            )),
        }
    }
    if text("note").len() > 1024 {
        // By the name that it has in the core's events.
        wrong.push("message: Invalid value: can have at most 1024 characters".to_owned());
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        wrong.push("type: Invalid value: must be Normal or Warning".to_owned());
    }
    let namespace = |object: &Value| object["namespace"].as_str().map(str::to_owned);
    if namespace(&event["regarding"]) != namespace(&event["metadata"]) {
        wrong.push("regarding.namespace: Invalid value: does not match event.namespace".to_owned());
    }
    wrong
}
