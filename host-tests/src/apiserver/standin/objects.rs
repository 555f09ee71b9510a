//! What users, kubelets and controllers do to objects, past the paths of the API.

use serde_json::Value;

use super::StandIn;
use super::admission::Unknown;
use super::request::Target;
use super::write::{change, create, delete};
use crate::apiserver::answer::Refusal;
use crate::apiserver::place::Place;

/// Creates or replaces an object together with its status.
pub(in crate::apiserver) fn put(shared: &StandIn, object: &Value) -> Result<(), String> {
    let target = target(object)?;
    let put = || {
        let key = target.key(target.name.as_deref().unwrap_or_default())?;
        let exists = shared.store().get(&key).is_ok();
        if exists {
            let write = |current: &mut Value| {
                *current = object.clone();
                Ok(())
            };
            change(shared, &target, key, Unknown::Refused, write)
        } else {
            create(shared, &target, object, Unknown::Refused)
        }
    };
    put().map_err(|refusal| refusal.message)?;
    if target.resource.has_status && !object["status"].is_null() {
        put_status(shared, object)?;
    }
    Ok(())
}

/// Writes the status of an object.
pub(in crate::apiserver) fn put_status(shared: &StandIn, object: &Value) -> Result<(), String> {
    let target = Target {
        status: true,
        ..target(object)?
    };
    let put = || {
        let key = target.key(target.name.as_deref().unwrap_or_default())?;
        let write = |current: &mut Value| {
            current["status"] = object["status"].clone();
            Ok(())
        };
        change(shared, &target, key, Unknown::Refused, write)
    };
    put().map(drop).map_err(|refusal: Refusal| refusal.message)
}

/// Creates or replaces an object without looking at it.
pub(in crate::apiserver) fn put_unchecked(shared: &StandIn, object: &Value) -> Result<(), String> {
    let target = target(object)?;
    let put = || {
        let key = target.key(target.name.as_deref().unwrap_or_default())?;
        let mut store = shared.store();
        if store.get(&key).is_ok() {
            store.replace(key, object.clone())?;
        } else {
            store.create(key, object.clone())?;
        }
        shared.announce(&store);
        Ok(())
    };
    put().map_err(|refusal: Refusal| refusal.message)
}

/// Removes an object at once.
pub(in crate::apiserver) fn remove(shared: &StandIn, object: &Value) -> Result<(), String> {
    let target = target(object)?;
    let key = target.key(target.name.as_deref().unwrap_or_default());
    let removed = key.and_then(|key| delete(shared, key, Some(0)));
    removed.map(drop).map_err(|refusal| refusal.message)
}

fn target(object: &Value) -> Result<Target, String> {
    let Place {
        resource,
        namespace,
        name,
    } = Place::of(object)?;
    Ok(Target {
        resource,
        namespace: resource.namespaced.then_some(namespace),
        name: Some(name),
        status: false,
    })
}
