//! The cluster of the end-to-end tests, small enough to keep in mind:
//!
//! | pod | labels | node | ports |
//! |-----|--------|------|-------|
//! | `x/a` | `app: a`, `role: server` | node-1 | web 80, admin 81, lookup 53/UDP |
//! | `x/b` | `app: b`, `role: client`, `empty: ""`, `pair: yes` | node-2 | web 80, admin 81 |
//! | `x/c` | `app: c`, `pair: yes` | node-1 | web **8080**, admin 81 |
//! | `y/a` | `app: a`, `role: client` | node-2 | web 80 |
//! | `y/b` | `app: b`, `role: server` | node-1 | web 80 |
//! | `z/a` | `app: a` | node-2 | web **8081** |
//!
//! Namespace `x` has `team: red`, `y` has `team: blue`, `z` no label. Nobody else has the label
//! `role`, and only `x/b` has `empty`.

use sidewall_host_tests::lab::LabConfig;

/// A pod with a sidecar, of both families: `10.244.NODE.HOST` and `fd00:244:NODE::HOST`.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    /// `namespace/name`.
    pub name: &'static str,
    /// 1 or 2.
    pub node: u8,
    /// The last part of its addresses.
    pub host: u8,
    /// In YAML, without the braces.
    pub labels: &'static str,
    /// Container ports in YAML, without the brackets.
    pub ports: &'static str,
}

/// What most pods serve.
pub const WEB: &str = "{name: web, containerPort: 80}, {name: admin, containerPort: 81}";

/// The pods of the table above, in its order.
pub const PODS: [Pod; 6] = [
    Pod {
        name: "x/a",
        node: 1,
        host: 11,
        labels: "app: a, role: server",
        ports: "{name: web, containerPort: 80}, {name: admin, containerPort: 81}, {name: lookup, containerPort: 53, protocol: UDP}",
    },
    Pod {
        name: "x/b",
        node: 2,
        host: 12,
        labels: "app: b, role: client, empty: '', pair: 'yes'",
        ports: WEB,
    },
    Pod {
        name: "x/c",
        node: 1,
        host: 13,
        labels: "app: c, pair: 'yes'",
        ports: "{name: web, containerPort: 8080}, {name: admin, containerPort: 81}",
    },
    Pod {
        name: "y/a",
        node: 2,
        host: 21,
        labels: "app: a, role: client",
        ports: WEB,
    },
    Pod {
        name: "y/b",
        node: 1,
        host: 22,
        labels: "app: b, role: server",
        ports: WEB,
    },
    Pod {
        name: "z/a",
        node: 2,
        host: 31,
        labels: "app: a",
        ports: "{name: web, containerPort: 8081}",
    },
];

/// Nodes and namespaces.
pub const NODES: &str = "\
{apiVersion: v1, kind: Node, metadata: {name: node-1}, status: {addresses: [{type: InternalIP, address: 192.168.50.1}, {type: InternalIP, address: 'fd50::1'}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-2}, status: {addresses: [{type: InternalIP, address: 192.168.50.2}, {type: InternalIP, address: 'fd50::2'}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: red}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: z}}
";

/// Namespace `y`, in a file of its own so that it can be relabelled.
pub const NAMESPACE_Y: &str =
    "{apiVersion: v1, kind: Namespace, metadata: {name: y, labels: {team: blue}}}\n";

impl Pod {
    /// The object.
    pub fn manifest(&self) -> String {
        let Self {
            name,
            node,
            host,
            labels,
            ports,
        } = self;
        let (namespace, name) = split(name);
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}, \
             spec: {{nodeName: node-{node}, containers: [{{name: c, image: i, ports: [{ports}]}}]}}, \
             status: {{phase: Running, podIPs: [{{ip: 10.244.{node}.{host}}}, {{ip: 'fd00:244:{node}::{host}'}}]}}}}\n"
        )
    }

    /// The file that [`cluster`] puts it into.
    pub fn file(&self) -> String {
        format!("pod-{}.yaml", self.name.replace('/', "-"))
    }
}

/// A pod of the table.
pub fn named(name: &str) -> Pod {
    let found = PODS.into_iter().find(|pod| pod.name == name);
    found.unwrap_or_else(|| panic!("there is no pod {name} in the table"))
}

/// These pods of the table, each in a file of its own.
pub fn cluster(pods: &[&str]) -> LabConfig {
    let config = LabConfig::default()
        .manifest("nodes.yaml", NODES)
        .manifest("namespace-y.yaml", NAMESPACE_Y);
    pods.iter().fold(config, |config, name| {
        let pod = named(name);
        config.manifest(pod.file(), pod.manifest())
    })
}

/// A NetworkPolicy `namespace/name` with that spec, given in YAML without the outer braces.
pub fn policy(name: &str, spec: &str) -> String {
    let (namespace, name) = split(name);
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    )
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('/')
        .unwrap_or_else(|| panic!("{name} is not namespace/name"))
}
