//! What the tables and entries of a step ask, one connection at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sidewall_policy::model::{Cluster, Pod};

use super::spec::{Entry, Pairs, PlaneName, Step, Table};
use super::state::service_of;
use super::{Case, Error, State};
use crate::lab::{Family, Party, Target};
use crate::probe::Protocol;

/// May this connection be made?
#[derive(Clone, Debug)]
pub struct Question {
    /// Who tries.
    pub from: Party,
    /// To reach whom.
    pub to: Target,
    /// By which protocol.
    pub protocol: Protocol,
    /// From where.
    pub source: IpAddr,
    /// What is dialled.
    pub dialled: SocketAddr,
    /// Where it may end: the backends of a Service, or what is dialled itself.
    pub ends: Vec<SocketAddr>,
    /// The node whose port is dialled, if it is one that leads to a Service.
    pub node_port: Option<String>,
    /// What the case says.
    pub expected: bool,
    /// Who decides, if the case says so.
    pub by: Option<BTreeSet<String>>,
    skip: BTreeMap<PlaneName, String>,
}

impl Question {
    /// Whether it concerns a plane.
    #[must_use]
    pub fn concerns(&self, plane: PlaneName) -> bool {
        let is_carried = plane != PlaneName::Proxy || self.protocol == Protocol::Tcp;
        is_carried && !self.skip.contains_key(&plane)
    }

    /// The IANA number of its protocol.
    #[must_use]
    pub fn protocol_number(&self) -> u8 {
        match (self.protocol, self.source) {
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
            (Protocol::Sctp, _) => 132,
            (Protocol::Icmp, IpAddr::V4(_)) => 1,
            (Protocol::Icmp, IpAddr::V6(_)) => 58,
        }
    }

    /// What was found instead of what the case says, in words.
    #[must_use]
    pub fn unmet(&self, found: impl fmt::Display) -> String {
        let Self {
            from,
            to,
            dialled,
            protocol,
            expected,
            ..
        } = self;
        let expected = if *expected { "allowed" } else { "denied" };
        format!("{from} -> {to} ({dialled}) {protocol}: {found}, expected {expected}")
    }
}

/// Everything that a step asks.
///
/// # Errors
///
/// [`Error::Unknown`] when it speaks of somebody who is not there.
pub fn questions(
    case: &Case,
    step: &Step,
    state: &State,
    cluster: &Cluster,
) -> Result<Vec<Question>, Error> {
    let asking = Asking {
        case,
        cluster,
        running: state.pods(),
        pods: cluster
            .pods
            .values()
            .map(|pod| (pod.id.to_string(), pod))
            .collect(),
    };
    let mut questions = Vec::new();
    for table in &step.expect {
        asking.table(table, &mut questions)?;
    }
    for entry in &step.probe {
        for (pairs, expected) in [(&entry.allow, true), (&entry.deny, false)] {
            asking.entry(entry, pairs, expected, &mut questions)?;
        }
    }
    Ok(questions)
}

struct Asking<'a> {
    case: &'a Case,
    cluster: &'a Cluster,
    running: Vec<String>,
    pods: BTreeMap<String, &'a Pod>,
}

/// A question before addresses are known.
struct Draft<'a> {
    from: &'a Party,
    to: &'a Target,
    protocol: Protocol,
    port: u16,
    expected: bool,
}

