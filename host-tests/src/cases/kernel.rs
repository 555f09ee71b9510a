//! Cases held by the rules of nodes in real kernels: each node's table in a namespace of its own, and the
//! first packet of each connection sent through those that it meets.
//!
//! There are no pods, servers or Envoys: whether a packet comes out again is all that there is to tell.
//! A connection that a node hands to its Envoy counts as let through, for that is what the table decides.

mod node;
mod packet;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sidewall_distributor::node::ruleset::{DeniedTcp, Settings};

use super::engine::by_nodes;
use super::run::{Enforcer, run};
use super::spec::{PlaneName, Restart};
use super::told::Told;
use super::{Case, Compiled, Error, Question, Unmet};
use crate::lab::{Party, translation};
use crate::probe::Protocol;
use node::{FIRST_NUMBER, Node};
use packet::First;
use records::Recorded;

/// Numbers the nodes of this process, for namespaces have names.
static NODES: AtomicUsize = AtomicUsize::new(0);

/// Drops that the log's rate limit surely lets through, after a table is new: its burst is 100.
const RECORDED: usize = 90;

/// How many numbers packets may have.
const NUMBERS: u16 = 25_000;

/// How long a record may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kernels of nodes, kept from case to case.
#[derive(Debug, Default)]
pub struct Kernel {
    nodes: BTreeMap<String, Node>,
    /// What the nodes were made from.
    ground: Vec<(String, Vec<IpAddr>, Settings)>,
    /// How many numbers have been given to packets since the first. A node may still wait for the rest of
    /// a connection: none is used again soon.
    given: u16,
    /// Drops since the tables are new, by node.
    drops: BTreeMap<String, usize>,
    /// What was asked, and how many of it was recorded as dropped.
    tally: (usize, usize),
}

/// A packet on its way.
struct Travelling {
    /// The node that it comes to next; `None` once it has arrived, or is lost.
    next: Option<String>,
    bytes: Vec<u8>,
    /// Where it was last seen.
    seen: Option<String>,
    has_arrived: bool,
}

impl Kernel {
    /// Runs a case: what is not as it says, and where a node's records tell something else than its
    /// snapshot.
    ///
    /// # Errors
    ///
    /// When the system refuses something.
    pub fn run(&mut self, case: &Case) -> Result<Vec<Unmet>, Error> {
        if case.skip.contains_key(&PlaneName::Node) {
            return Ok(Vec::new());
        }
        for node in self.nodes.values_mut() {
            node.forget()?;
        }
        self.drops.clear();
        run(case, self)
    }

    /// How many connections were asked about, and of how many a record was read.
    #[must_use]
    pub fn tally(&self) -> (usize, usize) {
        self.tally
    }

