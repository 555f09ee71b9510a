//! `sidewall inject`: workload manifests in, the same with a sidecar in each pod out.
//!
//! ```text
//!  file ─▶ documents ─▶ workload: which pods are in it ─▶ pod: init container, sidecar, token
//! ```
//!
//! A pure function of text: it asks no cluster, and a document that it has nothing to add to comes out as it
//! was, comments and all. Injecting twice is injecting once, byte for byte. A pod that no sidecar can stand
//! for is left alone and named on standard error; one whose sidecar would not enforce is an error,
//! and nothing comes out.

mod documents;
mod parts;
mod pod;
mod tree;
mod workload;

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::str::FromStr;

use tracing::warn;

pub use parts::Parts;

/// The arguments of `sidewall inject`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A file of Kubernetes objects, YAML or JSON, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filenames: Vec<PathBuf>,

    /// The image that has Envoy, the filter and this command
    #[arg(long, default_value = concat!("sidewall-proxy:", env!("CARGO_PKG_VERSION")))]
    image: String,

    /// Where sidecars find the distributor
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "sidewall.sidewall-system.svc:18000"
    )]
    distributor: Endpoint,

    /// The name that the distributor's certificate is for, where --distributor is an address: that of its
    /// Service needs no DNS, which egress policies may deny
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    distributor_name: Option<String>,

    /// Add the readiness gate sidewall.dev/policy-applied, too, which only a distributor with --kube opens:
    /// without one the pod never becomes ready
    #[arg(long)]
    readiness_gate: bool,
}

/// A host and a port to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why nothing was injected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is wrong within a file.
    #[error("{path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<Self>,
    },
    /// A document is neither YAML nor JSON.
    #[error("document {document}: {reason}")]
    Document {
        /// Which one, from 1.
        document: usize,
        /// Where and why.
        reason: String,
    },
    /// A pod that would seem to be covered and would not be.
    #[error("{object}: {field}: {reason}")]
    Uncovered {
        /// Such as `Deployment shop/web`.
        object: String,
        /// Such as `spec.containers[app].securityContext.runAsUser`, within the pod.
        field: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The result cannot be written as YAML or JSON.
    #[error("cannot be written: {0}")]
    Serialize(String),
    /// Standard output is closed.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    /// The bootstrap that comes with this command cannot be filled in.
    #[error("the sidecar's bootstrap cannot be filled in: {0}")]
    Bootstrap(String),
}

/// A pod that was left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Such as `DaemonSet kube-system/proxy`.
    pub object: String,
    /// Why no sidecar can stand for it.
    pub reason: &'static str,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: left as it is: {}", self.object, self.reason)
    }
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The documents, as they are to be applied.
    pub text: String,
    /// Pods without a sidecar.
    pub skipped: Vec<Skipped>,
}

impl Args {
    /// Reads every file, and writes all of them to standard output once none is wrong.
    ///
    /// # Errors
    ///
    /// Says which file, object and field, and what to do.
    pub fn run(self) -> Result<(), Error> {
        let name = self.distributor_name.as_deref();
        let mut parts = Parts::new(&self.image, &self.distributor, name)?;
        parts.readiness_gate = self.readiness_gate;
        let mut out = String::new();
        for path in &self.filenames {
            let text = read(path)?;
            let injected = inject(&text, &parts).map_err(|error| Error::File {
                path: path.clone(),
                source: Box::new(error),
            })?;
            for skipped in &injected.skipped {
                warn!("{}: {skipped}", path.display());
            }
            documents::append(&mut out, &injected.text);
        }
        io::stdout()
            .write_all(out.as_bytes())
            .map_err(Error::Write)?;
        Ok(())
    }
}

/// Adds a sidecar to every pod in a file of YAML or JSON documents.
///
/// # Errors
///
/// When a document cannot be read, or a pod would not be covered by its sidecar.
pub fn inject(text: &str, parts: &Parts) -> Result<Injected, Error> {
    let mut injected = Injected {
        text: String::new(),
        skipped: Vec::new(),
    };
    for document in documents::read(text) {
        let (mut tree, form) = match document.content? {
            documents::Content::Object(tree, form) => (tree, form),
            documents::Content::Nothing => {
                injected.text.push_str(document.text);
                continue;
            }
        };
        let before = tree.clone();
        workload::inject(&mut tree, parts, &mut injected.skipped)?;
        if tree == before {
            injected.text.push_str(document.text);
        } else {
            injected
                .text
                .push_str(&documents::write(&tree, form, document.text)?);
        }
    }
    Ok(injected)
}

fn read(path: &PathBuf) -> Result<String, Error> {
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })
}

/// A name or an IPv4 address, which need no quotes anywhere.
fn host_name(text: &str) -> Result<String, &'static str> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    if !text.is_empty() && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits, '-', '_' and '.'")
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or("write HOST:PORT, such as 10.96.0.50:18000")?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("the port is a number from 1 to 65535")?;
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = address.unwrap_or(host);
        let is_host = host_name(host).is_ok();
        let is_address = address.is_some() && host.parse::<std::net::Ipv6Addr>().is_ok();
        if is_host || is_address {
            Ok(Self {
                host: host.to_owned(),
                port,
            })
        } else {
            Err("the host is a name or an address; put an IPv6 address into brackets")
        }
    }
}

#[cfg(test)]
mod tests;
