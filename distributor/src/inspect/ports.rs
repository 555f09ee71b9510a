//! Which ports a question is about.

use std::collections::BTreeSet;

use clap::ValueEnum;
use sidewall_policy::model::{self, NetworkPolicy, PortRange, Ports};

use super::Error;
use super::world::World;

/// A transport protocol on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(super) enum Protocol {
    #[default]
    #[value(alias = "tcp")]
    Tcp,
    #[value(alias = "udp")]
    Udp,
    #[value(alias = "sctp")]
    Sctp,
}

impl From<Protocol> for model::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

/// A port of one protocol; sorted by protocol and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) protocol: model::Protocol,
    pub(super) number: u16,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.protocol, self.number)
    }
}

/// The ports to look at.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Selection {
    /// A destination port; may be repeated. By default every port that a policy, a Service or a
    /// named container port mentions
    #[arg(long = "port", value_name = "PORT")]
    numbers: Vec<u16>,

    /// The protocol of the --port at the same place; TCP if left out altogether
    #[arg(
        long = "protocol",
        value_name = "PROTOCOL",
        value_enum,
        ignore_case = true
    )]
    protocols: Vec<Protocol>,
}

impl Selection {
    /// What was asked for; with nothing asked, what these worlds mention.
    pub(super) fn resolve(&self, worlds: &[&World]) -> Result<Vec<Port>, Error> {
        let Self { numbers, protocols } = self;
        if !protocols.is_empty() && protocols.len() != numbers.len() {
            return Err(Error::Pairs {
                ports: numbers.len(),
                protocols: protocols.len(),
            });
        }
        let asked = numbers.iter().enumerate().map(|(place, number)| Port {
            protocol: protocols.get(place).copied().unwrap_or_default().into(),
            number: *number,
        });
        let mut ports: BTreeSet<Port> = asked.collect();
        if ports.is_empty() {
            ports.extend(worlds.iter().flat_map(|world| mentioned(world)));
        }
        if ports.is_empty() {
            ports.insert(Port {
                protocol: model::Protocol::Tcp,
                number: 80,
            });
        }
        Ok(ports.into_iter().collect())
    }
}

/// Every port that the manifests speak of: container port names, targets of Services, and the ends
/// of the ranges in rules, which is where verdicts change.
fn mentioned(world: &World) -> BTreeSet<Port> {
    let cluster = &world.cluster;
    let named = cluster.pods.values().flat_map(|pod| &pod.ports);
    let named = named.map(|port| Port {
        protocol: port.protocol,
        number: port.number,
    });
    let services = cluster.services.values().flat_map(|service| &service.ports);
    let targets = services.flat_map(|port| {
        port.backends.iter().map(|backend| Port {
            protocol: port.protocol,
            number: backend.port,
        })
    });
    let rules = cluster.policies.values().flat_map(in_rules);
    named.chain(targets).chain(rules).collect()
}

fn in_rules(policy: &NetworkPolicy) -> impl Iterator<Item = Port> {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let matches = rules.flat_map(|rule| match &rule.ports {
        Ports::Any => &[],
        Ports::Of(items) => items.as_slice(),
    });
    matches.flat_map(|item| {
        let ends = match item.port {
            PortRange::Numbers { low, high } => vec![low, high],
            PortRange::All | PortRange::Named(_) => Vec::new(),
        };
        let protocol = item.protocol;
        ends.into_iter()
            .map(move |number| Port { protocol, number })
    })
}
