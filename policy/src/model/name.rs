//! Names of namespaced objects.

use std::fmt;
use std::sync::Arc;

/// The identity of a namespaced object, printed as `namespace/name`.
///
/// Cheap to clone: the index holds the same names many times.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// The namespace the object lives in.
    pub namespace: Arc<str>,
    /// The object's own name.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// Joins a namespace and a name.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
