//! Probing a lab, and who is in it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sidewall_policy::model;

use super::hosts::Hosts;
use super::result::ProbeResult;
use super::spec::{Family, Party, Port, Probe, Target};
use super::{Error, Lab, Matrix, lock};
use crate::net::Netns;
use crate::probe::{self, Held, Protocol, Seen, parallel};

/// A probe over one family, ready to be tried.
#[derive(Debug)]
struct Attempt {
    probe: Probe,
    from: Netns,
    destination: SocketAddr,
    right: BTreeSet<String>,
}

impl Lab {
    /// Tries probes side by side: one result for each family that both ends have, or for the one
    /// that was asked for, in the order of the probes.
    ///
    /// # Errors
    ///
    /// When a probe names somebody who does not exist. Nothing has been tried then.
    pub fn probe(&self, probes: &[Probe]) -> Result<Vec<ProbeResult>, Error> {
        let mut attempts = Vec::new();
        {
            let mut hosts = lock(&self.hosts);
            for probe in probes {
                attempts.extend(resolve(&mut hosts, probe)?);
            }
        }
        let timeout = self.config.probe_timeout;
        let results = parallel(&attempts, self.config.probe_width, |attempt| {
            attempt.run(timeout)
        });
        results.into_iter().collect()
    }

    /// Whether the right server answers, over every family that both ends have. `from` and `to` are
    /// written as in probe files.
    ///
    /// # Errors
    ///
    /// As [`Self::probe`], and when a name cannot be read.
    pub fn reaches(&self, from: &str, to: &str, port: impl Into<Port>) -> Result<bool, Error> {
        let results = self.probe(&[Probe::new(from, to, port)?])?;
        Ok(results.iter().all(|result| result.answered))
    }

    /// Tries every pod against every pod, itself included, over TCP: at `port`, or if `None` at
    /// the first TCP port that the target's containers declare.
    ///
    /// # Errors
    ///
    /// As [`Self::probe`].
    pub fn matrix(&self, port: Option<&Port>) -> Result<Matrix, Error> {
        let mut probes = Vec::new();
        {
            let hosts = lock(&self.hosts);
            let pods = &hosts.world().pods;
            for (from, source) in pods {
                for (to, target) in pods {
                    let declared = target
                        .ports
                        .iter()
                        .find(|port| port.protocol == Protocol::Tcp);
                    let port = port
                        .cloned()
                        .or_else(|| declared.map(|port| Port::Number(port.number)));
                    let in_common = source
                        .addresses
                        .iter()
                        .any(|a| target.addresses.iter().any(|b| a.is_ipv4() == b.is_ipv4()));
                    if let (Some(port), true) = (port, in_common) {
                        probes.push(Probe::new(from, to, port)?);
                    }
                }
            }
        }
        self.probe(&probes).map(Matrix::new)
    }

    /// Opens a connection and keeps it, over the family asked for or else over IPv4 if both ends
    /// have it.
    ///
    /// # Errors
    ///
    /// As [`Self::probe`], when the server does not answer, and over SCTP and ICMP.
    pub fn hold(&self, probe: &Probe) -> Result<Held, Error> {
        let attempt = resolve(&mut lock(&self.hosts), probe)?.swap_remove(0);
        let open = match probe.protocol {
            Protocol::Tcp => Held::open,
            Protocol::Udp => Held::open_udp,
            protocol @ (Protocol::Sctp | Protocol::Icmp) => {
                return Err(Error::NotHeld(protocol));
            }
        };
        let timeout = self.config.probe_timeout;
        Ok(open(&attempt.from, attempt.destination, timeout)?)
    }

    /// Everybody who came to a pod's servers, with the port: for TCP each connection that was
    /// accepted, whether or not anything was sent over it.
    ///
    /// # Errors
    ///
    /// When there is no such pod.
    pub fn seen(&self, pod: &str) -> Result<Vec<(u16, Seen)>, Error> {
        let mut hosts = lock(&self.hosts);
        let servers = hosts.servers(&Party::Pod(pod.to_owned()))?;
        let seen = servers
            .into_iter()
            .map(|server| (server.port(), server.seen()));
        Ok(seen
            .flat_map(|(port, seen)| seen.into_iter().map(move |seen| (port, seen)))
            .collect())
    }

    /// The pods, as `namespace/name`, and whether each has a sidecar.
    #[must_use]
    pub fn pods(&self) -> Vec<(String, bool)> {
        lock(&self.hosts)
            .world()
            .pods
            .iter()
            .map(|(name, pod)| (name.clone(), pod.sidecar))
            .collect()
    }

    /// The addresses of a pod, a node or a host outside.
    ///
    /// # Errors
    ///
    /// When there is nobody of that name.
    pub fn addresses(&self, party: &str) -> Result<Vec<IpAddr>, Error> {
        lock(&self.hosts).addresses(&party.parse()?)
    }

    /// The namespace of a pod, a node or a host outside, for what a lab does not offer.
    ///
    /// # Errors
    ///
    /// When there is nobody of that name.
    pub fn netns(&self, party: &str) -> Result<Netns, Error> {
        lock(&self.hosts).netns(&party.parse()?)
    }

