//! A distributor that follows the API server stand-in, and what it makes of the objects there.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use sidewall_host_tests::apiserver::ApiServer;
use sidewall_host_tests::envoy::Artifact;
use sidewall_host_tests::http;

use crate::compiled::{Revisions, compiled};

/// So long that only something broken takes longer, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// An API server, and `sidewall serve --kube` at it.
pub struct Site {
    pub server: ApiServer,
    directory: tempfile::TempDir,
    sidewall: Child,
    admin: SocketAddr,
}

impl Site {
    /// Starts all of it and waits until the distributor has caught up.
    pub fn start(objects: &[Value]) -> Result<Self> {
        let mut site = Self::start_with(ApiServer::start()?, objects)?;
        site.caught_up()?;
        Ok(site)
    }

    /// The same on a server that may be down or refuse; does not wait.
    pub fn start_with(server: ApiServer, objects: &[Value]) -> Result<Self> {
        for object in objects {
            server.put(object)?;
        }
        let directory = tempfile::tempdir()?;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig())?;
        let log = File::create(directory.path().join("log"))?;
        let mut sidewall = Command::new(Artifact::Sidewall.find()?)
            .args(["serve", "--kube", "--log-format=json"])
            .args(["--xds-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "info,sidewall_distributor=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let admin = admin_address(&mut sidewall, &directory)?;
        Ok(Self {
            server,
            directory,
            sidewall,
            admin,
        })
    }

    pub fn status(&mut self) -> Result<Value> {
        if let Some(ended) = self.sidewall.try_wait()? {
            bail!("the distributor has ended ({ended}):\n{}", self.log()?);
        }
        let text = http::get(self.admin, "/status", Duration::from_secs(5))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Whether everything has been published once.
    pub fn is_ready(&self) -> bool {
        http::get(self.admin, "/readyz", Duration::from_secs(5)).is_ok()
    }

    /// What pods should run now.
    pub fn revisions(&mut self) -> Result<Revisions> {
        let status = self.status()?;
        let pods = status["pods"].as_array().cloned().unwrap_or_default();
        let revision = |pod: &Value| {
            let revision = pod["wanted"]["revision"].as_str()?;
            Some((pod["pod"].as_str()?.to_owned(), revision.to_owned()))
        };
        Ok(pods.iter().filter_map(revision).collect())
    }

    /// Waits until the distributor has published what follows from the objects as they are now. How long
    /// that took.
    pub fn caught_up(&mut self) -> Result<Duration> {
        let expected = compiled(&self.server.objects()?)?;
        let started = Instant::now();
        loop {
            let found = self.revisions()?;
            if found == expected && self.is_ready() {
                return Ok(started.elapsed());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "published is {found:#?}, not {expected:#?}; the log:\n{}",
                self.log()?
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `/status` is as it should be.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            let status = self.status()?;
            if holds(&status) {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "not {what}: {status:#}");
            sleep(Duration::from_millis(10));
        }
    }

    /// Every snapshot that has been published so far, in order: the pod and the revision.
    pub fn published(&self) -> Result<Vec<(String, String)>> {
        let published = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let fields = &line["fields"];
            let of = |field: &str| Some(fields[field].as_str()?.to_owned());
            (fields["message"] == "published").then(|| Some((of("recipient")?, of("revision")?)))?
        };
        Ok(self.log()?.lines().filter_map(published).collect())
    }

    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.directory.path().join("log"))?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.sidewall.kill();
        let _reaped = self.sidewall.wait();
    }
}

fn admin_address(sidewall: &mut Child, directory: &tempfile::TempDir) -> Result<SocketAddr> {
    let started = Instant::now();
    loop {
        let log = fs::read_to_string(directory.path().join("log"))?;
        let found = log.lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let fields = &line["fields"];
            (fields["flag"] == "--admin-listen")
                .then(|| fields["address"].as_str()?.parse().ok())?
        });
        if let Some(address) = found {
            return Ok(address);
        }
        ensure!(
            sidewall.try_wait()?.is_none(),
            "the distributor ended:\n{log}"
        );
        ensure!(started.elapsed() < PATIENCE, "no admin address in:\n{log}");
        sleep(Duration::from_millis(5));
    }
}