    fn number<'a>(&mut self, questions: &[&'a Question]) -> BTreeMap<u16, &'a Question> {
        let count = u16::try_from(questions.len()).unwrap_or(u16::MAX);
        if self.given.saturating_add(count) > NUMBERS {
            self.given = 0;
        }
        let first = FIRST_NUMBER + self.given;
        self.given += count.min(NUMBERS);
        (first..FIRST_NUMBER + NUMBERS)
            .zip(questions.iter().copied())
            .collect()
    }

    /// Makes the nodes anew, unless they are those that there are.
    fn settle(&mut self, compiled: &Compiled) -> Result<(), Error> {
        let nodes = &compiled.cluster().nodes;
        let own = nodes.values().flat_map(|node| &node.addresses);
        let mut cluster_cidrs: Vec<_> = own.copied().map(ipnet::IpNet::from).collect();
        cluster_cidrs.extend(compiled.pod_cidrs.values().flatten());
        let ground: Vec<_> = nodes
            .values()
            .map(|node| {
                let name = node.name.to_string();
                let ranges = compiled.pod_cidrs.get(&name);
                let settings = Settings {
                    pod_cidrs: ranges.cloned().unwrap_or_default(),
                    cluster_cidrs: cluster_cidrs.clone(),
                    control_planes: Vec::new(),
                    denied_tcp: DeniedTcp::Drop,
                    proxy_port: Some(15_100),
                    nflog_group: 4747,
                };
                (name, node.addresses.clone(), settings)
            })
            .collect();
        if ground != self.ground {
            self.nodes.clear();
            for (name, addresses, settings) in &ground {
                let label = format!("cases{}", NODES.fetch_add(1, Ordering::Relaxed));
                let node = Node::create(&label, name, addresses, settings.clone())?;
                self.nodes.insert(name.clone(), node);
            }
            self.ground = ground;
        }
        Ok(())
    }

    /// Sends the packets on until each has arrived or is lost.
    fn travel(
        &self,
        compiled: &Compiled,
        travelling: &mut BTreeMap<u16, Travelling>,
        awaited: &BTreeSet<u16>,
    ) -> Result<(), Error> {
        while travelling.values().any(|packet| packet.next.is_some()) {
            for (name, node) in &self.nodes {
                let here = |packet: &Travelling| packet.next.as_ref() == Some(name);
                let packets: Vec<(u16, Vec<u8>)> = travelling
                    .iter()
                    .filter(|(_, packet)| here(packet))
                    .map(|(number, packet)| (*number, packet.bytes.clone()))
                    .collect();
                for (number, _) in &packets {
                    if let Some(packet) = travelling.get_mut(number) {
                        packet.next = None;
                        packet.seen = Some(name.clone());
                    }
                }
                for passed in node.judge(&packets, awaited)? {
                    if let Some(packet) = travelling.get_mut(&passed.number) {
                        packet.next = passed.to.and_then(|to| onward(compiled, name, to));
                        packet.has_arrived = packet.next.is_none();
                        packet.bytes = passed.bytes;
                    }
                }
            }
            let unknown = travelling.values().filter_map(|packet| packet.next.clone());
            if let Some(unknown) = unknown
                .into_iter()
                .find(|name| !self.nodes.contains_key(name))
            {
                return Err(Error::Kernel {
                    node: unknown,
                    reason: "there is no such node".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn set_out(
        &self,
        compiled: &Compiled,
        question: &Question,
        number: u16,
    ) -> Result<Travelling, Error> {
        let first = First {
            number,
            source: question.source,
            destination: question.dialled,
            protocol: question.protocol_number(),
        };
        let mut travelling = Travelling {
            next: None,
            bytes: Vec::new(),
            seen: None,
            has_arrived: false,
        };
        if question.source.is_loopback() {
            // It never leaves the pod.
            travelling.has_arrived = true;
            return Ok(travelling);
        }
        let mut grounds = self.ground.iter();
        let speaker = grounds
            .find(|(_, addresses, _)| addresses.contains(&question.source))
            .filter(|_| compiled.node.owner(question.source).is_none())
            .filter(|_| !matches!(question.from, Party::External(_)));
        if let Some((name, ..)) = speaker {
            if let Some((to, bytes)) = self.nodes[name].speak(&first)? {
                travelling.next = onward(compiled, name, to);
                travelling.has_arrived = travelling.next.is_none();
                travelling.bytes = bytes;
            }
        } else if let Some(bytes) = first.encode() {
            travelling.bytes = bytes;
            travelling.next = entrance(compiled, question);
        }
        Ok(travelling)
    }

    /// What the nodes recorded of what they dropped: where it is not what their snapshots tell.
    fn compare(
        &mut self,
        compiled: &Compiled,
        dropped: &BTreeMap<u16, (&Question, String)>,
    ) -> Vec<String> {
        let mut unmet = Vec::new();
        for (name, node) in &self.nodes {
            let here = dropped.iter().filter(|(_, (_, node))| node == name);
            let mut due: BTreeSet<u16> = here.map(|(number, _)| *number).collect();
            let drops = self.drops.entry(name.clone()).or_default();
            *drops += due.len();
            if *drops > RECORDED {
                // Some are told, and nobody knows which.
                due.clear();
            }
            let started = Instant::now();
            while started.elapsed() < PATIENCE {
                let wait = if due.is_empty() { 1 } else { 50 };
                let Some(recorded) = node.records.next(Duration::from_millis(wait)) else {
                    if due.is_empty() {
                        break;
                    }
                    continue;
                };
                let Some((number, question)) = recorded.of(dropped) else {
                    continue;
                };
                due.remove(&number);
                self.tally.1 += 1;
                let told = by_nodes(compiled, question).sides;
                let denials: Vec<Told> = told.into_iter().filter(|told| !told.allows()).collect();
                let agrees = match &recorded.told {
                    Some(told) => denials.contains(told),
                    None => denials.is_empty(),
                };
                if !agrees {
                    let found = &recorded.told;
                    let found =
                        format!("{name} recorded {found:?}, its snapshot tells {denials:?}");
                    unmet.push(question.unmet(found));
                }
            }
            let missing = due.iter().filter_map(|number| dropped.get(number));
            unmet.extend(missing.map(|(question, _)| {
                question.unmet(format!("{name} dropped it without a record"))
            }));
        }
        unmet
    }
}

impl Recorded {
    /// The question whose packet it is about. Echo requests have no port that could tell.
    fn of<'a>(
        &self,
        dropped: &BTreeMap<u16, (&'a Question, String)>,
    ) -> Option<(u16, &'a Question)> {
        let mut dropped = dropped.iter();
        let found = dropped.find(|(number, (question, _))| match self.number {
            Some(recorded) => **number == recorded,
            None => {
                let ends = (
                    question.source.to_string(),
                    question.dialled.ip().to_string(),
                );
                question.protocol == Protocol::Icmp && ends == self.ends
            }
        });
        found.map(|(number, (question, _))| (*number, *question))
    }
}

impl Enforcer for Kernel {
    fn follow(&mut self, compiled: &Compiled) -> Result<(), Error> {
        self.settle(compiled)?;
        let services = compiled.cluster().services.values();
        let services: Vec<_> = services
            .map(|service| {
                let addresses = service.addresses().collect();
                translation(&service.id.to_string(), addresses, &service.ports)
            })
            .collect();
        for (name, node) in &mut self.nodes {
            node.follow(compiled.node.node(name), services.clone())?;
        }
        Ok(())
    }

    fn restart(&mut self, who: &Restart, compiled: &Compiled) -> Result<Vec<String>, Error> {
        let Restart::Agent(name) = who else {
            return Ok(Vec::new());
        };
        let node = self.nodes.get_mut(name).ok_or_else(|| Error::Kernel {
            node: name.clone(),
            reason: "there is no such node".to_owned(),
        })?;
        let drift = node.restart(compiled.node.node(name))?.into_iter();
        Ok(drift
            .map(|drift| format!("{name}, after its agent was restarted: {drift}"))
            .collect())
    }

    fn ask(&mut self, compiled: &Compiled, questions: &[Question]) -> Result<Vec<String>, Error> {
        for node in self.nodes.values() {
            node.forget_connections()?;
        }
        let mut concerned: Vec<&Question> = questions.iter().collect();
        concerned.retain(|each| each.concerns(PlaneName::Node));
        let numbered = self.number(&concerned);
        let awaited = numbered.iter().filter(|(_, question)| question.expected);
        let awaited: BTreeSet<u16> = awaited.map(|(number, _)| *number).collect();
        let mut travelling = BTreeMap::new();
        for (number, question) in &numbered {
            travelling.insert(*number, self.set_out(compiled, question, *number)?);
        }
        self.travel(compiled, &mut travelling, &awaited)?;
        self.tally.0 += numbered.len();
        let mut unmet = Vec::new();
        let mut dropped = BTreeMap::new();
        for (number, packet) in travelling {
            let question = numbered[&number];
            if packet.has_arrived != question.expected {
                let found = if packet.has_arrived {
                    "passed"
                } else {
                    "dropped"
                };
                let at = packet.seen.as_deref().unwrap_or("its own node");
                unmet.push(question.unmet(format!("{found}, seen last by {at}")));
            }
            if let (false, Some(node)) = (packet.has_arrived, packet.seen) {
                dropped.insert(number, (question, node));
            }
        }
        unmet.extend(self.compare(compiled, &dropped));
        Ok(unmet)
    }
}

/// The node that a question's first packet comes to, unless that is sent by a node itself.
fn entrance(compiled: &Compiled, question: &Question) -> Option<String> {
    let here = compiled.node.owner(question.source);
    let node_of = |address| compiled.node.owner(address)?.node.clone();
    here.and_then(|owner| owner.node.clone())
        .or_else(|| question.node_port.clone())
        .or_else(|| question.ends.first().and_then(|end| node_of(end.ip())))
}

/// Where a packet goes that a node has passed on.
fn onward(compiled: &Compiled, from: &str, to: IpAddr) -> Option<String> {
    let pods_node = compiled.node.owner(to).and_then(|owner| owner.node.clone());
    let ranges = compiled.pod_cidrs.iter();
    let mut by_range = ranges.filter(|(_, ranges)| ranges.iter().any(|range| range.contains(&to)));
    let nodes = compiled.cluster().nodes.values();
    let mut nodes = nodes.filter(|node| node.addresses.contains(&to));
    pods_node
        .or_else(|| by_range.next().map(|(name, _)| name.clone()))
        .or_else(|| nodes.next().map(|node| node.name.to_string()))
        .filter(|node| node != from)
}
