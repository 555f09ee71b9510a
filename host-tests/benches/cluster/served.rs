//! The distributor's process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_host_tests::apiserver::ApiServer;
use sidewall_host_tests::bench::usage;
use sidewall_host_tests::envoy::Artifact;
use sidewall_host_tests::http;

use crate::PATIENCE;

pub struct Served {
    child: Child,
    xds: SocketAddr,
    admin: SocketAddr,
    directory: tempfile::TempDir,
}

/// What it has sent so far.
pub struct Pushed {
    pub snapshots: f64,
    pub bytes: f64,
}

impl Served {
    /// Listens for clients at this address; port 0 takes a free one.
    pub fn start(api: &ApiServer, listen: SocketAddr, flags: &[String]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig())?;
        let log = File::create(directory.path().join("log"))?;
        let mut child = Command::new(Artifact::Sidewall.find()?)
            .args(["serve", "--kube", "--log-format=json"])
            .arg(format!("--xds-listen={listen}"))
            .arg("--admin-listen=127.0.0.1:0")
            .args(flags)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "warn,sidewall_distributor::serve=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let started = Instant::now();
        let address = |log: &str, flag: &str| {
            log.lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let fields = &line["fields"];
                (fields["flag"] == flag).then(|| fields["address"].as_str()?.parse().ok())?
            })
        };
        loop {
            let log = fs::read_to_string(directory.path().join("log"))?;
            let found = (
                address(&log, "--xds-listen"),
                address(&log, "--admin-listen"),
            );
            if let (Some(xds), Some(admin)) = found {
                return Ok(Self {
                    child,
                    xds,
                    admin,
                    directory,
                });
            }
            ensure!(child.try_wait()?.is_none(), "it ended:\n{log}");
            ensure!(started.elapsed() < PATIENCE, "no addresses in:\n{log}");
            sleep(Duration::from_millis(2));
        }
    }

    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    pub fn wait_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while http::get(self.admin, "/readyz", PATIENCE).is_err() {
            ensure!(
                self.child.try_wait()?.is_none() && started.elapsed() < PATIENCE,
                "it is not ready:\n{}",
                fs::read_to_string(self.directory.path().join("log"))?
            );
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.child.id())
    }

    pub fn resident(&self) -> Result<f64> {
        usage::resident(self.child.id())
    }

    pub fn pushed(&self) -> Result<Pushed> {
        Ok(Pushed {
            snapshots: self.metric("sidewall_xds_pushes_total")?,
            bytes: self.metric("sidewall_xds_sent_bytes_total")?,
        })
    }

    pub fn metric(&self, name: &str) -> Result<f64> {
        let metrics = http::get(self.admin, "/metrics", PATIENCE)?;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no {name} in:\n{metrics}"))?;
        Ok(value.trim().parse()?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
