//! Manifests for the lab's tests: two nodes, and pods as they are needed.

use std::fmt::Write as _;

/// The nodes `node-1` and `node-2`.
const NODES: &str = "\
{apiVersion: v1, kind: Node, metadata: {name: node-1}, status: {addresses: [{type: InternalIP, address: 192.168.50.1}, {type: InternalIP, address: 'fd50::1'}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-2}, status: {addresses: [{type: InternalIP, address: 192.168.50.2}, {type: InternalIP, address: 'fd50::2'}]}}
";

/// A running pod `name` of namespace `default` with label `app: name` on that node, with ports
/// `web` (80) and `other` (81). `host` is the last part of its addresses.
pub fn pod(name: &str, node: u8, host: u8) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, \
         spec: {{nodeName: node-{node}, containers: [{{name: c, image: i, ports: [{{name: web, containerPort: 80}}, {{name: other, containerPort: 81}}]}}]}}, \
         status: {{phase: Running, podIPs: [{{ip: 10.244.{node}.{host}}}, {{ip: 'fd00:244:{node}::{host}'}}]}}}}\n"
    )
}

/// A NetworkPolicy `name` with that spec, in one line of YAML.
pub fn policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: default}}, spec: {{{spec}}}}}\n"
    )
}

/// Three pods on two nodes: `a` and `b` on node-1, `c` on node-2.
pub fn three_pods() -> String {
    let mut cluster = NODES.to_owned();
    for pod in [pod("a", 1, 11), pod("b", 1, 12), pod("c", 2, 13)] {
        let _ = write!(cluster, "---\n{pod}");
    }
    cluster
}
