//! Namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use sidewall_policy::model::{Labels, Mode, Namespace};

/// The namespaces whose objects are known (`semantics B10`).
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    by_name: BTreeMap<Arc<str>, Namespace>,
}

/// What is different about a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Its labels, or whether they are known.
    pub(super) labels: bool,
    /// Whether its policies are enforced.
    pub(super) mode: bool,
    /// Who carries the TCP of its pods.
    pub(super) tcp_path: bool,
}

impl Namespaces {
    /// Adds, replaces or removes a namespace.
    pub(super) fn set(&mut self, name: &Arc<str>, namespace: Option<Namespace>) -> Changed {
        let old = match namespace {
            Some(namespace) => self.by_name.insert(Arc::clone(name), namespace),
            None => self.by_name.remove(name),
        };
        let (old, new) = (old.as_ref(), self.get(name));
        let mode = |namespace: Option<&Namespace>| namespace.map_or(Mode::Enforce, |ns| ns.mode);
        let tcp_path = |namespace: Option<&Namespace>| namespace.and_then(|ns| ns.tcp_path);
        Changed {
            labels: old.map(|ns| &ns.labels) != new.map(|ns| &ns.labels),
            mode: mode(old) != mode(new),
            tcp_path: tcp_path(old) != tcp_path(new),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Namespace> {
        self.by_name.get(name)
    }

    /// The labels of a namespace's object.
    pub(super) fn labels(&self, name: &str) -> Option<&Labels> {
        self.get(name).map(|namespace| &namespace.labels)
    }

    pub(super) fn all(&self) -> &BTreeMap<Arc<str>, Namespace> {
        &self.by_name
    }
}
