//! Objects as an API server keeps them: it has refused what is wrong and dropped what it does not know.
//!
//! A field that *we* do not know is one of a newer API server. It means nothing here, but in the spec of a
//! NetworkPolicy: there it may narrow what the rest allows, and what it stands in fails closed, as in a
//! manifest ([`policy`]). Old objects may hold what is refused today (`semantics D5`); those are read
//! piece by piece, as well.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sidewall_policy::model::NamespacedName;

use super::{policy, strict, unread};
use crate::cluster::convert;
use crate::cluster::event::{Kind, Object, ObjectRef};
use crate::cluster::report::Report;
use crate::problem::Problem;

/// What an object comes to.
#[derive(Debug)]
pub(in crate::cluster) struct Stored {
    pub(in crate::cluster) reference: ObjectRef,
    /// `None` when it cannot be read.
    pub(in crate::cluster) object: Option<Object>,
    pub(in crate::cluster) problems: Vec<Problem>,
}

/// Reads an object: its metadata, and everything else.
pub(in crate::cluster) fn stored(kind: Kind, metadata: ObjectMeta, fields: Value) -> Stored {
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let reference = ObjectRef::new(kind, NamespacedName::new(namespace, name));
    let mut report = Report::new(&reference);
    let object = read(&reference, metadata, fields, &mut report);
    Stored {
        reference,
        object,
        problems: report.into_problems(),
    }
}

fn read(
    reference: &ObjectRef,
    metadata: ObjectMeta,
    mut fields: Value,
    report: &mut Report,
) -> Option<Object> {
    let id = reference.id.clone();
    let name = reference.id.name.as_ref();
    let kind = reference.kind;
    let object = match kind {
        Kind::Namespace => {
            let raw = typed(kind, metadata, &fields, report)?;
            Object::Namespace(convert::namespace(name, &raw, report))
        }
        Kind::Node => {
            let raw = typed(kind, metadata, &fields, report)?;
            Object::Node(convert::node(name, &raw, report))
        }
        Kind::Pod => {
            let raw = typed(kind, metadata, &fields, report)?;
            Object::Pod(convert::pod(id, &raw, report))
        }
        Kind::Service => {
            let raw = typed(kind, metadata, &fields, report)?;
            Object::Service(convert::service(id, &raw, report))
        }
        Kind::EndpointSlice => {
            let raw = typed(kind, metadata, &fields, report)?;
            Object::EndpointSlice(convert::endpoint_slice(id, &raw, report))
        }
        Kind::NetworkPolicy => {
            let value = json!({
                "metadata": {
                    "namespace": metadata.namespace,
                    "annotations": metadata.annotations,
                },
                "spec": fields["spec"].take(),
            });
            Object::NetworkPolicy(policy::read(&value, id, report).0)
        }
    };
    Some(object)
}

/// Reads everything but the metadata as a `k8s-openapi` type, and adds those.
fn typed<T>(kind: Kind, metadata: ObjectMeta, fields: &Value, report: &mut Report) -> Option<T>
where
    T: DeserializeOwned + Metadata<Ty = ObjectMeta>,
{
    match strict::decode::<T>(fields, "") {
        Ok((mut object, _unknown)) => {
            *object.metadata_mut() = metadata;
            Some(object)
        }
        Err(flaw) => {
            report.add(flaw.field, flaw.reason, unread(kind));
            None
        }
    }
}
