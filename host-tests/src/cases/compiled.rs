//! What the distributor makes of a state: manifests decoded, folded as events and compiled, for
//! sidecars alone and for nodes.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;
use sidewall_distributor::cluster::manifests::Folder;
use sidewall_distributor::index::{Change, Index};
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{Cluster, NamespacedName};
use sidewall_policy::snapshot::Snapshot;

use super::{Case, Error, State};

/// A state of a case, compiled.
#[derive(Debug)]
pub struct Compiled {
    folder: Folder,
    state: State,
    /// The ranges that the pods of each node are from.
    pub(super) pod_cidrs: BTreeMap<String, Vec<IpNet>>,
    /// For a cluster of sidecars alone.
    pub(super) proxy: View,
    /// For one whose nodes enforce.
    pub(super) node: View,
    // The folder is in there.
    directory: tempfile::TempDir,
}

/// What is compiled for one plane.
#[derive(Debug)]
pub(super) struct View {
    pub(super) options: Options,
    index: Index,
    /// What snapshots of this plane are made of: nodes see no Service, for its backend has been chosen.
    pub(super) cluster: Cluster,
    /// By `namespace/name` of a pod, or `node NAME`.
    pub(super) snapshots: BTreeMap<String, Snapshot>,
    /// Which pod an address stands for, and which node that is on.
    owners: BTreeMap<IpAddr, Owner>,
}

/// A pod that has a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// `namespace/name`.
    pub(super) pod: String,
    /// Its node.
    pub(super) node: Option<String>,
}

impl Compiled {
    /// Compiles the state that a case begins with.
    ///
    /// # Errors
    ///
    /// When the state cannot be read or written.
    pub fn new(case: &Case) -> Result<Self, Error> {
        let directory = tempfile::tempdir().map_err(|source| Error::File {
            path: std::env::temp_dir(),
            reason: source.to_string(),
        })?;
        let view = |node_plane| {
            View::new(Options {
                node_plane,
                ..Options::default()
            })
        };
        let mut compiled = Self {
            folder: Folder::new(directory.path()),
            state: State::default(),
            pod_cidrs: BTreeMap::new(),
            proxy: view(false),
            node: view(true),
            directory,
        };
        let state = State::of(case)?;
        compiled.pod_cidrs = state.pod_cidrs(case)?;
        compiled.become_state(state)?;
        Ok(compiled)
    }

    /// The state that it is of.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The same as plain data.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.proxy.cluster
    }

    /// Where its manifests are.
    #[must_use]
    pub fn manifests(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Compiles another state, of which only what differs is read.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or what comes of it does not pass its own check.
    pub fn become_state(&mut self, next: State) -> Result<(), Error> {
        self.fold_state(next)?;
        self.proxy.refresh()?;
        self.node.refresh()?;
        self.node.cluster.services.clear();
        for view in [&mut self.proxy, &mut self.node] {
            view.find_owners();
        }
        Ok(())
    }

    /// Reads another state without compiling it: something else follows at once.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn fold_state(&mut self, next: State) -> Result<(), Error> {
        self.write(&next)?;
        self.state = next;
        for event in self.folder.refresh() {
            self.proxy.index.apply(event.clone());
            self.node.index.apply(event);
        }
        Ok(())
    }

    /// Reads everything anew, as a distributor that has just been started. Whose snapshot is another
    /// one than before.
    ///
    /// # Errors
    ///
    /// As [`Self::become_state`].
    pub fn restart(&mut self) -> Result<Vec<String>, Error> {
        let before = [self.proxy.bytes(), self.node.bytes()];
        self.folder = Folder::new(self.directory.path());
        self.proxy = View::new(self.proxy.options);
        self.node = View::new(self.node.options);
        self.become_state(self.state.clone())?;
        let after = [self.proxy.bytes(), self.node.bytes()];
        type Bytes = BTreeMap<String, Vec<u8>>;
        let differs = |(before, after): (Bytes, Bytes)| -> Vec<String> {
            let mut names: Vec<String> = before.keys().cloned().collect();
            names.retain(|name| after.get(name) != before.get(name));
            names
        };
        Ok(before.into_iter().zip(after).flat_map(differs).collect())
    }

    /// Whose snapshot is not what compiling everything from scratch gives.
    #[must_use]
    pub fn outdated(&self) -> Vec<String> {
        let views = [&self.proxy, &self.node];
        views.iter().flat_map(|view| view.outdated()).collect()
    }

    fn write(&self, next: &State) -> Result<(), Error> {
        let folder = self.directory.path();
        let done = |name: &str, done: std::io::Result<()>| {
            done.map_err(|source| Error::File {
                path: folder.join(name),
                reason: source.to_string(),
            })
        };
        let (changed, gone) = next.since(&self.state);
        for (name, text) in changed {
            done(name, fs::write(folder.join(name), text))?;
        }
        for name in gone {
            done(name, fs::remove_file(folder.join(name)))?;
        }
        Ok(())
    }
}

impl View {
    fn new(options: Options) -> Self {
        Self {
            options,
            index: Index::new(options),
            cluster: Cluster::default(),
            snapshots: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    /// The snapshot of a pod.
    pub(super) fn pod(&self, pod: &str) -> Option<&Snapshot> {
        self.snapshots.get(pod)
    }

    /// The snapshot of all pods of a node.
    pub(super) fn node(&self, node: &str) -> Option<&Snapshot> {
        self.snapshots.get(&format!("node {node}"))
    }

    /// The pod that an address stands for.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&Owner> {
        self.owners.get(&address)
    }

    /// Compiles what events have changed.
    fn refresh(&mut self) -> Result<(), Error> {
        self.cluster = self.index.cluster();
        for (recipient, change) in self.index.take_changes() {
            let recipient = recipient.to_string();
            match change {
                Change::Gone => self.snapshots.remove(&recipient),
                Change::Snapshot(bytes) => match Snapshot::check(bytes) {
                    Ok(snapshot) => self.snapshots.insert(recipient, snapshot),
                    Err(source) => return Err(Error::Snapshot { recipient, source }),
                },
            };
        }
        Ok(())
    }

    fn find_owners(&mut self) {
        self.owners.clear();
        for pod in self.cluster.pods.values() {
            let name = pod.id.to_string();
            let owned = self.snapshots.get(&name).into_iter();
            let addresses = owned.flat_map(Snapshot::pods).flat_map(|pod| pod.addresses);
            for address in addresses.collect::<Vec<_>>() {
                let owner = Owner {
                    pod: name.clone(),
                    node: pod.node.as_ref().map(ToString::to_string),
                };
                self.owners.insert(address, owner);
            }
        }
    }

    fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let snapshots = self.snapshots.iter();
        snapshots
            .map(|(name, snapshot)| (name.clone(), snapshot.bytes().to_vec()))
            .collect()
    }

    fn outdated(&self) -> Vec<String> {
        let subjects = |snapshot: &Snapshot| -> Vec<NamespacedName> {
            let subjects = snapshot.subjects();
            subjects
                .map(|subject| NamespacedName::new(subject.namespace, subject.name))
                .collect()
        };
        let is_outdated = |(_, snapshot): &(&String, &Snapshot)| {
            compile_snapshot(&self.cluster, &subjects(snapshot), &self.options) != snapshot.bytes()
        };
        // A cluster whose nodes enforce has Services for its sidecars only.
        let whole = |(name, _): &(&String, &Snapshot)| {
            !self.options.node_plane || name.starts_with("node ")
        };
        let outdated = self.snapshots.iter().filter(whole).filter(is_outdated);
        outdated.map(|(name, _)| name.clone()).collect()
    }
}
