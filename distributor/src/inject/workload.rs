//! Where the pods are in an object.

use super::tree::Tree;
use super::{Error, Parts, Skipped, pod};

/// Adds a sidecar to every pod of an object, or of every object in a List. Objects without pods are left
/// as they are.
pub(super) fn inject(
    object: &mut Tree,
    parts: &Parts,
    skipped: &mut Vec<Skipped>,
) -> Result<(), Error> {
    let text = |field: &str| object.get(field).and_then(Tree::text).unwrap_or_default();
    let path: &[&str] = match (text("apiVersion"), text("kind")) {
        ("v1", "List") => {
            if let Some(Tree::List(items)) = object.get_mut("items") {
                for item in items {
                    inject(item, parts, skipped)?;
                }
            }
            return Ok(());
        }
        ("v1", "Pod") => &[],
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job") => &["spec", "template"],
        ("batch/v1", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return Ok(()),
    };
    let name = describe(object);
    let found = path
        .iter()
        .try_fold(object, |tree, field| tree.get_mut(field));
    // An API server refuses a workload without a template; that is not for this to say.
    let Some(template) = found.filter(|template| template.get("spec").is_some()) else {
        return Ok(());
    };
    if let Some(reason) = pod::reason_to_skip(template) {
        skipped.push(Skipped {
            object: name,
            reason,
        });
        return Ok(());
    }
    pod::check(template, &name)?;
    pod::inject(template, parts);
    Ok(())
}

/// `Deployment shop/web`.
fn describe(object: &Tree) -> String {
    let metadata = |field| object.at(&["metadata", field]).and_then(Tree::text);
    let kind = object.get("kind").and_then(Tree::text).unwrap_or_default();
    let name = metadata("name").or(metadata("generateName"));
    let name = name.unwrap_or("without a name");
    match metadata("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
