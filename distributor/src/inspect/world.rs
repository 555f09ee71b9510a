//! The manifests as one cluster, with one snapshot that holds every pod.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::{Flow, Side, Verdict};
use sidewall_policy::model::{Cluster, NamespacedName, Pod, Protocol};
use sidewall_policy::snapshot::Snapshot;
use sidewall_policy::verify::verify;

use super::Error;
use super::ruling::Ruling;
use crate::cluster::{Event, Object, manifests};
use crate::index::Index;
use crate::problem::Problem;

/// Where the manifests are, and how they are to be understood.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Source {
    /// The folder whose YAML and JSON files are the cluster
    #[arg(long, value_name = "DIR")]
    pub(super) manifests: PathBuf,

    #[command(flatten)]
    pub(super) reading: Reading,
}

/// Choices that the distributor would make, too.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Reading {
    /// Judge what a pod sends to its own node by its egress policies, as the distributor does
    /// with the same flag
    #[arg(long)]
    enforce_own_node_egress: bool,
}

/// A cluster that can be asked.
#[derive(Debug)]
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) problems: Vec<Problem>,
    options: Options,
    snapshot: Snapshot,
}

impl World {
    /// Reads a folder.
    pub(super) fn read(folder: &Path, reading: Reading) -> Result<Self, Error> {
        let Reading {
            enforce_own_node_egress,
        } = reading;
        let options = Options {
            node_plane: false,
            enforce_own_node_egress,
            ..Options::default()
        };
        let unreadable = |reason: String| Error::Manifests {
            path: folder.to_owned(),
            reason,
        };
        let mut index = Index::new(options);
        let mut problems = Vec::new();
        let mut placeholders = Placeholders::default();
        for event in manifests::read(folder) {
            match event {
                Event::Report(_, found) => problems.extend(found),
                Event::Apply(Object::Pod(pod)) => {
                    let pod = placeholders.fill(pod, &mut problems);
                    index.apply(Event::Apply(Object::Pod(pod)));
                }
                event => index.apply(event),
            }
        }
        if !index.is_synced() {
            let reasons: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(unreadable(reasons.join("; ")));
        }
        let cluster = index.cluster();
        let pods: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
        let snapshot = Snapshot::check(compile_snapshot(&cluster, &pods, &options))
            .map_err(|error| unreadable(format!("what they compile to is refused: {error}")))?;
        Ok(Self {
            cluster,
            problems,
            options,
            snapshot,
        })
    }

    /// Judges one connection, with no words about it.
    pub(super) fn cell(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Cell {
        let flow = flow(source, destination, protocol, port);
        let decision = self.snapshot.judge(&flow);
        let denies = |side: Option<Side>| side.is_some_and(|side| side.verdict == Verdict::Deny);
        match (denies(decision.egress), denies(decision.ingress)) {
            (false, false) => Cell::Allowed,
            (true, false) => Cell::Egress,
            (false, true) => Cell::Ingress,
            (true, true) => Cell::Both,
        }
    }

    /// Judges one connection, with both sides in words.
    pub(super) fn judge(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Ruling {
        let flow = flow(source, destination, protocol, port);
        Ruling::new(&self.snapshot, &flow, self.snapshot.judge(&flow))
    }

    /// Holds the ruling on one connection to the reference evaluator's opinion.
    pub(super) fn verify(
        &self,
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Result<(), Error> {
        let subjects = self.cluster.pods.keys().cloned().collect();
        let flow = flow(source, destination, protocol, port);
        let compiled = (&self.snapshot, &subjects);
        verify(&self.cluster, &self.options, compiled, &flow).map_err(|disagreement| {
            Error::Disagreement {
                connection: format!("{source} → {destination} {protocol} {port}"),
                disagreement,
            }
        })
    }

    /// Pods that policies can select and that have an address.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.cluster
            .pods
            .values()
            .filter(|pod| pod.is_selectable() && !pod.ips.is_empty())
    }

    /// The pod that an address belongs to.
    pub(super) fn owner(&self, ip: IpAddr) -> Option<&Pod> {
        self.pods()
            .filter(|pod| pod.ips.contains(&ip))
            .max_by(|a, b| a.claim().cmp(&b.claim()))
    }
}

fn flow(source: IpAddr, destination: IpAddr, protocol: Protocol, port: u16) -> Flow {
    Flow {
        source,
        destination,
        protocol: protocol.number(),
        port,
    }
}

/// The verdict on one connection of which one end is a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    /// It passes.
    Allowed,
    /// The source's side denies it.
    Egress,
    /// The destination's side denies it.
    Ingress,
    /// Both sides deny it.
    Both,
}

impl Cell {
    pub(super) const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed)
    }
}

/// Addresses for pods that have none, as in manifests that were never applied: from the range for
/// tests of network devices (RFC 2544), which no cluster uses.
#[derive(Debug, Default)]
struct Placeholders {
    given: BTreeSet<NamespacedName>,
}

impl Placeholders {
    const FIRST: u32 = Ipv4Addr::new(198, 18, 0, 1).to_bits();

    fn fill(&mut self, mut pod: Pod, problems: &mut Vec<Problem>) -> Pod {
        if pod.ips.is_empty() && pod.is_selectable() {
            let count = u32::try_from(self.given.len()).unwrap_or(u32::MAX);
            let address = Ipv4Addr::from_bits(Self::FIRST.saturating_add(count));
            problems.push(Problem {
                object: format!("Pod {}", pod.id),
                field: "status.podIPs".to_owned(),
                reason: "it has no address yet".to_owned(),
                consequence: format!(
                    "{address} stands in for it: what ipBlocks say of this pod means nothing"
                ),
            });
            self.given.insert(pod.id.clone());
            pod.ips.push(IpAddr::V4(address));
        }
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// A snapshot that is not of this cluster stands for an engine that is wrong.
    #[test]
    fn a_snapshot_that_says_something_else_is_found_out() {
        let web = testing::pod("web");
        let world = |ip: &str| {
            let cluster = testing::cluster(&web, ip);
            let options = Options::default();
            let pods = std::slice::from_ref(&web);
            let snapshot = Snapshot::check(compile_snapshot(&cluster, pods, &options)).unwrap();
            World {
                cluster,
                problems: Vec::new(),
                options,
                snapshot,
            }
        };
        let (here, there) = (world("10.0.0.1"), world("10.0.0.2"));
        let [source, outside] = ["10.0.0.1", "203.0.113.9"].map(|ip| ip.parse().unwrap());
        let asked = |world: &World| world.verify(source, outside, Protocol::Tcp, 443);
        asked(&here).unwrap();
        let wrong = World {
            snapshot: there.snapshot,
            ..here
        };
        let error = asked(&wrong).unwrap_err().to_string();
        assert!(error.contains("203.0.113.9 TCP 443"), "{error}");
        assert!(error.contains("the reference evaluator says"), "{error}");
        assert!(error.contains("report it"), "{error}");
    }
}
