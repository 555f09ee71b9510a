//! The objects of a world as steps change them, and the files that say so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::spec::{self, Step};
use super::{Case, Error};

/// Objects by the file that holds them: one object a file, so that a change rewrites what it touches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    files: BTreeMap<String, Value>,
}

impl State {
    /// Reads the manifests of a folder.
    ///
    /// # Errors
    ///
    /// [`Error::File`] names the file that cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let mut state = Self::default();
        for path in spec::files(folder)? {
            let error = |reason: String| Error::File {
                path: path.clone(),
                reason,
            };
            let text = fs::read_to_string(&path).map_err(|source| error(source.to_string()))?;
            let objects: Vec<Value> =
                serde_saphyr::from_multiple(&text).map_err(|source| error(source.to_string()))?;
            for object in objects {
                state.files.insert(file_of(&object), object);
            }
        }
        Ok(state)
    }

    /// Does what a step of a case says.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it changes or deletes what is not there.
    pub fn change(&mut self, case: &Case, step: &Step) -> Result<(), Error> {
        let unknown = |what: String| Error::Unknown {
            case: case.number,
            what,
        };
        for name in &step.delete {
            let removed = self.files.remove(&file("NetworkPolicy", name));
            removed.ok_or_else(|| unknown(format!("NetworkPolicy {name}")))?;
        }
        for (name, labels) in &step.relabel {
            let kind = if name.contains('/') {
                "Pod"
            } else {
                "Namespace"
            };
            let object = self.files.get_mut(&file(kind, name));
            let object = object.ok_or_else(|| unknown(format!("{kind} {name}")))?;
            for (key, value) in labels {
                object["metadata"]["labels"][key] = json!(value);
            }
        }
        for (name, spec) in &step.apply {
            let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": short, "namespace": namespace},
                "spec": spec,
            });
            self.files.insert(file("NetworkPolicy", name), policy);
        }
        Ok(())
    }

    /// Every file with its content. JSON is YAML.
    pub fn files(&self) -> impl Iterator<Item = (&str, String)> {
        self.files
            .iter()
            .map(|(name, object)| (name.as_str(), object.to_string()))
    }

    /// Files of `self` that are new or other than in `old`, and those that only `old` has.
    pub(super) fn since<'a>(&'a self, old: &'a Self) -> (Vec<(&'a str, String)>, Vec<&'a str>) {
        let changed = self.files.iter();
        let changed = changed.filter(|(name, object)| old.files.get(*name) != Some(object));
        let gone = old
            .files
            .keys()
            .filter(|name| !self.files.contains_key(*name));
        (
            changed
                .map(|(name, object)| (name.as_str(), object.to_string()))
                .collect(),
            gone.map(String::as_str).collect(),
        )
    }

    /// The pods, as `namespace/name`.
    #[must_use]
    pub fn pods(&self) -> Vec<String> {
        self.objects("Pod").map(id).collect()
    }

    /// Objects of a kind.
    pub(super) fn objects<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.files
            .values()
            .filter(move |object| object["kind"] == kind)
    }
}

/// `namespace/name`, or the name of what has no namespace.
pub(super) fn id(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn file_of(object: &Value) -> String {
    file(object["kind"].as_str().unwrap_or_default(), &id(object))
}

fn file(kind: &str, name: &str) -> String {
    format!("{kind}-{}.json", name.replace('/', "-"))
}

/// The Service that stands for a pod alone, by the names that upstream gives them.
pub(super) fn service_of(pod: &str) -> String {
    match pod.split_once('/') {
        Some((namespace, name)) => format!("{namespace}/s-{namespace}-{name}"),
        None => pod.to_owned(),
    }
}
