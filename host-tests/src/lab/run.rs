//! Starting a lab, changing it and breaking it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::api::Api;
use super::daemon::Daemon;
use super::distributor::{Follows, Place};
use super::folder::Folder;
use super::hosts::{Hosts, Kit};
use super::{Error, KubeProxy, Lab, LabConfig, Source, distributor, kube_proxy, lock, replica};
use crate::apiserver::ApiServer;
use crate::sandbox;

/// The one file of a folder that copies an API server.
const COPY: &str = "objects.yaml";

impl Lab {
    /// Brings a cluster up and waits until every sidecar and every node enforces what the manifests
    /// say.
    ///
    /// # Errors
    ///
    /// [`Error`] says what is missing, wrong or does not come up; everything that was started by
    /// then is ended.
    pub fn start(config: LabConfig) -> Result<Self, Error> {
        let (directory, path) = directory()?;
        let mut folder = Folder::create(
            path.join("manifests"),
            config.plane,
            config.enforce_own_node_egress,
            config.redirect.default_path(),
        )?;
        for other in &config.folders {
            folder.copy(other)?;
        }
        for (file, yaml) in &config.manifests {
            folder.write(file, yaml)?;
        }
        let world = folder.refresh()?;
        let kit = Kit::gather(&path, &config)?;
        let hosts = Hosts::build(kit, world, config.plane.has_nodes(), config.wiring)?;
        let api = match config.source {
            Source::Manifests => None,
            Source::Kube => Some(Api::start(hosts.control())?),
        };
        let relay = config.relayed.then(|| replica::relay(hosts.control()));
        let relay = relay.transpose()?;
        let lab = Self {
            config,
            relay,
            api,
            folder: Mutex::new(folder),
            hosts: Mutex::new(hosts),
            distributor: Mutex::default(),
            kube_proxies: Mutex::default(),
            directory,
        };
        if let Some(api) = &lab.api {
            let files = lock(&lab.folder).drain()?;
            for (file, yaml) in files {
                api.write(&file, &yaml)?;
            }
            lab.copy(api)?;
        }
        if let Some(mode) = lab.config.kube_proxy {
            lab.start_kube_proxies(mode)?;
        }
        lab.start_distributor()?;
        {
            let hosts = lock(&lab.hosts);
            // Nodes close before anything of their pods speaks.
            for node in hosts.nodes().values() {
                node.agent.start()?;
                if let Some(envoy) = &node.envoy {
                    envoy.start()?;
                }
            }
            for (_, sidecar) in hosts.sidecars() {
                sidecar.start()?;
            }
        }
        lab.wait_applied()?;
        Ok(lab)
    }

    /// Writes a manifest file, new or not, and makes the network follow: pods and Services come
    /// and go. Sidecars are not waited for.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or the network cannot follow.
    pub fn write_manifest(&self, file: &str, yaml: &str) -> Result<(), Error> {
        match &self.api {
            None => self.change(|folder| folder.write(file, yaml)),
            Some(api) => {
                api.write(file, yaml)?;
                self.copy(api)
            }
        }
    }

    /// Removes a manifest file, and makes the network follow.
    ///
    /// # Errors
    ///
    /// When there is no such file or the network cannot follow.
    pub fn remove_manifest(&self, file: &str) -> Result<(), Error> {
        match &self.api {
            None => self.change(|folder| folder.remove(file)),
            Some(api) => {
                api.remove(file)?;
                self.copy(api)
            }
        }
    }

    /// Writes a manifest file and waits until it is enforced. How long that took, from the file's
    /// change to the last worker of the last sidecar.
    ///
    /// # Errors
    ///
    /// As [`Self::write_manifest`] and [`Self::wait_applied`].
    pub fn apply(&self, file: &str, yaml: &str) -> Result<Duration, Error> {
        let started = Instant::now();
        self.write_manifest(file, yaml)?;
        self.wait_applied()?;
        Ok(started.elapsed())
    }

