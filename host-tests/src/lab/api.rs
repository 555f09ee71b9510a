//! The API server of a lab whose distributor follows one: manifests reach it by `kubectl`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;

use super::{Error, lock};
use crate::apiserver::{ApiServer, Kubectl};
use crate::net::{CONTROL_V4, Netns};

/// Where it listens on the control host, for the whole lab.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(CONTROL_V4), 6443);

/// The server, `kubectl`, and which objects the manifest files stand for.
#[derive(Debug)]
pub(super) struct Api {
    server: ApiServer,
    kubectl: Kubectl,
    files: Mutex<BTreeMap<String, Vec<Value>>>,
}

impl Api {
    /// Starts an empty one on the control host.
    pub(super) fn start(control: &Netns) -> Result<Self, Error> {
        let server = ApiServer::start_at(ADDRESS, Some(control.clone()))?;
        let kubectl = Kubectl::new(&server.kubeconfig(), Some(control.clone()))?;
        Ok(Self {
            server,
            kubectl,
            files: Mutex::default(),
        })
    }

    pub(super) fn server(&self) -> &ApiServer {
        &self.server
    }

    pub(super) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// What leads the distributor to it.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.kubectl.kubeconfig()
    }

    /// Applies a manifest file, and deletes what an earlier one of that name held and this one does not.
    pub(super) fn write(&self, file: &str, yaml: &str) -> Result<(), Error> {
        let objects = objects(yaml).map_err(|source| Error::Manifest {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        let mut files = lock(&self.files);
        let before = files.insert(file.to_owned(), objects.clone());
        let gone = before.into_iter().flatten();
        let gone = gone.filter(|old| objects.iter().all(|new| identity(new) != identity(old)));
        self.delete(&gone.collect::<Vec<_>>())?;
        self.apply(&objects)
    }

    /// Deletes what a manifest file holds.
    pub(super) fn remove(&self, file: &str) -> Result<(), Error> {
        let objects = lock(&self.files).remove(file);
        let objects = objects.ok_or_else(|| Error::Unknown(format!("manifest {file}")))?;
        self.delete(&objects)
    }

    /// Every object as one manifest.
    pub(super) fn dump(&self) -> Result<String, Error> {
        Ok(documents(&self.server.objects()?))
    }

    /// What users write by `kubectl`; what kubelets and controllers do by themselves: the status.
    fn apply(&self, objects: &[Value]) -> Result<(), Error> {
        if !objects.is_empty() {
            self.kubectl.apply(&documents(objects))?;
        }
        for object in objects.iter().filter(|object| !object["status"].is_null()) {
            self.server.put_status(object)?;
        }
        Ok(())
    }

    fn delete(&self, objects: &[Value]) -> Result<(), Error> {
        if !objects.is_empty() {
            let delete = ["delete", "--force", "--grace-period=0", "-f", "-"];
            self.kubectl.run_with(&delete, &documents(objects))?;
        }
        Ok(())
    }
}

/// One document each: of a List `kubectl` would want to know the schema. With a marker in front of the
/// first one, or it takes them for a stream of JSON.
fn documents(objects: &[Value]) -> String {
    let documents = objects.iter().map(|object| format!("---\n{object}\n"));
    documents.collect()
}

fn identity(object: &Value) -> [&Value; 3] {
    let metadata = &object["metadata"];
    [&object["kind"], &metadata["namespace"], &metadata["name"]]
}

/// The objects of a file, namespaces first, as they are needed.
fn objects(yaml: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    let mut objects: Vec<Value> = documents
        .into_iter()
        .filter(|document| !document.is_null())
        .flat_map(|mut document| match document["items"].take() {
            Value::Array(items) => items,
            _ => {
                if let Value::Object(fields) = &mut document {
                    fields.remove("items");
                }
                vec![document]
            }
        })
        .collect();
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    Ok(objects)
}
