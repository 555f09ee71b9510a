//! Documents that are not YAML: is one a NetworkPolicy all the same?
//!
//! A policy with a slip of the keyboard in it must not leave its pods open. Nothing can be told of
//! such a document but, with luck, its kind and its name: enough to close its namespace until it is
//! mended. Used only while nothing better is known of the file.

use sidewall_policy::model::{NamespacedName, NetworkPolicy};

use super::policy;
use crate::cluster::event::{Kind, ObjectRef};
use crate::problem::Problem;

/// The policy that stands in for a document, if its text says that it is one.
pub(super) fn stand_in(text: &str, place: &str) -> Option<NetworkPolicy> {
    let mut kind = None;
    let mut namespace = None;
    let mut name = None;
    let mut in_metadata = false;
    for line in text.lines() {
        let indented = line.starts_with([' ', '\t']);
        let Some((key, value)) = entry(line) else {
            continue;
        };
        if !indented {
            in_metadata = key == "metadata";
        }
        match key {
            "kind" if !indented => kind = Some(value),
            "namespace" if indented && in_metadata => namespace = Some(value),
            "name" if indented && in_metadata => name = Some(value),
            _ => {}
        }
    }
    if kind != Some(Kind::NetworkPolicy.as_str()) {
        return None;
    }
    let namespace = namespace.filter(|ns| !ns.is_empty()).unwrap_or("default");
    let name = match name {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("({place})"),
    };
    Some(policy::sealed(NamespacedName::new(namespace, name)))
}

/// Says what is wrong with a document and what comes of it.
pub(super) fn problem(place: &str, reason: String, stand_in: Option<&NetworkPolicy>) -> Problem {
    let kept = "what was read of it before stays in force";
    let (object, consequence) = match stand_in {
        None => (place.to_owned(), kept.to_owned()),
        Some(policy) => {
            let object = ObjectRef::new(Kind::NetworkPolicy, policy.id.clone());
            (
                object.to_string(),
                format!("{kept}; if nothing was, {}", policy::SEALED),
            )
        }
    };
    Problem {
        object,
        field: String::new(),
        reason: format!("{place} is not valid YAML: {reason}"),
        consequence,
    }
}

/// The key and the value of a line of a block mapping.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim().split_once(':')?;
    let value = value.split(" #").next().unwrap_or_default();
    Some((key.trim(), value.trim().trim_matches(['"', '\''])))
}
