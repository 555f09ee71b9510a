//! The distributor's process, on the control host, and what it says of itself.

use std::fmt;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::{Error, PATIENCE};
use crate::http;
use crate::net::Netns;

/// Where sidecars find it.
pub(super) const XDS_PORT: u16 = 18000;

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18080);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running `sidewall serve`. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Distributor {
    netns: Netns,
    child: Child,
    log: PathBuf,
}

/// What `/status` says, as far as the lab is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Whether every manifest has been read once.
    pub synced: bool,
    /// Every pod that has a snapshot or a sidecar.
    pub pods: Vec<PodStatus>,
    /// What is wrong with the manifests.
    pub problems: Vec<Problem>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodStatus {
    /// `namespace/name`.
    pub pod: String,
    /// `applied`, `pending`, `refused`, `unknown`, `disconnected` or `absent`.
    pub state: String,
    /// What it should run.
    pub wanted: Option<Revision>,
    /// What it has acknowledged.
    pub applied: Option<Revision>,
}

/// A snapshot by its revision.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Revision {
    /// 16 hexadecimal digits.
    pub revision: String,
}

/// Something to be mended in the manifests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// The object or the file.
    pub object: String,
    /// The field; empty when the whole object is meant.
    pub field: String,
    /// Why it was refused.
    pub reason: String,
    /// What enforcement makes of it.
    pub consequence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            field,
            reason,
            consequence,
        } = self;
        let field = if field.is_empty() {
            String::new()
        } else {
            format!("{field}: ")
        };
        write!(f, "{object}: {field}{reason}; {consequence}")
    }
}

/// There is none at the moment.
pub(super) fn not_running() -> Error {
    Error::Distributor {
        what: "is not running".to_owned(),
        log: String::new(),
    }
}

impl Distributor {
    /// Starts it and waits until it has read every manifest.
    pub(super) fn start(
        netns: &Netns,
        binary: &Path,
        manifests: &Path,
        log: PathBuf,
        enforce_own_node_egress: bool,
    ) -> Result<Self, Error> {
        let file = |step| {
            let path = log.clone();
            move |source| Error::File { step, path, source }
        };
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(file("opening"))?;
        let mut command = netns.command(binary);
        command
            .arg("serve")
            .arg("--manifests")
            .arg(manifests)
            // The lab's network is the lab's own, and sidecars come from other namespaces.
            .arg("--insecure-plaintext")
            .args(["--xds-listen", &format!("[::]:{XDS_PORT}")])
            .args(["--admin-listen", &ADMIN.to_string()])
            .env("NO_COLOR", "1");
        if enforce_own_node_egress {
            command.arg("--enforce-own-node-egress");
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        let child = command.spawn().map_err(|source| Error::File {
            step: "starting",
            path: binary.to_owned(),
            source,
        })?;
        let mut distributor = Self {
            netns: netns.clone(),
            child,
            log,
        };
        distributor.wait_ready()?;
        Ok(distributor)
    }

    fn wait_ready(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            let answer = self.get("/readyz");
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.error(format!("has ended ({status})")));
            }
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// GET on its admin port.
    pub(super) fn get(&self, path: &str) -> Result<String, Error> {
        let answer = self.netns.run(|| http::get(ADMIN, path, ADMIN_TIMEOUT))?;
        answer.map_err(|error| {
            self.error(format!("does not answer GET {path} as it should: {error}"))
        })
    }

    /// What it says of every pod.
    pub(super) fn status(&self) -> Result<Status, Error> {
        let text = self.get("/status")?;
        serde_json::from_str(&text).map_err(|error| {
            self.error(format!(
                "has a /status that cannot be read ({error}): {text}"
            ))
        })
    }

    /// Its log so far, those of its predecessors included.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
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

    fn error(&self, what: String) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        Error::Distributor {
            what,
            log: lines[lines.len().saturating_sub(15)..].join("\n"),
        }
    }
}

impl Drop for Distributor {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
