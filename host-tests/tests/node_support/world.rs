//! The cluster of the tests of `--plane both`: two nodes, and pods with and without sidecars.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use sidewall_host_tests::lab::{Expect, Lab, Probe, ProbeResult};
use sidewall_host_tests::probe::Protocol;

/// The node addresses of node-1 and node-2.
pub const NODES: [[&str; 2]; 2] = [["192.168.50.1", "fd50::1"], ["192.168.50.2", "fd50::2"]];

/// Who carries a pod's TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// An Envoy of its own.
    Sidecar,
    /// The Envoy of its node, where nodes have one.
    Bare,
    /// Nobody but the kernel.
    Kernel,
}

/// A pod of namespace `default` with the labels `app: NAME` and `role: ROLE`.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub name: &'static str,
    pub role: &'static str,
    /// 1 or 2.
    pub node: u8,
    /// The last part of its addresses, and of its Service's if it has one.
    pub host: u8,
    pub path: Path,
}

impl Pod {
    /// `default/NAME`.
    pub fn id(&self) -> String {
        format!("default/{}", self.name)
    }

    pub fn addresses(&self) -> [String; 2] {
        let Self { node, host, .. } = self;
        [
            format!("10.244.{node}.{host}"),
            format!("fd00:244:{node}::{host}"),
        ]
    }

    pub fn manifest(&self) -> String {
        let Self {
            name, role, node, ..
        } = self;
        let annotations = match self.path {
            Path::Sidecar => "sidewall.dev/sidecar: 'true'",
            Path::Bare => "sidewall.dev/redirect: 'true'",
            Path::Kernel => "",
        };
        let [v4, v6] = self.addresses();
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}, role: {role}}}, annotations: {{{annotations}}}}}, \
             spec: {{nodeName: node-{node}, containers: [{{name: c, image: i}}]}}, \
             status: {{phase: Running, podIPs: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}}}\n"
        )
    }

    /// A Service `NAME` for the pods with this label: port 8000 leads to port 80, in each protocol,
    /// and so does the node port.
    pub fn service(&self, label: &str) -> String {
        let ports = ["TCP", "UDP", "SCTP"].map(|protocol| {
            format!(
                "{{name: {}, protocol: {protocol}, port: 8000, targetPort: 80, nodePort: {}}}",
                protocol.to_lowercase(),
                self.node_port()
            )
        });
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {}}}, \
             spec: {{type: NodePort, selector: {{{label}}}, clusterIPs: [10.96.0.{host}, 'fd00:96::{host}'], ports: [{ports}]}}}}\n",
            self.name,
            host = self.host,
            ports = ports.join(", ")
        )
    }

    pub fn node_port(&self) -> u16 {
        30_000 + u16::from(self.host)
    }
}

/// Nodes with room for pods to come, and these objects.
pub fn cluster(objects: impl IntoIterator<Item = String>) -> String {
    let mut cluster = String::new();
    for (number, [v4, v6]) in (1..).zip(NODES) {
        let _ = write!(
            cluster,
            "---\n{{apiVersion: v1, kind: Node, metadata: {{name: node-{number}}}, \
             spec: {{podCIDRs: [10.244.{number}.0/24, 'fd00:244:{number}::/64']}}, \
             status: {{addresses: [{{type: InternalIP, address: {v4}}}, {{type: InternalIP, address: '{v6}'}}]}}}}\n"
        );
    }
    for object in objects {
        let _ = write!(cluster, "---\n{object}");
    }
    cluster
}

/// A NetworkPolicy of namespace `default` with that spec, in YAML without the outer braces.
pub fn policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n"
    )
}

/// Several of them for one file.
pub fn policies(list: &[(&str, &str)]) -> String {
    let each = list.iter().map(|(name, spec)| policy(name, spec));
    each.collect::<Vec<_>>().join("---\n")
}

/// Tries all of them and holds each to what it expects. A denied client must not even be refused: it
/// hears nothing, unless its own sidecar accepts its TCP. And whoever hears nothing came to nobody.
pub fn hold_to(lab: &Lab, probes: &[Probe], when: &str) -> Result<usize> {
    let before = visits(lab, probes)?;
    let results = lab.probe(probes)?;
    let visits = visits(lab, probes)? - before;
    let answered = results.iter().filter(|result| result.answered).count();
    ensure!(
        visits <= answered,
        "{when}: {answered} were answered, and {visits} came to a server"
    );
    let sidecars: Vec<String> = lab
        .pods()
        .into_iter()
        .filter_map(|(pod, has_sidecar)| has_sidecar.then_some(pod))
        .collect();
    let is_silent = |result: &ProbeResult| {
        !result.connected && result.error.as_deref() == Some("timed out")
            || result.protocol == Protocol::Tcp && sidecars.contains(&result.from)
    };
    let is_right = |result: &&ProbeResult| {
        result.ok == Some(true) && (result.expected != Some(Expect::Deny) || is_silent(result))
    };
    let wrong: Vec<String> = results
        .iter()
        .filter(|result| !is_right(result))
        .map(ToString::to_string)
        .collect();
    ensure!(
        wrong.is_empty(),
        "{when}: {} of {} are not as expected:\n    {}",
        wrong.len(),
        results.len(),
        wrong.join("\n    ")
    );
    Ok(results.len())
}

/// How often somebody has come to the servers that probes may lead to, connections over which nothing
/// was sent included. Not to others: a sidecar goes on dialling for a client that has given up, and may
/// be allowed to by now.
fn visits(lab: &Lab, probes: &[Probe]) -> Result<usize> {
    let targets: Vec<String> = probes.iter().map(|probe| probe.to.to_string()).collect();
    let is_pod = |target: &String| !target.contains(':');
    let pods = lab.pods().into_iter().map(|(pod, _)| pod);
    pods.filter(|pod| targets.contains(pod) || !targets.iter().all(is_pod))
        .map(|pod| Ok(lab.seen(&pod)?.len()))
        .sum()
}
