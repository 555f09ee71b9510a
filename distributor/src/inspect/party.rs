//! Who a question is about: pods, Services and addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sidewall_policy::model::{NamespacedName, Phase, Pod, Service};

use super::world::World;

/// One end of a connection, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// `NAMESPACE/NAME`: a pod, or a Service if there is no such pod.
    Named(NamespacedName),
    /// `service:NAMESPACE/NAME`: a Service for certain.
    Service(NamespacedName),
    /// Anybody's address.
    Address(IpAddr),
}

/// Why there is nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartyError {
    /// It cannot be read.
    #[error("{0:?} is neither NAMESPACE/NAME nor service:NAMESPACE/NAME nor an IP address")]
    Form(String),
    /// It does not exist.
    #[error("there is no {what} {name} in the manifests")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It exists and cannot take part.
    #[error("Pod {name} takes no part in any connection: {reason}")]
    Silent {
        /// The pod.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A Service cannot open connections.
    #[error("Service {0} opens no connections; name the pod behind it that does")]
    NoSource(String),
}

impl FromStr for Party {
    type Err = PartyError;

    fn from_str(text: &str) -> Result<Self, PartyError> {
        let named = |text: &str| {
            let (namespace, name) = text.split_once('/')?;
            let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
            whole.then(|| NamespacedName::new(namespace, name))
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        match text.strip_prefix("service:") {
            Some(rest) => named(rest).map(Self::Service),
            None => named(text).map(Self::Named),
        }
        .ok_or_else(|| PartyError::Form(text.to_owned()))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(id) => id.fmt(f),
            Self::Service(id) => write!(f, "service:{id}"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// Who was meant.
#[derive(Clone, Debug)]
pub(super) enum Found<'a> {
    Pod(&'a Pod),
    Service(&'a Service),
    Address(IpAddr),
}

impl Party {
    /// Looks for it. An address that a pod or a Service has stands for that.
    pub(super) fn find<'a>(&self, world: &'a World) -> Result<Found<'a>, PartyError> {
        let cluster = &world.cluster;
        let unknown = |what, id: &NamespacedName| PartyError::Unknown {
            what,
            name: id.to_string(),
        };
        match self {
            Self::Named(id) => match (cluster.pods.get(id), cluster.services.get(id)) {
                (Some(pod), _) => Ok(Found::Pod(pod)),
                (None, Some(service)) => Ok(Found::Service(service)),
                (None, None) => Err(unknown("pod or Service", id)),
            },
            Self::Service(id) => cluster
                .services
                .get(id)
                .map(Found::Service)
                .ok_or_else(|| unknown("Service", id)),
            Self::Address(ip) => {
                let service = || {
                    let mut all = cluster.services.values();
                    all.find(|service| service.cluster_ips.contains(ip))
                };
                Ok(match (world.owner(*ip), service()) {
                    (Some(pod), _) => Found::Pod(pod),
                    (None, Some(service)) => Found::Service(service),
                    (None, None) => Found::Address(*ip),
                })
            }
        }
    }
}

impl Found<'_> {
    /// Its addresses on the network.
    pub(super) fn addresses(&self, world: &World) -> Result<Vec<IpAddr>, PartyError> {
        match self {
            Self::Address(ip) => Ok(vec![*ip]),
            Self::Service(service) => Ok(service.addresses().collect()),
            Self::Pod(pod) => {
                let silent = |reason| PartyError::Silent {
                    name: pod.id.to_string(),
                    reason,
                };
                if pod.phase == Phase::Terminal {
                    return Err(silent("it has ended"));
                }
                let node = pod.node.as_ref().filter(|_| pod.host_network);
                let addresses = match node.and_then(|node| world.cluster.nodes.get(node)) {
                    Some(node) => node.addresses.clone(),
                    None => pod.ips.clone(),
                };
                if addresses.is_empty() {
                    return Err(silent(
                        "it shares the network of a node that has no address",
                    ));
                }
                Ok(addresses)
            }
        }
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => pod.id.fmt(f),
            Self::Service(service) => write!(f, "service:{}", service.id),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}
