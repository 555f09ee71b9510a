//! The whole matrix under one set of policies on either side.

use anyhow::{Result, ensure};
use sidewall_host_tests::lab::{Expect, Lab, LabConfig, Plane, Probe, Redirect};
use sidewall_host_tests::probe::Protocol;

use super::world::{NODES, Path, Pod, cluster, hold_to, policies};

/// Clients are on node-1. Servers take `friend` and `bound`; `bound` may go nowhere.
const PODS: [Pod; 10] = [
    client("friend-s", "friend", 11, Path::Sidecar),
    client("friend-b", "friend", 12, Path::Kernel),
    client("stranger-s", "stranger", 13, Path::Sidecar),
    client("stranger-b", "stranger", 14, Path::Kernel),
    client("bound-s", "bound", 15, Path::Sidecar),
    client("bound-b", "bound", 16, Path::Kernel),
    server("near-s", 1, 21, Path::Sidecar),
    server("near-b", 1, 22, Path::Kernel),
    server("far-s", 2, 23, Path::Sidecar),
    server("far-b", 2, 24, Path::Kernel),
];

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

const POLICIES: [(&str, &str); 2] = [
    (
        "servers",
        "podSelector: {matchLabels: {role: server}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: role, operator: In, values: [friend, bound]}]}}], \
         ports: [{port: 80}, {port: 80, protocol: UDP}, {port: 80, protocol: SCTP}]}]",
    ),
    (
        "bound",
        "podSelector: {matchLabels: {role: bound}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {role: server}}}], ports: [{port: 81}]}]",
    ),
];

const fn client(name: &'static str, role: &'static str, host: u8, path: Path) -> Pod {
    Pod {
        name,
        role,
        node: 1,
        host,
        path,
    }
}

const fn server(name: &'static str, node: u8, host: u8, path: Path) -> Pod {
    Pod {
        name,
        role: "server",
        node,
        host,
        path,
    }
}

/// From a client to a server by each way on which it arrives as itself.
fn ways(client: &Pod, server: &Pod) -> Result<Vec<Probe>> {
    let port = by_port(client, server, server.node)?;
    let mut probes = Vec::new();
    for protocol in PROTOCOLS {
        for (to, port) in [
            (server.id(), 80),
            (format!("service:{}", server.id()), 8000),
        ] {
            probes.push(Probe::new(&client.id(), &to, port)?.by(protocol));
        }
    }
    Ok([probes, port].concat())
}

/// By a node's port. On the way from another node than the server's it gets that node's address
/// (`semantics I10`), and from there nothing is allowed.
fn by_port(client: &Pod, server: &Pod, node: u8) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    for protocol in PROTOCOLS {
        for address in NODES[usize::from(node) - 1] {
            let to = format!("address:{address}");
            let probe = Probe::new(&client.id(), &to, server.node_port())?;
            probes.push(probe.by(protocol));
        }
    }
    Ok(probes)
}

pub fn every_pair() -> Result<()> {
    every_pair_in(LabConfig::default())
}

/// The same where the Envoys of the nodes carry TCP of pods without a sidecar.
pub fn every_pair_redirected() -> Result<()> {
    every_pair_in(LabConfig::default().redirect(Redirect::All))
}

/// The same where the pods of a node share a bridge.
pub fn every_pair_on_bridges() -> Result<()> {
    every_pair_in(LabConfig::default().bridged())
}

fn every_pair_in(config: LabConfig) -> Result<()> {
    let pods = PODS.iter().map(Pod::manifest);
    let servers = PODS.iter().filter(|pod| pod.role == "server");
    let services = servers
        .clone()
        .map(|pod| pod.service(&format!("app: {}", pod.name)));
    let lab = Lab::start(
        config
            .plane(Plane::Both)
            .manifest("cluster.yaml", cluster(pods.chain(services))),
    )?;
    let probes = |friends: Expect, others: Expect| -> Result<Vec<Probe>> {
        let mut probes = Vec::new();
        for client in PODS.iter().filter(|pod| pod.role != "server") {
            for server in servers.clone() {
                let expect = if client.role == "friend" {
                    friends
                } else {
                    others
                };
                let ways = ways(client, server)?;
                probes.extend(ways.into_iter().map(|probe| probe.expect(expect)));
                let detour = by_port(client, server, 3 - server.node)?;
                probes.extend(detour.into_iter().map(|probe| probe.expect(others)));
            }
        }
        Ok(probes)
    };
    let open = hold_to(
        &lab,
        &probes(Expect::Allow, Expect::Allow)?,
        "without policies",
    )?;
    lab.apply("policies.yaml", &policies(&POLICIES))?;
    let judged = hold_to(
        &lab,
        &probes(Expect::Allow, Expect::Deny)?,
        "with policies on both sides",
    )?;
    // Clients × servers × protocols × (pod, Service, either node's port) × families.
    ensure!(
        (open, judged) == (6 * 4 * 3 * 4 * 2, 6 * 4 * 3 * 4 * 2),
        "{open} and {judged} connections were tried"
    );
    Ok(())
}
