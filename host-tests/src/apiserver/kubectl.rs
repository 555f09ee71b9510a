//! The real `kubectl`, pointed at an API server.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::net::Netns;

/// `kubectl` with a kubeconfig and a cache of its own.
#[derive(Debug)]
pub struct Kubectl {
    home: TempDir,
    netns: Option<Netns>,
}

/// What `kubectl` did not do.
#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    /// It could not be run.
    #[error("kubectl: {0}; install it: on Debian apt-get install -y kubernetes-client")]
    Start(#[source] io::Error),
    /// It could not be given a home.
    #[error("a home for kubectl: {0}")]
    Home(#[source] io::Error),
    /// It failed.
    #[error("kubectl {arguments}: {output}")]
    Failed {
        /// What it was asked to do.
        arguments: String,
        /// What it printed.
        output: String,
    },
}

impl Kubectl {
    /// One that follows this kubeconfig, in a network namespace if one is given.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(kubeconfig: &str, netns: Option<Netns>) -> Result<Self, KubectlError> {
        let home = TempDir::new().map_err(KubectlError::Home)?;
        let config = home.path().join("config");
        fs::write(config, kubeconfig).map_err(KubectlError::Home)?;
        Ok(Self { home, netns })
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("config")
    }

    /// A command to be run by the caller.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.netns {
            Some(netns) => netns.command("kubectl"),
            None => Command::new("kubectl"),
        };
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.home.path().join("cache"))
            .env("HOME", self.home.path());
        command
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String, KubectlError> {
        self.run_with(arguments, "")
    }

    /// The same with something on its standard input.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String, KubectlError> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(KubectlError::Start)?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without having read all of it, and says why.
            let _unread = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(KubectlError::Start)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(printed.into_owned());
        }
        let complaints = String::from_utf8_lossy(&output.stderr);
        Err(KubectlError::Failed {
            arguments: arguments.join(" "),
            output: format!("{printed}{complaints}").trim().to_owned(),
        })
    }

    /// `kubectl apply` of these manifests.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn apply(&self, manifests: &str) -> Result<String, KubectlError> {
        self.run_with(&["apply", "-f", "-"], manifests)
    }
}
