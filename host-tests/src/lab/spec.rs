//! What to probe: sources, targets and expectations, in code and in YAML files.
//!
//! A probe file is a YAML list:
//!
//! ```yaml
//! - from: default/frontend        # or node:NAME, or external:ADDRESS
//!   to: default/db                # or service:NAMESPACE/NAME, or address:ADDRESS
//!   port: 6379                    # a number; for a pod also the name of a container port
//!   protocol: TCP                 # or UDP, SCTP, ICMP (port 0); TCP if left out
//!   family: IPv4                  # or IPv6; if left out, each that both ends have, one result each
//!   expect: allow                 # or deny; if left out, the result is only shown
//! ```
//!
//! A target that listens to nothing is given a server first, so that "no answer" never means
//! "nobody was there". An address that nobody has becomes a host outside the cluster.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::probe::Protocol;

/// Who probes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Party {
    /// A pod, `namespace/name`.
    Pod(String),
    /// A node, `node:NAME`: its host processes.
    Node(String),
    /// A host outside the cluster, `external:ADDRESS`.
    External(IpAddr),
}

/// Who is probed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A pod by its own addresses, `namespace/name`.
    Pod(String),
    /// A Service by its cluster IPs, `service:namespace/name`.
    Service(String),
    /// Whoever has this address, `address:ADDRESS`.
    Address(IpAddr),
}

/// Which port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(String),
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

/// What should come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// The right server answers.
    Allow,
    /// Nobody answers.
    Deny,
}

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Who tries.
    pub from: Party,
    /// To reach whom.
    pub to: Target,
    /// By which protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// At which port.
    pub port: Port,
    /// Over which family; `None`: each that both have.
    #[serde(default)]
    pub family: Option<Family>,
    /// What should come of it.
    #[serde(default)]
    pub expect: Option<Expect>,
}

/// Why a probe cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A source.
    #[error("{0:?} is no source: write NAMESPACE/POD, node:NAME or external:ADDRESS")]
    Party(String),
    /// A target.
    #[error("{0:?} is no target: write NAMESPACE/POD, service:NAMESPACE/NAME or address:ADDRESS")]
    Target(String),
    /// A file.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
}

impl Probe {
    /// A TCP probe over each family that both ends have.
    ///
    /// # Errors
    ///
    /// When `from` or `to` is in none of the forms above.
    pub fn new(from: &str, to: &str, port: impl Into<Port>) -> Result<Self, ParseError> {
        Ok(Self {
            from: from.parse()?,
            to: to.parse()?,
            protocol: Protocol::Tcp,
            port: port.into(),
            family: None,
            expect: None,
        })
    }

    /// The same by another protocol.
    #[must_use]
    pub fn by(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The same with UDP.
    #[must_use]
    pub fn udp(self) -> Self {
        self.by(Protocol::Udp)
    }

    /// The same over one family only.
    #[must_use]
    pub fn over(self, family: Family) -> Self {
        Self {
            family: Some(family),
            ..self
        }
    }

    /// The same with an expectation.
    #[must_use]
    pub fn expect(self, expect: Expect) -> Self {
        Self {
            expect: Some(expect),
            ..self
        }
    }
}

/// Reads a probe file.
///
/// # Errors
///
/// [`ParseError::File`] names the place in the file.
pub fn read_probes(path: &Path) -> Result<Vec<Probe>, ParseError> {
    let error = |reason: String| ParseError::File {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|source| error(source.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|source| error(source.to_string()))
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::IPv4
        } else {
            Self::IPv6
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        })
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

impl From<u16> for Port {
    fn from(number: u16) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Port {
    fn from(name: &str) -> Self {
        name.parse()
            .map_or_else(|_| Self::Name(name.to_owned()), Self::Number)
    }
}

/// `namespace/name`, each part there and nothing else.
fn namespaced(text: &str) -> Option<String> {
    let (namespace, name) = text.split_once('/')?;
    let is_name = |part: &str| !part.is_empty() && !part.contains(['/', ':', ' ']);
    (is_name(namespace) && is_name(name)).then(|| text.to_owned())
}

impl FromStr for Party {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let party = match text.split_once(':') {
            Some(("node", name)) if !name.is_empty() => Some(Self::Node(name.to_owned())),
            Some(("external", address)) => address.parse().ok().map(Self::External),
            _ => namespaced(text).map(Self::Pod),
        };
        party.ok_or_else(|| ParseError::Party(text.to_owned()))
    }
}

impl FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let target = match text.split_once(':') {
            Some(("service", name)) => namespaced(name).map(Self::Service),
            Some(("address", address)) => address.parse().ok().map(Self::Address),
            _ => namespaced(text).map(Self::Pod),
        };
        target.ok_or_else(|| ParseError::Target(text.to_owned()))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => f.write_str(name),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::External(address) => write!(f, "external:{address}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => f.write_str(name),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Address(address) => write!(f, "address:{address}"),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl TryFrom<String> for Party {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl TryFrom<String> for Target {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Party> for String {
    fn from(party: Party) -> Self {
        party.to_string()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_as_it_prints() {
        for text in [
            "default/web",
            "node:worker-1",
            "external:172.17.0.5",
            "external:2001:db8::5",
        ] {
            assert_eq!(text.parse::<Party>().unwrap().to_string(), text);
        }
        for text in [
            "default/web",
            "service:default/web",
            "address:10.0.0.1",
            "address:::1",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_in_no_form_is_refused_with_the_forms() {
        for text in [
            "web",
            "default/",
            "a/b/c",
            "service:default/web",
            "external:nowhere",
            "node:",
            "",
        ] {
            let error = text.parse::<Party>().unwrap_err().to_string();
            assert!(
                error.contains("write NAMESPACE/POD, node:NAME or external:ADDRESS"),
                "{text}: {error}"
            );
        }
        for text in [
            "service:web",
            "node:n",
            "address:10.0.0",
            "external:10.0.0.1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_says_where_it_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            fs::write(file.path(), text).unwrap();
            read_probes(file.path())
        };
        let probes = read(
            "- {from: a/b, to: service:c/d, port: 80}\n- {from: a/b, to: c/d, port: web, protocol: UDP, family: IPv6, expect: deny}\n",
        );
        let web = Probe::new("a/b", "c/d", "web")
            .unwrap()
            .udp()
            .over(Family::IPv6)
            .expect(Expect::Deny);
        assert_eq!(
            probes.unwrap(),
            [Probe::new("a/b", "service:c/d", 80).unwrap(), web]
        );
        for (text, part) in [
            ("- {from: a/b, to: c/d, port: 80, expct: deny}", "expct"),
            ("- {from: a/b, to: c, port: 80}", "\"c\" is no target"),
            ("- {from: a/b, to: c/d}", "port"),
            ("- {from: a/b, to: c/d, port: 80, protocol: DCCP}", "DCCP"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("line 1"),
                "{text}: {error}"
            );
        }
    }
}