impl Asking<'_> {
    fn table(&self, table: &Table, questions: &mut Vec<Question>) -> Result<(), Error> {
        for from in &self.running {
            for to in self.running.iter().filter(|to| *to != from) {
                let service = service_of(to);
                let has_service = self
                    .cluster
                    .services
                    .keys()
                    .any(|id| id.to_string() == service);
                let by_service = has_service.then_some(Target::Service(service));
                for target in [Some(Target::Pod(to.clone())), by_service] {
                    let Some(to_whom) = target else { continue };
                    let draft = Draft {
                        from: &Party::Pod(from.clone()),
                        to: &to_whom,
                        protocol: table.protocol,
                        port: table.port,
                        expected: table.allows(from, to),
                    };
                    questions.extend(self.over_each_family(&draft)?);
                }
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        entry: &Entry,
        pairs: &[Pairs],
        expected: bool,
        questions: &mut Vec<Question>,
    ) -> Result<(), Error> {
        for (from, to) in pairs.iter().flat_map(|pairs| pairs.expand(&self.running)) {
            let draft = Draft {
                from: &from,
                to: &to,
                protocol: entry.protocol,
                port: entry.port,
                expected,
            };
            let found = self.over_each_family(&draft)?.into_iter();
            let mut found = found
                .filter(|question| {
                    let family = Family::of(question.source);
                    entry.family.is_none_or(|wanted| wanted == family)
                })
                .peekable();
            if found.peek().is_none() {
                return Err(self.unknown(format!("family in common of {from} and {to}")));
            }
            questions.extend(found.map(|question| Question {
                by: entry.by.clone(),
                skip: entry.skip.clone(),
                ..question
            }));
        }
        Ok(())
    }

    fn over_each_family(&self, draft: &Draft<'_>) -> Result<Vec<Question>, Error> {
        let sources = match draft.from {
            Party::Pod(name) => self.pod(name)?.ips.clone(),
            Party::Node(name) => self.node(name)?,
            Party::External(address) => vec![*address],
        };
        let destinations = match draft.to {
            Target::Pod(name) => self.pod(name)?.ips.clone(),
            Target::Service(name) => {
                let mut services = self.cluster.services.values();
                let service = services.find(|service| service.id.to_string() == *name);
                let service = service.ok_or_else(|| self.unknown(format!("Service {name}")))?;
                service.addresses().collect()
            }
            Target::Address(address) => vec![*address],
        };
        let mut questions = Vec::new();
        for is_v4 in [true, false] {
            let of_family = |ip: &&IpAddr| ip.is_ipv4() == is_v4;
            let loopback = destinations.iter().find(|ip| ip.is_loopback());
            let source = loopback.or(sources.iter().find(of_family));
            let destination = destinations.iter().find(of_family);
            if let Some((source, destination)) = source.zip(destination) {
                questions.push(self.question(draft, *source, *destination));
            }
        }
        Ok(questions)
    }

    fn question(&self, draft: &Draft<'_>, source: IpAddr, destination: IpAddr) -> Question {
        let dialled = SocketAddr::new(destination, draft.port);
        let mut question = Question {
            from: draft.from.clone(),
            to: draft.to.clone(),
            protocol: draft.protocol,
            source,
            dialled,
            ends: vec![dialled],
            node_port: None,
            expected: draft.expected,
            by: None,
            skip: BTreeMap::new(),
        };
        let number = question.protocol_number();
        let mut nodes = self.cluster.nodes.values();
        let node = nodes.find(|node| node.addresses.contains(&destination));
        for service in self.cluster.services.values() {
            for port in &service.ports {
                let own = service.addresses().any(|ip| ip == destination);
                let own = own && port.port == draft.port;
                let by_node = node.is_some() && port.node_port == Some(draft.port);
                if port.protocol.number() == number && (own || by_node) {
                    let backends = port.backends.iter();
                    let same = backends.filter(|end| end.ip.is_ipv4() == destination.is_ipv4());
                    question.ends = same.map(|end| SocketAddr::new(end.ip, end.port)).collect();
                    question.node_port = node.filter(|_| by_node).map(|node| node.name.to_string());
                }
            }
        }
        question
    }

    fn pod(&self, name: &str) -> Result<&Pod, Error> {
        let pod = self.pods.get(name).copied();
        pod.ok_or_else(|| self.unknown(format!("pod {name}")))
    }

    fn node(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let node = self.cluster.nodes.get(name);
        let node = node.ok_or_else(|| self.unknown(format!("node {name}")))?;
        Ok(node.addresses.clone())
    }

    fn unknown(&self, what: String) -> Error {
        Error::Unknown {
            case: self.case.to_string(),
            what,
        }
    }
}
