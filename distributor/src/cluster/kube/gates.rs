//! Which pods have a closed readiness gate, read off the same watch as the pods themselves.

use std::collections::BTreeMap;
use std::time::SystemTime;

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::Value;
use sidewall_policy::model::NamespacedName;

use crate::readiness::{CONDITION, Gate, Gates};

/// Keeps the list of closed gates as a watch of pods tells of them.
pub(super) struct GateWatch {
    gates: Gates,
    /// What a list has brought so far.
    listing: BTreeMap<NamespacedName, Gate>,
}

impl GateWatch {
    pub(super) fn new(gates: Gates) -> Self {
        Self {
            gates,
            listing: BTreeMap::new(),
        }
    }

    pub(super) fn see(&mut self, event: &Event<DynamicObject>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(pod) => {
                if let Some(gate) = closed(pod) {
                    self.listing.insert(name(pod), gate);
                }
            }
            Event::InitDone => self.gates.replace(std::mem::take(&mut self.listing)),
            Event::Apply(pod) => self.gates.set(&name(pod), closed(pod)),
            Event::Delete(pod) => self.gates.set(&name(pod), None),
        }
    }
}

fn name(pod: &DynamicObject) -> NamespacedName {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    NamespacedName::new(text(&metadata.namespace), text(&metadata.name))
}

/// The gate of a pod that has one and is not ended, as long as it is closed.
fn closed(pod: &DynamicObject) -> Option<Gate> {
    let fields = &pod.data;
    let items = |path: &str| fields.pointer(path).and_then(Value::as_array);
    let gates = items("/spec/readinessGates")?;
    if !gates.iter().any(|gate| gate["conditionType"] == CONDITION) {
        return None;
    }
    let opens = |condition: &Value| condition["type"] == CONDITION && condition["status"] == "True";
    if items("/status/conditions").is_some_and(|conditions| conditions.iter().any(opens)) {
        return None;
    }
    let phase = fields.pointer("/status/phase").and_then(Value::as_str);
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let ips = items("/status/podIPs").into_iter().flatten();
    let ips = ips.filter_map(|ip| ip["ip"].as_str()?.parse().ok());
    let created = pod.metadata.creation_timestamp.as_ref();
    Some(Gate {
        uid: pod.metadata.uid.as_deref()?.into(),
        created: created.map_or(SystemTime::UNIX_EPOCH, |time| time.0.into()),
        ips: ips.collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(gate: &str, condition: Option<&str>, phase: &str) -> DynamicObject {
        let conditions: Vec<Value> = condition
            .iter()
            .map(|status| json!({ "type": CONDITION, "status": status }))
            .collect();
        serde_json::from_value(json!({
            "metadata": { "namespace": "shop", "name": "web", "uid": "u1", "creationTimestamp": "1970-01-01T00:00:07Z" },
            "spec": { "readinessGates": [{ "conditionType": "other" }, { "conditionType": gate }] },
            "status": { "phase": phase, "conditions": conditions, "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
        }))
        .unwrap()
    }

    #[test]
    fn a_gate_is_closed_until_its_condition_is_true() {
        let expected = Gate {
            uid: "u1".into(),
            created: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7),
            ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        for condition in [None, Some("False"), Some("Unknown")] {
            let found = closed(&pod(CONDITION, condition, "Running"));
            assert_eq!(found.as_ref(), Some(&expected), "{condition:?}");
        }
        assert_eq!(closed(&pod(CONDITION, Some("True"), "Running")), None);
        assert_eq!(closed(&pod(CONDITION, None, "Succeeded")), None);
        assert_eq!(closed(&pod("another", None, "Running")), None);
    }
}
