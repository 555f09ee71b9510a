//! Creating, changing and deleting what a path names.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::StandIn;
use super::admission::{self, Unknown};
use super::request::Target;
use super::store::Key;
use crate::apiserver::answer::{Answer, Refusal};

pub(super) fn create(
    shared: &StandIn,
    target: &Target,
    body: &Value,
    unknown: Unknown,
) -> Answer<Arc<Value>> {
    let resource = target.resource;
    let mut object = admission::read(resource, body, unknown)?;
    let mut store = shared.store();
    let metadata = &mut object["metadata"];
    if metadata["name"].is_null()
        && let Some(prefix) = metadata["generateName"].as_str()
    {
        metadata["name"] = json!(format!("{prefix}{:05x}", store.serial()));
    }
    let Some(name) = metadata["name"].as_str().map(str::to_owned) else {
        let what = ["metadata.name: Required value: name or generateName is required".to_owned()];
        return Err(Refusal::invalid(resource.kind, "", &what));
    };
    if resource.namespaced {
        let namespace = target.namespace.as_deref().unwrap_or_default();
        if metadata["namespace"]
            .as_str()
            .is_some_and(|given| given != namespace)
        {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        metadata["namespace"] = json!(namespace);
        let exists = super::namespace(namespace);
        store.get(&exists)?;
    }
    admission::create(resource, &mut object, || store.serial())?;
    let created = store.create(target.key(&name)?, object)?;
    shared.announce(&store);
    Ok(created)
}

pub(super) fn change(
    shared: &StandIn,
    target: &Target,
    key: Key,
    unknown: Unknown,
    write: impl FnOnce(&mut Value) -> Answer<()>,
) -> Answer<Arc<Value>> {
    let mut store = shared.store();
    let before = Arc::clone(store.get(&key)?);
    let mut object = Value::clone(&before);
    write(&mut object)?;
    let mut object = admission::read(target.resource, &object, unknown)?;
    if target.status {
        admission::update_status(&before, &mut object);
    } else {
        admission::update(target.resource, &before, &mut object)?;
    }
    let changed = store.replace(key, object)?;
    shared.announce(&store);
    Ok(changed)
}

/// Deletes an object: a pod on a node when its kubelet says that it has ended, a namespace with all that
/// is in it, for no controller is there to do it.
pub(super) fn delete(shared: &StandIn, key: Key, grace: Option<u64>) -> Answer<Arc<Value>> {
    let mut store = shared.store();
    let before = Arc::clone(store.get(&key)?);
    let runs = before["spec"]["nodeName"].is_string()
        && !matches!(
            before["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
    if key.resource.kind == "Pod" && runs && grace != Some(0) {
        let mut object = Value::clone(&before);
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        object["metadata"]["deletionTimestamp"] = json!(now);
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace.unwrap_or(30));
        let terminating = store.replace(key, object)?;
        shared.announce(&store);
        return Ok(terminating);
    }
    if key.resource.kind == "Namespace" {
        for inside in store.inside(&key.name) {
            store.remove(inside)?;
        }
    }
    let removed = store.remove(key)?;
    shared.announce(&store);
    Ok(removed)
}
