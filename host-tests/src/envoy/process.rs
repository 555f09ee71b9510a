//! One Envoy process in a network namespace.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Error, Stats, logs};
use crate::http;
use crate::net::Netns;

/// User and group that `sidewall redirect` lets through, as in Istio.
pub const UID: u32 = 1337;

/// The admin port of every bootstrap in `envoy/`, reachable from within the namespace only.
pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// How long an admin request may take. Envoy answers on its main thread, which a big push keeps
/// busy.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What messages call it, such as `sidecar of default/web`.
    pub name: String,
    /// The binary; user [`UID`] must be able to reach it.
    pub binary: PathBuf,
    /// Where it runs.
    pub netns: Netns,
    /// The rendered bootstrap.
    pub bootstrap: String,
    /// `--service-node`: who it is to the distributor.
    pub node_id: String,
    /// `--concurrency`.
    pub workers: u32,
    /// Whether it has CAP_NET_ADMIN, which an Envoy of a node needs.
    pub net_admin: bool,
    /// A folder of its own, for the bootstrap and the logs. Logs of a predecessor are added to.
    pub folder: PathBuf,
}

/// A running Envoy. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    spec: Spec,
    child: Child,
    /// How much of the log [`Self::new_lines`] has handed out, in bytes.
    log_read: u64,
}

impl Envoy {
    /// Starts it, as user [`UID`] without other capabilities than asked for, and does not wait.
    ///
    /// # Errors
    ///
    /// When its files cannot be written or the binary cannot be started.
    pub fn spawn(spec: Spec) -> Result<Self, Error> {
        let file = |step, path: &Path| {
            let (name, path) = (spec.name.clone(), path.to_owned());
            move |source| Error::File {
                name,
                step,
                path,
                source,
            }
        };
        fs::create_dir_all(&spec.folder).map_err(file("creating", &spec.folder))?;
        // The folder is root's; Envoy as another user reads its bootstrap and gets its logs opened.
        fs::set_permissions(&spec.folder, fs::Permissions::from_mode(0o755))
            .map_err(file("opening to Envoy's user", &spec.folder))?;
        let bootstrap = spec.folder.join("bootstrap.yaml");
        fs::write(&bootstrap, &spec.bootstrap).map_err(file("writing", &bootstrap))?;
        let open = |path: PathBuf| {
            let opened = File::options().create(true).append(true).open(&path);
            opened.map_err(file("opening", &path))
        };
        let capabilities: &[&str] = if spec.net_admin { &["net_admin"] } else { &[] };
        let mut command = spec.netns.command_as(UID, UID, capabilities, &spec.binary);
        command
            .arg("--config-path")
            .arg(&bootstrap)
            .args(["--service-node", &spec.node_id])
            .args(["--service-cluster", "sidewall"])
            .args(["--concurrency", &spec.workers.to_string()])
            .args(["--disable-hot-restart", "--log-level", "info"])
            // Access logs are read while Envoy runs: do not keep them for 10 seconds.
            .args(["--file-flush-interval-msec", "20"])
            .stdin(Stdio::null())
            .stdout(open(spec.access_log())?)
            .stderr(open(spec.log())?);
        // What a predecessor wrote says nothing of this one.
        let log_read = fs::metadata(spec.log()).map_or(0, |metadata| metadata.len());
        let child = command.spawn().map_err(|source| Error::Start {
            name: spec.name.clone(),
            source,
        })?;
        Ok(Self {
            spec,
            child,
            log_read,
        })
    }

    /// Waits until it accepts connections, which for a sidecar means that it has a snapshot.
    ///
    /// # Errors
    ///
    /// When it ends, or is not ready in time.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Err(Error::Ended {
                    name: self.spec.name.clone(),
                    status,
                    log: logs::tail(&self.log()),
                });
            }
            match self.admin("/ready") {
                Ok(_) => return Ok(()),
                Err(Error::Admin { source, .. }) if started.elapsed() >= timeout => {
                    return Err(Error::NotReady {
                        name: self.spec.name.clone(),
                        waited: timeout,
                        answer: source.to_string(),
                        log: logs::tail(&self.log()),
                    });
                }
                Err(Error::Admin { .. }) => thread::sleep(Duration::from_millis(10)),
                Err(other) => return Err(other),
            }
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its process id. `setpriv` and `nsenter` became it by exec.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.spec.workers
    }

    /// GET on the admin port, from within the namespace.
    ///
    /// # Errors
    ///
    /// When nobody answers, or the answer is not 200.
    pub fn admin(&self, path: &str) -> Result<String, Error> {
        let answer = self
            .spec
            .netns
            .run(|| http::get(ADMIN, path, ADMIN_TIMEOUT))?;
        answer.map_err(|source| Error::Admin {
            name: self.spec.name.clone(),
            path: path.to_owned(),
            source,
        })
    }

    /// Counters and gauges whose names match the regular expression.
    ///
    /// # Errors
    ///
    /// As [`Self::admin`].
    pub fn stats(&self, filter: &str) -> Result<Stats, Error> {
        self.admin(&format!("/stats?filter={filter}"))
            .map(|text| Stats::parse(&text))
    }

    /// The decision records so far, oldest first, of its predecessors in the same folder too.
    #[must_use]
    pub fn decisions(&self) -> Vec<Value> {
        logs::decisions(&self.log())
    }

    /// The access log so far: one entry a connection that has ended.
    #[must_use]
    pub fn access(&self) -> Vec<Value> {
        logs::access(&read(&self.spec.access_log()))
    }

    /// Its own log so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.spec.log())
    }

    /// What it has logged since the last call, or since it was started: complete lines only.
    pub fn new_lines(&mut self) -> String {
        let mut new = Vec::new();
        let read = File::open(self.spec.log()).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.log_read))?;
            log.read_to_end(&mut new)
        });
        // A log that cannot be read has nothing to say.
        let end = match (read, new.iter().rposition(|byte| *byte == b'\n')) {
            (Ok(_), Some(last)) => last + 1,
            _ => 0,
        };
        new.truncate(end);
        self.log_read += u64::try_from(end).unwrap_or_default();
        String::from_utf8_lossy(&new).into_owned()
    }

    /// Ends it without notice, as a crash would, and waits for the end.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.end();
    }
}

impl Spec {
    fn log(&self) -> PathBuf {
        self.folder.join("envoy.log")
    }

    fn access_log(&self) -> PathBuf {
        self.folder.join("access.log")
    }
}

/// A log that cannot be read has nothing to say.
fn read(path: &Path) -> String {
    fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

/// Has Envoy check a bootstrap without starting it: `envoy --mode validate`.
///
/// # Errors
///
/// [`Error::Refused`] with what Envoy said.
pub fn validate(binary: &Path, bootstrap: &Path) -> Result<(), Error> {
    let output = Command::new(binary)
        .args(["--mode", "validate", "--config-path"])
        .arg(bootstrap)
        .args([
            "--service-node",
            "sidecar~192.0.2.1~web.default~cluster.local",
        ])
        .args(["--service-cluster", "sidewall"])
        .output()
        .map_err(|source: io::Error| Error::Start {
            name: "envoy --mode validate".to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Refused {
        path: bootstrap.to_owned(),
        log: logs::tail(&String::from_utf8_lossy(&output.stderr)),
    })
}
