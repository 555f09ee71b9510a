//! A cluster of two nodes with every kind of Service, and servers that say whom they see.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::{Lab, LabConfig};

use super::talk::serve;

/// The port on which every server listens. No server listens on [`CLOSED`].
pub const OPEN: u16 = 8080;
pub const CLOSED: u16 = 8081;

/// Name, node and the last part of the addresses.
pub const PODS: [(&str, u8, u8); 4] = [
    ("near", 1, 11),
    ("client", 1, 12),
    ("far", 2, 11),
    ("remote", 2, 12),
];

/// Name, and the backend's node: one each, so that every way has one answer.
pub const SERVICES: [(&str, Option<u8>, &str); 4] = [
    ("near", Some(1), "externalTrafficPolicy: Cluster"),
    ("far", Some(2), "externalTrafficPolicy: Cluster"),
    ("local", Some(1), "externalTrafficPolicy: Local"),
    ("empty", None, "externalTrafficPolicy: Cluster"),
];

/// Outside: one that serves, the metadata service with a hop limit that reaches the node and no pod, and one
/// that others' rules block. Nobody has the last address.
pub const SERVING: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];
pub const METADATA: &str = "169.254.169.254";
pub const BLOCKED: &str = "203.0.113.66";
pub const DEAD: [&str; 2] = ["203.0.113.99", "2001:db8:113::99"];

/// What a node's own firewall may say: FORWARD drops an address, INPUT drops what nobody asked for.
pub const RULES_OF_OTHERS: &str = "\
table inet others {
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip daddr 203.0.113.66 drop
    ip daddr 169.254.169.254 drop
  }
  chain input {
    type filter hook input priority 0; policy drop;
    iif \"lo\" accept
    ct state established,related accept
    meta l4proto { icmp, icmpv6 } accept
    tcp dport 22 accept
  }
}
";

pub fn cluster_ip(service: usize) -> [String; 2] {
    let host = 10 + service;
    [format!("10.96.0.{host}"), format!("fd00:96::{host}")]
}

pub fn external_ip(service: usize) -> [String; 2] {
    let host = 10 + service;
    [format!("198.51.100.{host}"), format!("2001:db8:51::{host}")]
}

pub fn balancer_ip(service: usize) -> [String; 2] {
    let host = 20 + service;
    [format!("198.51.100.{host}"), format!("2001:db8:51::{host}")]
}

pub fn node_port(service: usize) -> u16 {
    30_080 + u16::try_from(service).unwrap_or_default()
}

pub fn node_address(node: u8) -> [String; 2] {
    [format!("192.168.50.{node}"), format!("fd50::{node}")]
}

pub fn pod_address(node: u8, host: u8) -> [String; 2] {
    [
        format!("10.244.{node}.{host}"),
        format!("fd00:244:{node}::{host}"),
    ]
}

/// Starts it, with servers everywhere and others' rules on both nodes.
pub fn start(config: LabConfig, rules: &str) -> Result<Lab> {
    let lab = Lab::start(config.manifest("cluster.yaml", manifests()))?;
    for (name, ..) in PODS {
        let netns = lab.netns(&format!("default/{name}"))?;
        serve(&netns, name, OPEN)?;
    }
    for node in ["node-1", "node-2"] {
        let netns = lab.netns(&format!("node:{node}"))?;
        serve(&netns, node, OPEN)?;
        let mut nft = netns.command("nft");
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        stdin.write_all(rules.as_bytes())?;
        drop(stdin);
        ensure!(child.wait()?.success(), "nft refused:\n{rules}");
    }
    for (name, address) in [
        ("outside", SERVING[0]),
        ("outside", SERVING[1]),
        ("metadata", METADATA),
        ("blocked", BLOCKED),
    ] {
        let host = lab.netns(&format!("external:{address}"))?;
        if address == METADATA {
            // The router takes one, the node another.
            let mut sysctl = host.command("sysctl");
            let set = sysctl.args(["-qw", "net.ipv4.ip_default_ttl=2"]).status()?;
            ensure!(set.success(), "no hop limit for the metadata service");
        }
        serve(&host, name, OPEN)?;
    }
    Ok(lab)
}

fn manifests() -> String {
    let mut manifests = String::new();
    for node in [1, 2] {
        let [v4, v6] = node_address(node);
        let _ = write!(
            manifests,
            "---\n{{apiVersion: v1, kind: Node, metadata: {{name: node-{node}}}, spec: {{podCIDRs: [10.244.{node}.0/24, 'fd00:244:{node}::/64']}}, \
             status: {{addresses: [{{type: InternalIP, address: {v4}}}, {{type: InternalIP, address: '{v6}'}}]}}}}\n"
        );
    }
    for (name, node, host) in PODS {
        let [v4, v6] = pod_address(node, host);
        let _ = write!(
            manifests,
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}, annotations: {{sidewall.dev/sidecar: 'false'}}}}, \
             spec: {{nodeName: node-{node}, containers: [{{name: c, image: i}}]}}, \
             status: {{phase: Running, podIP: {v4}, podIPs: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}}}\n"
        );
    }
    for (number, (name, node, policy)) in SERVICES.into_iter().enumerate() {
        let ([cluster4, cluster6], [external4, external6]) =
            (cluster_ip(number), external_ip(number));
        let [balancer4, balancer6] = balancer_ip(number);
        let port = node_port(number);
        let ports = ["TCP", "UDP"].map(|protocol| {
            let name = protocol.to_lowercase();
            format!("{{name: {name}, protocol: {protocol}, port: 80, targetPort: {OPEN}, nodePort: {port}}}")
        });
        let _ = write!(
            manifests,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: LoadBalancer, {policy}, \
             ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6], clusterIP: {cluster4}, clusterIPs: [{cluster4}, '{cluster6}'], \
             externalIPs: [{external4}, '{external6}'], ports: [{ports}]}}, \
             status: {{loadBalancer: {{ingress: [{{ip: {balancer4}}}, {{ip: '{balancer6}'}}]}}}}}}\n",
            ports = ports.join(", ")
        );
        let Some(node) = node else { continue };
        for (family, address) in ["IPv4", "IPv6"].into_iter().zip(pod_address(node, 11)) {
            let backend = if node == 1 { "near" } else { "far" };
            let _ = write!(
                manifests,
                "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-{}, labels: {{kubernetes.io/service-name: {name}}}}}, \
                 addressType: {family}, ports: [{{name: tcp, protocol: TCP, port: {OPEN}}}, {{name: udp, protocol: UDP, port: {OPEN}}}], \
                 endpoints: [{{addresses: ['{address}'], conditions: {{ready: true}}, nodeName: node-{node}, \
                 targetRef: {{kind: Pod, name: {backend}, namespace: default}}}}]}}\n",
                family.to_lowercase()
            );
        }
    }
    manifests
}
