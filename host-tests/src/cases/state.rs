//! The objects of a world as steps change them, and the files that say so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::spec::{self, Step, World};
use super::{Case, Error};

/// Objects by the file that holds them: one object a file, so that a change rewrites what it touches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    files: BTreeMap<String, Value>,
}

impl State {
    /// What a case begins with.
    ///
    /// # Errors
    ///
    /// [`Error::File`] names the file that cannot be read.
    pub fn of(case: &Case) -> Result<Self, Error> {
        match (&case.world, case.folder()) {
            (World::Objects(objects), _) => {
                let mut state = Self::default();
                state.put(objects);
                Ok(state)
            }
            (World::Folder(name), folder) => Self::read(&folder.unwrap_or_else(|| name.into())),
        }
    }

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
            state.put(&objects);
        }
        Ok(state)
    }

    /// Does what a step of a case says.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it changes or deletes what is not there.
    pub fn change(&mut self, case: &Case, step: &Step) -> Result<(), Error> {
        let unknown = |what: &str| Error::Unknown {
            case: case.to_string(),
            what: what.to_owned(),
        };
        for name in &step.delete {
            let (kind, id) = name.split_once(' ').unwrap_or(("NetworkPolicy", name));
            let removed = self.files.remove(&file(kind, id));
            removed.ok_or_else(|| unknown(name))?;
        }
        for (name, labels) in &step.relabel {
            let kind = if name.contains('/') {
                "Pod"
            } else {
                "Namespace"
            };
            let object = self.files.get_mut(&file(kind, name));
            let object = object.ok_or_else(|| unknown(name))?;
            merge(object, &json!({"metadata": {"labels": labels}}));
        }
        for (name, fields) in &step.patch {
            let (kind, id) = name.split_once(' ').unwrap_or((name, ""));
            let object = self.files.get_mut(&file(kind, id));
            merge(object.ok_or_else(|| unknown(name))?, fields);
        }
        self.put(&step.objects);
        for (name, spec) in &step.apply {
            let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
            self.put(&[json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": short, "namespace": namespace},
                "spec": spec,
            })]);
        }
        Ok(())
    }

    fn put(&mut self, objects: &[Value]) {
        for object in objects {
            let kind = object["kind"].as_str().unwrap_or_default();
            self.files.insert(file(kind, &id(object)), object.clone());
        }
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

    /// The pods that run, as `namespace/name`.
    #[must_use]
    pub fn pods(&self) -> Vec<String> {
        let runs = |pod: &&Value| {
            let phase = pod["status"]["phase"].as_str();
            !matches!(phase, Some("Succeeded" | "Failed")) && pod["status"]["podIPs"].is_array()
        };
        self.objects("Pod").filter(runs).map(id).collect()
    }

    /// The ranges that the pods of each node are from.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a range that is none.
    pub fn pod_cidrs(&self, case: &Case) -> Result<BTreeMap<String, Vec<IpNet>>, Error> {
        let mut ranges = BTreeMap::new();
        for node in self.objects("Node") {
            let written = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
            let parsed = written.map(|range| {
                let text = range.as_str().unwrap_or_default();
                text.parse().map_err(|_| Error::Unknown {
                    case: case.to_string(),
                    what: format!("range {range} of Node {}", id(node)),
                })
            });
            ranges.insert(id(node), parsed.collect::<Result<_, _>>()?);
        }
        Ok(ranges)
    }

    /// Objects of a kind.
    pub(super) fn objects<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.files
            .values()
            .filter(move |object| object["kind"] == kind)
    }
}

/// Merges fields into an object: null removes one (RFC 7386).
fn merge(into: &mut Value, fields: &Value) {
    let Value::Object(fields) = fields else {
        *into = fields.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            into.as_object_mut().map(|object| object.remove(key));
        } else {
            merge(&mut into[key], value);
        }
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

fn file(kind: &str, name: &str) -> String {
    format!("{kind}-{}.json", name.replace('/', "_"))
}

/// The Service that stands for a pod alone, by the names that upstream gives them.
pub(super) fn service_of(pod: &str) -> String {
    match pod.split_once('/') {
        Some((namespace, name)) => format!("{namespace}/s-{namespace}-{name}"),
        None => pod.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_merged_and_null_removes_one() {
        let mut pod =
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "status": {"phase": "Running"}});
        merge(
            &mut pod,
            &json!({"metadata": {"labels": {"a": null, "c": "3"}}, "status": {"phase": "Failed"}, "spec": {"nodeName": "n"}}),
        );
        assert_eq!(
            pod,
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "status": {"phase": "Failed"}, "spec": {"nodeName": "n"}})
        );
    }
}