    /// The namespace of the control host, where the distributor runs.
    #[must_use]
    pub fn control(&self) -> Netns {
        lock(&self.hosts).control().clone()
    }
}

impl Attempt {
    fn run(&self, timeout: Duration) -> Result<ProbeResult, Error> {
        let Self {
            probe,
            from,
            destination,
            right,
        } = self;
        let report = from.run(|| probe::attempt(*destination, probe.protocol, timeout))?;
        Ok(ProbeResult::new(
            probe,
            destination.port(),
            Family::of(destination.ip()),
            right,
            report,
        ))
    }
}

/// What a probe comes down to, over each family.
fn resolve(hosts: &mut Hosts, probe: &Probe) -> Result<Vec<Attempt>, Error> {
    let Probe {
        from,
        to,
        protocol,
        port,
        family,
        ..
    } = probe;
    let netns = hosts.netns(from)?;
    let sources = hosts.addresses(from)?;
    let port = number(hosts, to, *protocol, port)?;
    let destinations = match to {
        Target::Pod(name) => hosts.pod(name)?.addresses.clone(),
        Target::Service(name) => {
            let service = hosts.world().services.get(name);
            service
                .ok_or_else(|| Error::Unknown(format!("Service {name}")))?
                .addresses
                .clone()
        }
        Target::Address(address) => vec![*address],
    };
    let mut attempts = Vec::new();
    for wanted in [Family::IPv4, Family::IPv6] {
        let has = |address: &&IpAddr| Family::of(**address) == wanted;
        let loopback = destinations.iter().any(IpAddr::is_loopback);
        let source = loopback || sources.iter().any(|address| has(&address));
        let destination = destinations.iter().find(has);
        if let (Some(&address), true, true) = (
            destination,
            source,
            family.is_none_or(|family| family == wanted),
        ) {
            let right = servers(hosts, from, to, address, *protocol, port)?;
            let destination = SocketAddr::new(address, port);
            attempts.push(Attempt {
                probe: probe.clone(),
                from: netns.clone(),
                destination,
                right,
            });
        }
    }
    if attempts.is_empty() {
        return Err(Error::NoFamily {
            from: from.to_string(),
            to: to.to_string(),
        });
    }
    Ok(attempts)
}

fn number(hosts: &Hosts, to: &Target, protocol: Protocol, port: &Port) -> Result<u16, Error> {
    let name = match port {
        Port::Number(number) => return Ok(*number),
        Port::Name(name) => name,
    };
    let named = match to {
        Target::Pod(pod) => {
            let mut ports = hosts.pod(pod)?.ports.iter();
            ports.find(|port| port.protocol == protocol && port.name.as_ref() == Some(name))
        }
        Target::Service(_) | Target::Address(_) => None,
    };
    let missing = || Error::NoPort {
        to: to.to_string(),
        protocol,
        name: name.clone(),
    };
    named.map(|port| port.number).ok_or_else(missing)
}

/// The identities of the servers that may answer, each of which is started if need be.
fn servers(
    hosts: &mut Hosts,
    from: &Party,
    to: &Target,
    address: IpAddr,
    protocol: Protocol,
    port: u16,
) -> Result<BTreeSet<String>, Error> {
    if protocol == Protocol::Icmp {
        // An address that nobody has becomes somebody's.
        let owner = hosts.owner(address);
        hosts.netns(&owner)?;
        return Ok(BTreeSet::from([address.to_string()]));
    }
    if let Target::Pod(name) = to {
        return Ok(BTreeSet::from([hosts.serve(
            &Party::Pod(name.clone()),
            protocol,
            port,
        )?]));
    }
    if let Some(backends) = backends(hosts, address, protocol, port) {
        let same_family = backends
            .into_iter()
            .filter(|backend| backend.ip.is_ipv4() == address.is_ipv4());
        return same_family
            .map(|backend| hosts.serve(&hosts.owner(backend.ip), protocol, backend.port))
            .collect();
    }
    let party = if address.is_loopback() {
        from.clone()
    } else {
        hosts.owner(address)
    };
    Ok(BTreeSet::from([hosts.serve(&party, protocol, port)?]))
}

/// The backends behind a Service's address or a node's port; `None` when it is neither.
fn backends(
    hosts: &Hosts,
    address: IpAddr,
    protocol: Protocol,
    port: u16,
) -> Option<Vec<model::Backend>> {
    let protocol = match protocol {
        Protocol::Tcp => model::Protocol::Tcp,
        Protocol::Udp => model::Protocol::Udp,
        Protocol::Sctp => model::Protocol::Sctp,
        Protocol::Icmp => return None,
    };
    let world = hosts.world();
    let is_node = world
        .nodes
        .values()
        .any(|addresses| addresses.contains(&address));
    let mut is_service = false;
    for service in world.services.values() {
        let own = service.addresses.contains(&address);
        is_service |= own;
        for candidate in service
            .ports
            .iter()
            .filter(|candidate| candidate.protocol == protocol)
        {
            if own && candidate.port == port || is_node && candidate.node_port == Some(port) {
                return Some(candidate.backends.clone());
            }
        }
    }
    // A port that the Service does not have leads nowhere.
    is_service.then(Vec::new)
}
