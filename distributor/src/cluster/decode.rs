//! From documents to objects, strictly: nothing that is written down is passed over in silence.
//! Objects of an API server are read more leniently: [`stored`](mod@stored).
//!
//! | what is wrong                         | what becomes of it                                      |
//! |---------------------------------------|---------------------------------------------------------|
//! | a field nobody knows                  | reported; the object is in force without it             |
//! | the same in a NetworkPolicy           | reported; what it stands in fails closed, see [`policy`]|
//! | a field of the wrong type, a key twice| reported; the object is not used, a NetworkPolicy closes|
//! | the same in a Service, EndpointSlice  | reported; what was read of it before stays in force     |
//! | another version of a kind we use      | reported; not used, a NetworkPolicy closes              |
//! | kinds that we do not use              | ignored                                                 |
//!
//! "Closes" means: it isolates the pods it may have been meant for, and allows nothing.

mod header;
mod policy;
mod salvage;
mod stored;
mod strict;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sidewall_policy::admit::Surprise;
use sidewall_policy::model::NamespacedName;

use super::convert;
use super::event::{Kind, Object, ObjectRef};
use super::report::Report;
use super::yaml::{self, Content};
use crate::problem::Problem;
use header::{Header, Version};
pub(super) use stored::{Stored, stored};

/// What becomes of an object that cannot be read.
const fn unread(kind: Kind) -> &'static str {
    if kind.outlives_errors() {
        "what was read of it before stays in force; if nothing was, it is not used"
    } else {
        "the object is not used"
    }
}

const NAMELESS: &str = "Required value: a name is required";

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Its objects, in the order of the file.
    pub(super) objects: Vec<Object>,
    /// Objects that it names and that cannot be read.
    pub(super) unread: Vec<ObjectRef>,
    /// What is wrong with them.
    pub(super) problems: Vec<Problem>,
    /// What is right and may not be what was meant.
    pub(super) surprises: Vec<(ObjectRef, Surprise)>,
    /// Objects made up for documents that are not YAML: they stand in for policies that are not
    /// known any better.
    pub(super) stand_ins: Vec<Object>,
    /// Every document is YAML. Otherwise objects that the file held before may still be meant.
    pub(super) whole: bool,
}

/// Whether for a problem a NetworkPolicy as a whole allows nothing.
pub(super) fn closes_policy(problem: &Problem) -> bool {
    matches!(
        problem.consequence.as_str(),
        policy::CLOSED | policy::SEALED
    )
}

/// Reads all objects of a file; `name` is how problems call it.
pub(super) fn file(name: &str, text: &str) -> Loaded {
    let mut loaded = Loaded {
        whole: true,
        ..Loaded::default()
    };
    for document in yaml::documents(text) {
        let place = format!("{name} document {}", document.number);
        match document.content {
            Content::Value(value) => item(value, None, None, &place, &mut loaded),
            Content::Ambiguous(value, why) => item(value, Some(&why), None, &place, &mut loaded),
            Content::Broken(why) => {
                loaded.whole = false;
                let stand_in = salvage::stand_in(document.text, &place);
                loaded
                    .problems
                    .push(salvage::problem(&place, &why, stand_in.as_ref()));
                loaded.stand_ins.extend(stand_in.map(Object::NetworkPolicy));
            }
        }
    }
    loaded
}