    /// Removes a manifest file and waits until that is enforced. How long that took.
    ///
    /// # Errors
    ///
    /// As [`Self::remove_manifest`] and [`Self::wait_applied`].
    pub fn unapply(&self, file: &str) -> Result<Duration, Error> {
        let started = Instant::now();
        self.remove_manifest(file)?;
        self.wait_applied()?;
        Ok(started.elapsed())
    }

    /// Runs `kubectl` against the lab's API server, and makes the network follow. What it printed.
    ///
    /// # Errors
    ///
    /// When there is no API server, `kubectl` fails, or the network cannot follow.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        let api = self.api.as_ref().ok_or(Error::NoApiServer)?;
        let printed = api.kubectl().run_with(arguments, input)?;
        self.copy(api)?;
        Ok(printed)
    }

    /// Puts an object onto the lab's API server, as a controller would, whether the server runs or not;
    /// and makes the network follow. When the server had it.
    ///
    /// # Errors
    ///
    /// When there is no API server, it refuses the object, or the network cannot follow.
    pub fn put(&self, object: &Value) -> Result<Instant, Error> {
        let api = self.api.as_ref().ok_or(Error::NoApiServer)?;
        let at = Instant::now();
        api.server().put(object)?;
        self.copy(api)?;
        Ok(at)
    }

    /// The lab's API server, to be broken.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn api_server(&self) -> Result<&ApiServer, Error> {
        Ok(self.api.as_ref().ok_or(Error::NoApiServer)?.server())
    }

    /// Makes the folder, and the network, say what the API server says.
    fn copy(&self, api: &Api) -> Result<(), Error> {
        let dump = api.dump()?;
        self.change(|folder| folder.write(COPY, &dump))
    }

    /// The folder that the distributor watches, for what the above does not offer.
    /// [`Self::follow_manifests`] makes the network follow.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        lock(&self.folder).path().to_owned()
    }

    /// Makes the network follow changes that were made in [`Self::manifests`]. Sidecars are not
    /// waited for.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read or the network cannot follow.
    pub fn follow_manifests(&self) -> Result<(), Error> {
        self.change(|_| Ok(()))
    }

    fn change(&self, change: impl FnOnce(&Folder) -> Result<(), Error>) -> Result<(), Error> {
        let mut folder = lock(&self.folder);
        change(&folder)?;
        let world = folder.refresh()?;
        lock(&self.hosts).reconcile(world)
    }

    /// Starts the distributor, unless it runs, and waits until it has read the manifests.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time, with the end of its log.
    pub fn start_distributor(&self) -> Result<(), Error> {
        let mut running = lock(&self.distributor);
        if running.is_none() {
            let place = match &self.relay {
                None => Place::ALONE,
                Some(_) => Place::replica(0),
            };
            let mut started = self.serve(place)?;
            started.wait_ready()?;
            *running = Some(started);
        }
        Ok(())
    }

    /// Starts a distributor, and does not wait.
    pub(super) fn serve(&self, place: Place) -> Result<Daemon, Error> {
        let (netns, binary) = {
            let hosts = lock(&self.hosts);
            (hosts.control().clone(), hosts.sidewall().to_owned())
        };
        let follows = match &self.api {
            Some(api) => Follows::Kubeconfig(api.kubeconfig()),
            None => Follows::Folder(lock(&self.folder).path().to_owned()),
        };
        let log = match place.number {
            0 => "distributor.log".to_owned(),
            number => format!("distributor-{number}.log"),
        };
        let log = self.directory.path().join(log);
        let spec = distributor::spec(&self.config, place, netns, binary, follows, log);
        Daemon::start(spec)
    }

    /// Asks the distributor to end (SIGTERM) and waits for it. How it ended.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end in time, with the end of its log.
    pub fn stop_distributor(&self) -> Result<ExitStatus, Error> {
        let distributor = lock(&self.distributor).take();
        distributor.ok_or_else(distributor::not_running)?.stop()
    }

    /// Ends the distributor without notice.
    pub fn kill_distributor(&self) {
        *lock(&self.distributor) = None;
    }

    /// Starts a pod's sidecar, unless it runs. Does not wait.
    ///
    /// # Errors
    ///
    /// When the pod has none, or it cannot be started.
    pub fn start_sidecar(&self, pod: &str) -> Result<(), Error> {
        let sidecar = lock(&self.hosts).sidecar(pod)?;
        sidecar.start()
    }

    /// Ends a pod's sidecar without notice.
    ///
    /// # Errors
    ///
    /// When the pod has none.
    pub fn kill_sidecar(&self, pod: &str) -> Result<(), Error> {
        lock(&self.hosts).sidecar(pod)?.kill();
        Ok(())
    }

    /// Starts a node's agent, unless it runs. Does not wait.
    ///
    /// # Errors
    ///
    /// When the node does not enforce, or the agent cannot be started.
    pub fn start_agent(&self, node: &str) -> Result<(), Error> {
        let node = lock(&self.hosts).node(node)?;
        node.agent.start()
    }

    /// Starts kube-proxy on every node in this mode, instead of the one that runs there. Waits for its rules.
    ///
    /// # Errors
    ///
    /// When there is no API server, or kube-proxy does not come up.
    pub fn start_kube_proxies(&self, mode: KubeProxy) -> Result<(), Error> {
        let api = self.api.as_ref().ok_or(Error::NoApiServer)?;
        let nodes = lock(&self.hosts).node_namespaces()?;
        let mut running = lock(&self.kube_proxies);
        for (node, netns) in nodes {
            drop(running.remove(&node));
            let folder = self.directory.path();
            let daemon = kube_proxy::start(mode, &node, netns, &api.kubeconfig(), folder)?;
            running.insert(node, daemon);
        }
        Ok(())
    }

    /// Ends a node's agent without notice.
    ///
    /// # Errors
    ///
    /// When the node does not enforce.
    pub fn kill_agent(&self, node: &str) -> Result<(), Error> {
        lock(&self.hosts).node(node)?.agent.kill();
        Ok(())
    }

    /// Starts a node's Envoy, unless it runs. Does not wait.
    ///
    /// # Errors
    ///
    /// When the node has no Envoy, or it cannot be started.
    pub fn start_node_envoy(&self, node: &str) -> Result<(), Error> {
        let plane = lock(&self.hosts).node(node)?;
        plane.envoy(node)?.start()
    }

    /// Ends a node's Envoy without notice.
    ///
    /// # Errors
    ///
    /// When the node does not enforce.
    pub fn kill_node_envoy(&self, node: &str) -> Result<(), Error> {
        lock(&self.hosts).node(node)?.envoy(node)?.kill();
        Ok(())
    }

    /// Waits until a node's Envoy accepts connections.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time, with the end of its log.
    pub fn wait_node_envoy_ready(&self, node: &str, timeout: Duration) -> Result<(), Error> {
        let plane = lock(&self.hosts).node(node)?;
        plane.envoy(node)?.wait_ready(timeout)
    }

    /// Waits until a pod's sidecar accepts connections.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time, with the end of its log.
    pub fn wait_sidecar_ready(&self, pod: &str, timeout: Duration) -> Result<(), Error> {
        let sidecar = lock(&self.hosts).sidecar(pod)?;
        sidecar.wait_ready(timeout)
    }
}

/// A folder that vanishes with the lab, open to Envoy's user.
fn directory() -> Result<(tempfile::TempDir, PathBuf), Error> {
    let scratch = sandbox::scratch();
    let file = |step, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { step, path, source }
    };
    let made = tempfile::Builder::new()
        .prefix("lab-")
        .tempdir_in(scratch)
        .map_err(file("making a folder in", scratch))?;
    let path = made.path().to_owned();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(file("opening to Envoy's user", &path))?;
    Ok((made, path))
}
