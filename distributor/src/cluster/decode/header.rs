//! What every Kubernetes object starts with: version, kind and name.

use serde_json::Value;
use sidewall_policy::model::NamespacedName;

use super::nameless;
use crate::cluster::event::{Kind, ObjectRef};

/// Version, kind and name of an object, as far as they can be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
}

/// Whether an object is of a kind that we use.
#[derive(Debug)]
pub(super) enum Version {
    /// In the version that we read.
    Ours(Kind),
    /// In another version, or in one that is missing or misspelt.
    Unknown(Kind),
    /// Another API's NetworkPolicy, which somebody may believe to be enforced.
    Lookalike,
    /// A kind that verdicts do not depend on.
    Other,
    /// It has no kind.
    None,
}

impl Header {
    /// Reads what can be read. `defaults` fills in what items of a typed list leave out.
    pub(super) fn read(value: &Value, defaults: Option<&Self>) -> Self {
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            // A name such as 123 must be quoted, but it can be made out.
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::Bool(flag)) => Some(flag.to_string()),
            _ => None,
        };
        let metadata = value.get("metadata");
        let of_metadata = |key| text(metadata.and_then(|metadata| metadata.get(key)));
        let or_default = |given: Option<String>, default: fn(&Self) -> &Option<String>| {
            given.or_else(|| default(defaults?).clone())
        };
        Self {
            api_version: or_default(text(value.get("apiVersion")), |of| &of.api_version),
            kind: or_default(text(value.get("kind")), |of| &of.kind),
            name: of_metadata("name"),
            namespace: of_metadata("namespace"),
        }
    }

    /// For a list: what its items may leave out.
    pub(super) fn list(&self) -> Option<Self> {
        let kind = self.kind.as_deref()?;
        let of_items = kind.strip_suffix("List")?;
        if of_items.is_empty() {
            return Some(Self::default());
        }
        Kind::from_api(of_items)?;
        Some(Self {
            api_version: self.api_version.clone(),
            kind: Some(of_items.to_owned()),
            ..Self::default()
        })
    }

    /// Whether it is of a kind that we use, and in which version.
    pub(super) fn version(&self) -> Version {
        let Some(name) = self.kind.as_deref() else {
            return Version::None;
        };
        let Some(kind) = Kind::from_api(name) else {
            return Version::Other;
        };
        let given = self.api_version.as_deref().unwrap_or_default();
        if given == kind.api_version() {
            return Version::Ours(kind);
        }
        let (group, _) = given.split_once('/').unwrap_or_default();
        // Other APIs have kinds of these names as well: a Service of Knative, a NetworkPolicy of
        // Calico. Policies of the group `extensions` are today's, from before 1.16.
        match kind {
            Kind::NetworkPolicy if !matches!(group, "" | "networking.k8s.io" | "extensions") => {
                Version::Lookalike
            }
            Kind::NetworkPolicy => Version::Unknown(kind),
            _ if group == kind.group() || group.is_empty() => Version::Unknown(kind),
            _ => Version::Other,
        }
    }

    /// The identity of an object of this kind; `place` stands in for a name that is missing.
    pub(super) fn reference(&self, kind: Kind, place: &str) -> ObjectRef {
        let namespace = match self.namespace.as_deref() {
            _ if !kind.is_namespaced() => "",
            // `semantics A21`
            None => "default",
            Some(namespace) => namespace,
        };
        match self.name.as_deref() {
            Some(name) => ObjectRef::new(kind, NamespacedName::new(namespace, name)),
            None => nameless(kind, namespace, place),
        }
    }
}
