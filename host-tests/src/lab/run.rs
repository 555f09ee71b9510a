//! Starting a lab, changing it, breaking it, and waiting for it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::distributor::{Distributor, not_running};
use super::folder::Folder;
use super::hosts::{Hosts, Kit};
use super::{Error, Lab, LabConfig, PATIENCE, lock};
use crate::sandbox;

/// How often is looked whether something has come about.
const GLANCE: Duration = Duration::from_millis(2);

impl Lab {
    /// Brings a cluster up and waits until every sidecar enforces what the manifests say.
    ///
    /// # Errors
    ///
    /// [`Error`] says what is missing, wrong or does not come up; everything that was started by
    /// then is ended.
    pub fn start(config: LabConfig) -> Result<Self, Error> {
        let (directory, path) = directory()?;
        let mut folder = Folder::create(path.join("manifests"), config.enforce_own_node_egress)?;
        for other in &config.folders {
            folder.copy(other)?;
        }
        for (file, yaml) in &config.manifests {
            folder.write(file, yaml)?;
        }
        let world = folder.refresh()?;
        let hosts = Hosts::build(Kit::gather(&path, config.workers)?, world)?;
        let lab = Self {
            config,
            folder: Mutex::new(folder),
            hosts: Mutex::new(hosts),
            distributor: Mutex::default(),
            directory,
        };
        lab.start_distributor()?;
        for (_, sidecar) in lock(&lab.hosts).sidecars() {
            sidecar.start()?;
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
        self.change(|folder| folder.write(file, yaml))
    }

    /// Removes a manifest file, and makes the network follow.
    ///
    /// # Errors
    ///
    /// When there is no such file or the network cannot follow.
    pub fn remove_manifest(&self, file: &str) -> Result<(), Error> {
        self.change(|folder| folder.remove(file))
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

    /// Waits until every worker of every running sidecar decides by the manifests as they are now.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] names the pods that do not get there.
    pub fn wait_applied(&self) -> Result<(), Error> {
        let started = Instant::now();
        let expected = lock(&self.folder).expected().clone();
        let mut waiting = lock(&self.hosts).sidecars();
        waiting.retain(|(_, sidecar)| sidecar.is_running());
        loop {
            waiting.retain(|(pod, sidecar)| {
                !expected
                    .get(pod)
                    .is_some_and(|revision| sidecar.enforces(revision))
            });
            if waiting.is_empty() {
                break;
            }
            if started.elapsed() > PATIENCE {
                let status = self.status()?;
                let mut missing = String::new();
                for (pod, sidecar) in waiting {
                    let _ = write!(missing, "  {pod}: expected {:?}, ", expected.get(&pod));
                    let _ = match status.pods.iter().find(|status| status.pod == pod) {
                        Some(status) => write!(missing, "distributor says {status:?}"),
                        None => write!(missing, "unknown to the distributor"),
                    };
                    let _ = sidecar.with(|envoy| {
                        let ended = envoy.ended();
                        let _ = ended.map(|status| write!(missing, ", Envoy has ended ({status})"));
                        Ok(())
                    });
                    missing.push('\n');
                }
                return Err(Error::NotApplied {
                    waited: PATIENCE,
                    missing,
                });
            }
            thread::sleep(GLANCE);
        }
        for (_, sidecar) in lock(&self.hosts).sidecars() {
            if sidecar.is_running() {
                sidecar.wait_ready(PATIENCE)?;
            }
        }
        Ok(())
    }

    /// Starts the distributor, unless it runs, and waits until it has read the manifests.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time, with the end of its log.
    pub fn start_distributor(&self) -> Result<(), Error> {
        let mut distributor = lock(&self.distributor);
        if distributor.is_none() {
            let (netns, binary) = {
                let hosts = lock(&self.hosts);
                (hosts.control().clone(), hosts.sidewall().to_owned())
            };
            let manifests = lock(&self.folder).path().to_owned();
            let log = self.directory.path().join("distributor.log");
            let own_node = self.config.enforce_own_node_egress;
            *distributor = Some(Distributor::start(
                &netns, &binary, &manifests, log, own_node,
            )?);
        }
        Ok(())
    }

    /// Asks the distributor to end (SIGTERM) and waits for it. How it ended.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end in time, with the end of its log.
    pub fn stop_distributor(&self) -> Result<ExitStatus, Error> {
        let distributor = lock(&self.distributor).take();
        distributor.ok_or_else(not_running)?.stop()
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