/// Reads one object, or every object of a list. Items of a typed list may leave out what the list's
/// own kind says: `defaults`.
fn item(
    value: Value,
    ambiguous: Option<&str>,
    defaults: Option<&Header>,
    place: &str,
    loaded: &mut Loaded,
) {
    if value.is_null() {
        return;
    }
    let header = Header::read(&value, defaults);
    if let Some(of_items) = header.list() {
        let Value::Object(mut list) = value else {
            return;
        };
        let Some(Value::Array(items)) = list.remove("items") else {
            return;
        };
        for (i, value) in items.into_iter().enumerate() {
            let place = format!("{place} items[{i}]");
            item(value, ambiguous, Some(&of_items), &place, loaded);
        }
        return;
    }
    let mut report = Report::new(place);
    match header.version() {
        Version::Ours(kind) => {
            object(kind, &header, &value, ambiguous, place, loaded);
        }
        Version::Unknown(kind) => {
            let reference = header.reference(kind, place);
            let mut report = Report::new(&reference);
            let given = header.api_version.as_deref().unwrap_or_default();
            let reason = format!("{given:?} is not supported, write {:?}", kind.api_version());
            if kind == Kind::NetworkPolicy {
                report.add("apiVersion", reason, policy::CLOSED);
                let closed = policy::closed(&value, reference.id);
                loaded.objects.push(Object::NetworkPolicy(closed));
            } else {
                report.add("apiVersion", reason, unread(kind));
                loaded.unread.push(reference);
            }
            loaded.problems.extend(report.into_problems());
        }
        Version::Lookalike => {
            let given = header.api_version.as_deref().unwrap_or_default();
            report.add(
                "apiVersion",
                format!("NetworkPolicy of {given:?} is not a Kubernetes NetworkPolicy"),
                "it is not enforced by Sidewall",
            );
        }
        Version::Other => tracing::debug!(place, kind = ?header.kind, "ignoring an unused kind"),
        Version::None => report.add("kind", "Required value", "the document is not used"),
    }
    loaded.problems.extend(report.into_problems());
}

/// Reads an object of a kind and version that we use.
fn object(
    kind: Kind,
    header: &Header,
    value: &Value,
    ambiguous: Option<&str>,
    place: &str,
    loaded: &mut Loaded,
) {
    let reference = header.reference(kind, place);
    let mut report = Report::new(&reference);
    let object = match (&header.name, ambiguous) {
        (None, _) if kind != Kind::NetworkPolicy => {
            report.add("metadata.name", NAMELESS, "the object is not used");
            None
        }
        (_, Some(why)) if kind != Kind::NetworkPolicy => {
            report.add("", why, unread(kind));
            None
        }
        (name, ambiguous) => {
            if name.is_none() {
                let consequence = "it is in force under its place in the file";
                report.add("metadata.name", NAMELESS, consequence);
            }
            match ambiguous {
                Some(why) => {
                    report.add("", why, policy::SEALED);
                    Some(Object::NetworkPolicy(policy::sealed(reference.id.clone())))
                }
                None => unambiguous(&reference, value, &mut report, &mut loaded.surprises),
            }
        }
    };
    match object {
        Some(object) => loaded.objects.push(object),
        None => loaded.unread.push(reference),
    }
    loaded.problems.extend(report.into_problems());
}

fn unambiguous(
    reference: &ObjectRef,
    value: &Value,
    report: &mut Report,
    surprises: &mut Vec<(ObjectRef, Surprise)>,
) -> Option<Object> {
    let name = reference.id.name.as_ref();
    let id = reference.id.clone();
    let kind = reference.kind;
    match kind {
        Kind::Namespace => typed(kind, value, report)
            .map(|raw| Object::Namespace(convert::namespace(name, &raw, report))),
        Kind::Node => {
            typed(kind, value, report).map(|raw| Object::Node(convert::node(name, &raw, report)))
        }
        Kind::Pod => {
            typed(kind, value, report).map(|raw| Object::Pod(convert::pod(id, &raw, report)))
        }
        Kind::Service => typed(kind, value, report)
            .map(|raw| Object::Service(convert::service(id, &raw, report))),
        Kind::EndpointSlice => typed(kind, value, report)
            .map(|raw| Object::EndpointSlice(convert::endpoint_slice(id, &raw, report))),
        Kind::NetworkPolicy => {
            let (policy, surprising) = policy::read(value, id, report);
            let about = |surprise| (reference.clone(), surprise);
            surprises.extend(surprising.into_iter().map(about));
            Some(Object::NetworkPolicy(policy))
        }
    }
}

/// Reads a whole object of a `k8s-openapi` type.
fn typed<T: DeserializeOwned>(kind: Kind, value: &Value, report: &mut Report) -> Option<T> {
    match strict::decode::<T>(value, "") {
        Ok((object, unknown)) => {
            for field in unknown {
                report.add(
                    field,
                    strict::UNKNOWN,
                    "the object is in force without this field",
                );
            }
            Some(object)
        }
        Err(flaw) => {
            report.add(flaw.field, flaw.reason, unread(kind));
            None
        }
    }
}

/// The object a problem is about when its own name is not known.
fn nameless(kind: Kind, namespace: &str, place: &str) -> ObjectRef {
    let id = NamespacedName::new(namespace, format!("({place})"));
    ObjectRef::new(kind, id)
}
