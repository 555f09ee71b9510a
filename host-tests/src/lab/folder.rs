//! The manifests of a lab, and what they should make every sidecar enforce.
//!
//! Follows the folder step by step with the distributor's own library, as the distributor does in
//! its process, so that the lab knows which revision each pod has to reach. That the running
//! program agrees is part of what [`super::Lab::wait_applied`] waits for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sidewall_distributor::cluster::manifests;
use sidewall_distributor::index::{Change, Index};
use sidewall_policy::compile::Options;
use sidewall_policy::model::TcpPath;
use sidewall_policy::snapshot::Snapshot;

use super::world::{self, World};
use super::{Error, Plane};

/// The folder and what follows from it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    manifests: manifests::Folder,
    index: Index,
    expected: BTreeMap<String, String>,
    plane: Plane,
}

impl Folder {
    /// Makes an empty folder.
    pub(super) fn create(
        path: PathBuf,
        plane: Plane,
        enforce_own_node_egress: bool,
        tcp_path: TcpPath,
    ) -> Result<Self, Error> {
        fs::create_dir_all(&path).map_err(file("creating", &path))?;
        let manifests = manifests::Folder::new(&path);
        let index = Index::new(Options {
            node_plane: plane.has_nodes(),
            enforce_own_node_egress,
            tcp_path,
        });
        Ok(Self {
            path,
            manifests,
            index,
            expected: BTreeMap::new(),
            plane,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies what is in another folder, and in folders in it. Links are followed.
    pub(super) fn copy(&self, from: &Path) -> Result<(), Error> {
        copy(from, &self.path)
    }

    /// Writes a file in one step, as every editor and every ConfigMap should.
    pub(super) fn write(&self, name: &str, yaml: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        // Names that begin with a dot are no manifests.
        let draft = self.path.join(format!(".{}.draft", name.replace('/', "-")));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(file("creating", parent))?;
        }
        fs::write(&draft, yaml).map_err(file("writing", &draft))?;
        fs::rename(&draft, &path).map_err(file("writing", &path))
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(file("removing", &path))
    }

    /// Takes every file out, by its path from here.
    pub(super) fn drain(&self) -> Result<Vec<(String, String)>, Error> {
        let mut found = Vec::new();
        collect(&self.path, Path::new(""), &mut found)?;
        Ok(found)
    }

    /// Reads what changed, and says what there is now.
    pub(super) fn refresh(&mut self) -> Result<World, Error> {
        for event in self.manifests.refresh() {
            self.index.apply(event);
        }
        for (pod, change) in self.index.take_changes() {
            let revision = match change {
                Change::Snapshot(bytes) => Snapshot::check(bytes)
                    .ok()
                    .map(|snapshot| snapshot.revision()),
                Change::Gone => None,
            };
            match revision {
                Some(revision) => self.expected.insert(pod.to_string(), revision.to_string()),
                None => self.expected.remove(&pod.to_string()),
            };
        }
        let texts = texts(&self.path)?;
        let notes = world::notes(texts.iter().map(String::as_str));
        World::new(&self.index.cluster(), &notes, self.plane)
    }

    /// The revision each pod should run, by `namespace/name`.
    pub(super) fn expected(&self) -> &BTreeMap<String, String> {
        &self.expected
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(file("listing", from))? {
        let name = entry.map_err(file("listing", from))?.file_name();
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            fs::create_dir_all(&to).map_err(file("creating", &to))?;
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(file("copying", &from))?;
        }
    }
    Ok(())
}

/// Removes the files in a folder and in those in it, and adds their paths and texts.
fn collect(folder: &Path, below: &Path, found: &mut Vec<(String, String)>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(file("listing", folder))? {
        let name = entry.map_err(file("listing", folder))?.file_name();
        let (path, below) = (folder.join(&name), below.join(&name));
        if path.is_dir() {
            collect(&path, &below, found)?;
        } else {
            let text = fs::read_to_string(&path).map_err(file("reading", &path))?;
            fs::remove_file(&path).map_err(file("removing", &path))?;
            found.push((below.display().to_string(), text));
        }
    }
    Ok(())
}

/// The readable files in a folder and in those in it, dot files left out.
fn texts(folder: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(file("listing", folder))? {
        let entry = entry.map_err(file("listing", folder))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if path.is_dir() {
            found.extend(texts(&path)?);
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push(text);
        }
    }
    Ok(found)
}

fn file(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { step, path, source }
}
