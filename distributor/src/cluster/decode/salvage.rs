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
    // How far the fields of metadata are indented; labels, which are further, may be called alike.
    let mut fields = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let indent = line.len() - line.trim_start().len();
        if indent == 0 {
            in_metadata = line.starts_with("metadata:");
            fields = None;
        } else if indent > *fields.get_or_insert(indent) {
            continue;
        }
        for (key, value) in entries(line) {
            match key {
                "kind" if indent == 0 => kind = Some(value),
                "namespace" if in_metadata => namespace = namespace.or(Some(value)),
                "name" if in_metadata => name = name.or(Some(value)),
                _ => {}
            }
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
pub(super) fn problem(place: &str, reason: &str, stand_in: Option<&NetworkPolicy>) -> Problem {
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

/// The keys and values of a line, in block style or in flow style.
fn entries(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let line = line.split(" #").next().unwrap_or_default();
    line.split(['{', ',', '}']).filter_map(|entry| {
        let (key, value) = entry.trim().split_once(':')?;
        Some((unquoted(key), unquoted(value)))
    })
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['"', '\''])
}
