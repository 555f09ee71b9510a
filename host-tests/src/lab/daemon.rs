//! A `sidewall` process of a lab that serves an admin port: the distributor, or a node's agent.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Error, PATIENCE, tail};
use crate::http;
use crate::net::Netns;

const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What to start, and where.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// What messages call it, such as `the distributor`.
    pub(super) name: String,
    pub(super) netns: Netns,
    pub(super) binary: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Its environment, besides the lab's own.
    pub(super) environment: Vec<(&'static str, PathBuf)>,
    /// Where its admin port listens, within the namespace.
    pub(super) admin: SocketAddr,
    /// What it writes, its predecessors' first.
    pub(super) log: PathBuf,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Daemon {
    spec: Spec,
    child: Child,
}

impl Spec {
    /// What processes of this kind have logged so far.
    pub(super) fn log(&self) -> String {
        read(&self.log)
    }

    /// There is none at the moment.
    pub(super) fn not_running(&self) -> Error {
        Error::NotRunning(self.name.clone())
    }
}

impl Daemon {
    /// Starts it, and does not wait.
    pub(super) fn start(spec: Spec) -> Result<Self, Error> {
        let file = |step, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { step, path, source }
        };
        let open = || File::options().create(true).append(true).open(&spec.log);
        let output = open().map_err(file("opening", &spec.log))?;
        let errors = open().map_err(file("opening", &spec.log))?;
        let child = spec
            .netns
            .command(&spec.binary)
            .args(&spec.arguments)
            .env("NO_COLOR", "1")
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(file("starting", &spec.binary))?;
        Ok(Self { spec, child })
    }

    /// Waits until `/readyz` is answered with 200.
    pub(super) fn wait_ready(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            let answer = self.get("/readyz");
            if let Some(status) = self.ended() {
                return Err(self.error(format!("has ended ({status})")));
            }
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// GET on its admin port.
    pub(super) fn get(&self, path: &str) -> Result<String, Error> {
        let Spec { netns, admin, .. } = &self.spec;
        let answer = netns.run(|| http::get(*admin, path, ADMIN_TIMEOUT))?;
        answer.map_err(|error| {
            self.error(format!("does not answer GET {path} as it should: {error}"))
        })
    }

    /// Its log so far, those of its predecessors included.
    pub(super) fn log(&self) -> String {
        self.spec.log()
    }

    /// Asks it to end and waits for that.
    pub(super) fn stop(mut self) -> Result<ExitStatus, Error> {
        // A child's id fits, or it could not have been started.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or_default());
        let sent = kill(pid, Signal::SIGTERM);
        sent.map_err(|errno| self.error(format!("cannot be asked to end: {errno}")))?;
        let started = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
                _ => return Err(self.error(format!("does not end within {PATIENCE:?}"))),
            }
        }
    }

    /// Something is the matter with it.
    pub(super) fn error(&self, what: String) -> Error {
        Error::Daemon {
            name: self.spec.name.clone(),
            what,
            log: tail(&self.log()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A log that cannot be read has nothing to say.
pub(super) fn read(path: &Path) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
