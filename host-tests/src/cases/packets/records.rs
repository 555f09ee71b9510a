//! Whether the policies that a case names for a denial are those that sidecars and nodes record.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::Error;
use super::super::spec::Step;
use super::Runner;
use crate::lab::{self, Port, Probe};
use crate::probe::Protocol;

/// How long a record may take to be written.
const PATIENCE: Duration = Duration::from_secs(3);

/// The policies of records that are about one source.
type Named = BTreeSet<BTreeSet<String>>;

impl Runner {
    /// All decision records so far, as text: of every sidecar, and of the agent and the Envoy of every node.
    pub(super) fn records(&self) -> Result<BTreeSet<String>, Error> {
        let mut records = Vec::new();
        for (pod, has_sidecar) in self.lab.pods() {
            if has_sidecar {
                records.extend(self.lab.decisions(&pod)?);
            }
        }
        if self.plane.has_nodes() {
            let nodes = self.state.objects("Node");
            for node in nodes.map(super::super::state::id) {
                records.extend(self.lab.node_decisions(&node)?);
            }
        }
        Ok(records.iter().map(Value::to_string).collect())
    }

    /// Denials of a step for which others are recorded than the case says, or nobody. `before` is what had
    /// been recorded before it was probed.
    pub(super) fn misnamed(
        &self,
        step: &Step,
        before: &BTreeSet<String>,
    ) -> Result<Vec<String>, Error> {
        let mut due: Vec<(Probe, &BTreeSet<String>)> = Vec::new();
        for entry in &step.probe {
            if let Some(by) = entry.by.as_ref().filter(|_| entry.allow.is_empty()) {
                due.extend(self.of_entry(entry).into_iter().map(|probe| (probe, by)));
            }
        }
        let started = Instant::now();
        loop {
            let mut unmet = Vec::new();
            let records = self.records()?;
            let new: Vec<Value> = records
                .difference(before)
                .filter_map(|text| serde_json::from_str(text).ok())
                .collect();
            for (probe, by) in &due {
                let named = self.named(probe, &new)?;
                if named.is_empty() || !named.iter().all(|names| names.is_subset(by)) {
                    let Probe { from, to, .. } = probe;
                    unmet.push(format!(
                        "{from} -> {to}: records name {named:?}, not {by:?}"
                    ));
                }
            }
            if unmet.is_empty() || started.elapsed() > PATIENCE {
                return Ok(unmet);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whom the records name of what a probe tried. Of a Service, or of a node's port that may lead to one,
    /// only the source is looked at: the destination may be any backend.
    fn named(&self, probe: &Probe, records: &[Value]) -> Result<Named, Error> {
        let sources = self.lab.addresses(&probe.from.to_string())?;
        let targets = match &probe.to {
            lab::Target::Pod(pod) => self.lab.addresses(pod)?,
            lab::Target::Address(address) if !self.leads_on(*address) => vec![*address],
            lab::Target::Address(_) | lab::Target::Service(_) => Vec::new(),
        };
        let port = match probe.port {
            Port::Number(port) if probe.protocol != Protocol::Icmp => Some(port),
            _ => None,
        };
        let is_of = |record: &&Value| {
            let end = |field: &str| record[field].as_str().and_then(end);
            let from_there = end("source").is_some_and(|(source, _)| sources.contains(&source));
            let to_there =
                end("destination").is_some_and(|(to, at)| targets.contains(&to) && at == port);
            let protocol = record["protocol"].as_str().unwrap_or_default();
            record["verdict"] == "deny"
                && from_there
                && (to_there || targets.is_empty())
                && protocol.starts_with(&probe.protocol.to_string())
        };
        let names = |record: &Value| {
            let policies = record["policies"].as_array().into_iter().flatten();
            policies
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        };
        Ok(records.iter().filter(is_of).map(names).collect())
    }

    /// Whether an address is a Service's or a node's.
    fn leads_on(&self, address: IpAddr) -> bool {
        let is_it = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| text.parse() == Ok(address))
        };
        let services = self.state.objects("Service").flat_map(|service| {
            let spec = &service["spec"];
            [&spec["clusterIPs"], &spec["externalIPs"]]
        });
        let mut services = services.filter_map(Value::as_array).flatten();
        let nodes = self.state.objects("Node");
        let mut nodes = nodes
            .filter_map(|node| node["status"]["addresses"].as_array())
            .flatten();
        services.any(is_it) || nodes.any(|each| is_it(&each["address"]))
    }
}

/// An end as records print it: an address, and a port if the protocol has any.
fn end(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let with_port: Result<SocketAddr, _> = text.parse();
    with_port.map_or_else(
        |_| text.parse().ok().map(|address| (address, None)),
        |end| Some((end.ip(), Some(end.port()))),
    )
}
