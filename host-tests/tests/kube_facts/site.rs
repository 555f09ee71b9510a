//! An API server, distributors that follow it, and clients of theirs.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_distributor::xds::{self, Follower};
use sidewall_host_tests::apiserver::{ApiServer, Kubectl};
use sidewall_host_tests::envoy::Artifact;
use sidewall_host_tests::http;
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::rights::of_the_chart;

/// So long that only something broken takes longer, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An API server with objects.
pub struct Site {
    pub server: ApiServer,
    pub kubectl: Kubectl,
    /// The distributors'.
    kubeconfig: tempfile::NamedTempFile,
    runtime: Runtime,
}

impl Site {
    pub fn new(objects: &[Value]) -> Result<Self> {
        let server = ApiServer::start()?;
        for object in objects {
            server.put(object)?;
        }
        let kubectl = Kubectl::new(&server.kubeconfig(), None)?;
        let kubeconfig = tempfile::NamedTempFile::new()?;
        fs::write(&kubeconfig, of_the_chart(&server, &kubectl)?)?;
        let runtime = Runtime::new()?;
        Ok(Self {
            server,
            kubectl,
            kubeconfig,
            runtime,
        })
    }

    /// A distributor that has read everything.
    pub fn distributor(&self) -> Result<Distributor> {
        let distributor = Distributor::start(self.kubeconfig.path())?;
        until("a distributor that is ready", || {
            Ok(distributor.get("/readyz").is_ok())
        })?;
        Ok(distributor)
    }

    /// Connects as the sidecar of a pod, and acknowledges whatever is good.
    pub fn sidecar(&self, at: &Distributor, pod: &str) -> Result<Sidecar> {
        let token = CancellationToken::new();
        let server = format!("http://{}", at.xds).parse()?;
        let server = xds::Distributor::new(server, None)?;
        let within = self.runtime.enter();
        let follower = xds::follow(server, pod.to_owned(), token.clone());
        drop(within);
        Ok(Sidecar {
            follower,
            _disconnects: token.drop_guard(),
        })
    }

    /// A pod of the namespace `shop` as the API server has it.
    pub fn pod(&self, name: &str) -> Result<Value> {
        let text = self
            .kubectl
            .run(&["get", "pod", name, "-n", "shop", "-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// A client that takes what it is given. Dropping it ends its stream.
pub struct Sidecar {
    follower: Follower,
    _disconnects: DropGuard,
}

impl Sidecar {
    /// Waits until it has a snapshot other than `before`; which one.
    pub fn next(&self, before: Option<&str>) -> Result<String> {
        let revision = || {
            let snapshot = self.follower.snapshots.borrow();
            snapshot.as_ref().map(|it| it.revision().to_string())
        };
        until("another snapshot", || {
            Ok(revision().is_some_and(|revision| Some(revision.as_str()) != before))
        })?;
        revision().context("it is never taken back")
    }
}

/// `sidewall serve --kube`.
pub struct Distributor {
    child: Child,
    directory: tempfile::TempDir,
    pub xds: SocketAddr,
    admin: SocketAddr,
}

impl Distributor {
    fn start(kubeconfig: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("log");
        let child = Command::new(Artifact::Sidewall.find()?)
            .args(["serve", "--kube", "--log-format=json"])
            .args(["--xds-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let unknown = SocketAddr::from(([0; 4], 0));
        let mut distributor = Self {
            child,
            directory,
            xds: unknown,
            admin: unknown,
        };
        until("listening", || {
            Ok(distributor.listens("--admin-listen")?.is_some())
        })?;
        let address = |flag| distributor.listens(flag)?.context(flag);
        (distributor.xds, distributor.admin) =
            (address("--xds-listen")?, address("--admin-listen")?);
        Ok(distributor)
    }

    fn listens(&self, flag: &str) -> Result<Option<SocketAddr>> {
        let found = self.lines()?.into_iter().find_map(|fields| {
            (fields["flag"] == flag).then(|| fields["address"].as_str()?.parse().ok())?
        });
        Ok(found)
    }

    pub fn get(&self, path: &str) -> Result<String> {
        Ok(http::get(self.admin, path, Duration::from_secs(5))?)
    }

    /// A counter; 0 while it is not there.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let metrics = self.get("/metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(Ok(0), |value| Ok(value.trim().parse()?))
    }

    /// How many writes of a kind have come to this.
    pub fn writes(&self, what: &str, result: &str) -> Result<u64> {
        self.counter(&format!(
            "sidewall_kube_writes_total{{what=\"{what}\",result=\"{result}\"}}"
        ))
    }

    /// The fields of everything logged.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let log = fs::read_to_string(self.directory.path().join("log"))?;
        let fields = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["fields"].take());
        Ok(log.lines().filter_map(fields).collect())
    }
}

impl Drop for Distributor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < PATIENCE, "not {what}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
