//! The same cluster as objects of an API server.

use serde_json::{Value, json};
use sidewall_policy::model::{self, NamespacedName};

use super::{APPS, DNS, Fleet, app, name, node, service};

impl Fleet {
    /// Every object.
    pub fn objects(self) -> impl Iterator<Item = Value> {
        let nodes = (0..self.nodes).map(node_object);
        let namespaces = (0..self.namespaces).flat_map(move |number| {
            let namespace = std::iter::once(namespace_object(number));
            let policies = policy_objects(number);
            let services = (0..APPS).map(move |app| service_object(number, app));
            let pods = (0..self.pods).map(move |pod| self.pod_object(number, pod, 0));
            namespace.chain(policies).chain(services).chain(pods)
        });
        nodes.chain(namespaces)
    }

    /// The pod that [`Fleet::pod`] gives.
    #[must_use]
    pub fn pod_object(self, namespace: usize, number: usize, generation: usize) -> Value {
        let model::Pod { id, node, ips, .. } = self.pod(namespace, number, generation);
        let node = node.as_deref().unwrap_or_default();
        let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
        let port = json!({ "name": "http", "containerPort": 8080 });
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": &*id.namespace, "name": &*id.name,
                "labels": { "app": app(number % APPS) },
                "annotations": { "sidewall.dev/sidecar": "true" },
            },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i", "ports": [port] }] },
            "status": {
                "phase": "Running", "podIP": ips[0],
                "podIPs": ips.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>(),
            },
        })
    }
}

fn node_object(number: usize) -> Value {
    let model::Node { name, addresses } = node(number);
    let addresses = addresses.iter();
    let addresses = addresses.map(|ip| json!({ "type": "InternalIP", "address": ip.to_string() }));
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": &*name },
        "status": { "addresses": addresses.collect::<Vec<_>>() },
    })
}

fn namespace_object(number: usize) -> Value {
    let name = name(number);
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { DNS: name } } })
}

fn service_object(namespace: usize, number: usize) -> Value {
    let service = service(namespace, number);
    let NamespacedName { namespace, name } = service.id;
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": &*namespace, "name": &*name },
        "spec": {
            "clusterIP": service.cluster_ips[0].to_string(),
            "clusterIPs": [service.cluster_ips[0].to_string()],
            "selector": { "app": app(number) },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "http" }],
        },
    })
}

fn policy_objects(namespace: usize) -> [Value; super::POLICIES] {
    let apps = |number: usize| json!({ "matchLabels": { "app": app(number) } });
    let all = || json!({ "podSelector": {} });
    let within = |number: usize| json!({ "matchLabels": { DNS: name(number) } });
    let http = || json!([{ "protocol": "TCP", "port": "http" }]);
    let policy = |policy: &str, pods: Value, mut spec: Value| {
        spec["podSelector"] = pods;
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "namespace": name(namespace), "name": policy }, "spec": spec,
        })
    };
    let everyone = || json!({});
    let both = json!(["Ingress", "Egress"]);
    let (ingress, egress) = (json!(["Ingress"]), json!(["Egress"]));
    let from = json!([{ "podSelector": apps(0) }, { "namespaceSelector": within(1) }]);
    let dns = json!([{ "namespaceSelector": within(0), "podSelector": apps(0) }]);
    let outside = json!([{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"] } }]);
    [
        policy("default-deny", everyone(), json!({ "policyTypes": both })),
        policy(
            "web",
            apps(1),
            json!({ "policyTypes": ingress, "ingress": [{ "from": from, "ports": http() }] }),
        ),
        policy(
            "dns",
            everyone(),
            json!({ "policyTypes": egress, "egress": [{ "to": dns }] }),
        ),
        policy(
            "inside",
            everyone(),
            json!({
                "policyTypes": both,
                "ingress": [{ "from": [all()] }],
                "egress": [{ "to": [all()], "ports": http() }],
            }),
        ),
        policy(
            "leave",
            apps(APPS - 1),
            json!({ "policyTypes": egress, "egress": [{ "to": outside }] }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sidewall_distributor::cluster::manifests;
    use sidewall_distributor::index::{Change, Index};
    use sidewall_policy::compile::Options;

    use super::*;

    /// Both ways of telling a distributor come to the same bytes.
    #[test]
    fn the_objects_are_the_events() {
        let fleet = Fleet {
            nodes: 3,
            namespaces: 3,
            pods: 9,
        };
        let changes = |mut index: Index| {
            let changes = index.take_changes();
            let bytes = changes.into_iter().map(|(recipient, change)| match change {
                Change::Snapshot(bytes) => (recipient.to_string(), bytes),
                Change::Gone => (recipient.to_string(), Vec::new()),
            });
            let mut bytes: Vec<_> = bytes.collect();
            bytes.sort();
            bytes
        };
        let folder = tempfile::tempdir().unwrap();
        let items: Vec<Value> = fleet.objects().collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        fs::write(folder.path().join("objects.json"), list.to_string()).unwrap();
        let (mut of_objects, mut of_events) = (
            Index::new(Options::default()),
            Index::new(Options::default()),
        );
        for event in manifests::read(folder.path()) {
            of_objects.apply(event);
        }
        fleet.events().for_each(|event| of_events.apply(event));
        let (of_objects, of_events) = (changes(of_objects), changes(of_events));
        assert_eq!(of_objects.len(), 27);
        assert!(of_objects == of_events);
    }
}
