//! Objects of the namespace `shop`.

use serde_json::{Value, json};

/// The namespace and a node.
fn surroundings() -> Vec<Value> {
    let addresses = json!([{ "type": "InternalIP", "address": "192.168.50.1" }]);
    vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }),
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "one" }, "status": { "addresses": addresses } }),
    ]
}

/// A running pod with the label `app`; `host` is the last part of its address.
pub fn pod(name: &str, app: &str, host: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": app } },
        "spec": { "nodeName": "one", "containers": [{ "name": "c", "image": "i", "ports": [{ "name": "http", "containerPort": 80 }] }] },
        "status": { "phase": "Running", "podIP": format!("10.0.0.{host}"), "podIPs": [{ "ip": format!("10.0.0.{host}") }] },
    })
}

/// A policy that lets pods labelled `from` reach those labelled `to`, on one port.
pub fn policy(name: &str, to: &str, from: &str, port: u16) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": {
            "podSelector": { "matchLabels": { "app": to } },
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{ "podSelector": { "matchLabels": { "app": from } } }],
                "ports": [{ "protocol": "TCP", "port": port }],
            }],
        },
    })
}

/// `web` may reach `db`, `cache` is open; nobody else is told anything.
pub fn shop() -> Vec<Value> {
    let mut objects = surroundings();
    objects.extend([
        pod("web", "web", 1),
        pod("db", "db", 2),
        pod("cache", "cache", 3),
        policy("db", "db", "web", 80),
    ]);
    objects
}
