//! What the manifests say there is: nodes, pods and Services, ready to be built.
//!
//! The cluster comes from the distributor's own reading of the folder. What means nothing to
//! policies is read here: which pods say that they have no sidecar, container ports without names,
//! and the pod ranges of nodes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use sidewall_policy::model::{self, Cluster, Phase, TcpPath};

use super::{Error, Plane};
use crate::net;
use crate::probe::Protocol;

/// `sidewall.dev/sidecar: "false"` on a Pod: it has none.
const SIDECAR: &str = "sidewall.dev/sidecar";

/// Nodes, pods and Services by name; pods and Services as `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<String, Vec<IpAddr>>,
    /// What Node objects say in `spec.podCIDRs`, as it is written there.
    pub(super) pod_cidrs: BTreeMap<String, Vec<String>>,
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) services: BTreeMap<String, Service>,
}

/// A pod that exists: it has a node and an address.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host_network: bool,
    pub(super) sidecar: bool,
    /// Ports its containers declare; served from the start.
    pub(super) ports: Vec<ContainerPort>,
}

/// A container port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<model::ServicePort>,
}

/// What [`notes`] finds, on Pods by `namespace/name` and on Nodes by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) pods: BTreeMap<String, PodNotes>,
    pub(super) pod_cidrs: BTreeMap<String, Vec<String>>,
}

/// What [`notes`] finds on a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodNotes {
    /// Not denied by annotation.
    pub(super) sidecar: bool,
    pub(super) ports: Vec<ContainerPort>,
}

impl World {
    pub(super) fn new(cluster: &Cluster, notes: &Notes, plane: Plane) -> Result<Self, Error> {
        let mut world = Self {
            pod_cidrs: notes.pod_cidrs.clone(),
            ..Self::default()
        };
        for node in cluster
            .nodes
            .values()
            .filter(|node| !node.addresses.is_empty())
        {
            world
                .nodes
                .insert(node.name.to_string(), node.addresses.clone());
        }
        let owners = owners(cluster);
        let is_there = |pod: &&model::Pod| {
            let owns = |ip| owners.get(ip).is_some_and(|owner| owner.id == pod.id);
            pod.host_network || pod.ips.iter().any(owns)
        };
        for pod in cluster.pods.values().filter(is_there) {
            let notes = notes.pods.get(&pod.id.to_string());
            let sidecar = match plane {
                Plane::Proxy => notes.is_none_or(|notes| notes.sidecar),
                Plane::Node => false,
                Plane::Both => {
                    let namespace = cluster.namespaces.get(&pod.id.namespace);
                    TcpPath::of(pod, namespace, TcpPath::default()) == TcpPath::Sidecar
                }
            };
            if let Some(pod) = Pod::new(pod, notes, sidecar) {
                let id = format!("{}/{}", pod.namespace, pod.name);
                if !world.nodes.contains_key(&pod.node) {
                    return Err(Error::NoNode {
                        pod: id,
                        node: pod.node,
                    });
                }
                world.pods.insert(id, pod);
            }
        }
        for service in cluster.services.values() {
            let (addresses, ports) = (service.addresses().collect(), service.ports.clone());
            world
                .services
                .insert(service.id.to_string(), Service { addresses, ports });
        }
        Ok(world)
    }

    /// What the nodes translate.
    pub(super) fn dnat(&self) -> Vec<net::Service> {
        let services = self.services.iter();
        services
            .map(|(name, service)| translation(name, service.addresses.clone(), &service.ports))
            .collect()
    }
}

/// Whom each address stands for: a network has it once, however many objects still name it.
fn owners(cluster: &Cluster) -> BTreeMap<IpAddr, &model::Pod> {
    let mut owners: BTreeMap<IpAddr, &model::Pod> = BTreeMap::new();
    for pod in cluster.pods.values().filter(|pod| pod.is_selectable()) {
        for ip in &pod.ips {
            let owner = owners.entry(*ip).or_insert(pod);
            if owner.claim() < pod.claim() {
                *owner = pod;
            }
        }
    }
    owners
}

impl Pod {
    fn new(pod: &model::Pod, notes: Option<&PodNotes>, sidecar: bool) -> Option<Self> {
        let node = pod.node.as_ref()?.to_string();
        if pod.ips.is_empty() || pod.phase == Phase::Terminal {
            return None;
        }
        Some(Self {
            namespace: pod.id.namespace.to_string(),
            name: pod.id.name.to_string(),
            node,
            addresses: pod.ips.clone(),
            host_network: pod.host_network,
            sidecar: sidecar && !pod.host_network,
            ports: notes.map_or_else(Vec::new, |notes| notes.ports.clone()),
        })
    }

    /// Whether `self` can go on as `new` without being taken down.
    pub(super) fn can_become(&self, new: &Self) -> bool {
        let same = |pod: &Self| {
            (
                pod.node.clone(),
                pod.addresses.clone(),
                pod.host_network,
                pod.sidecar,
            )
        };
        same(self) == same(new)
    }
}

/// What nodes translate for a Service.
pub(crate) fn translation(
    name: &str,
    addresses: Vec<IpAddr>,
    ports: &[model::ServicePort],
) -> net::Service {
    net::Service {
        name: name.to_owned(),
        addresses,
        ports: ports.iter().map(dnat_port).collect(),
    }
}

fn dnat_port(port: &model::ServicePort) -> net::ServicePort {
    net::ServicePort {
        protocol: match port.protocol {
            model::Protocol::Tcp => net::Protocol::Tcp,
            model::Protocol::Udp => net::Protocol::Udp,
            model::Protocol::Sctp => net::Protocol::Sctp,
        },
        port: port.port,
        node_port: port.node_port,
        backends: port
            .backends
            .iter()
            .map(|backend| SocketAddr::new(backend.ip, backend.port))
            .collect(),
    }
}

/// What the files say about Pods and Nodes. What is not YAML is passed over: the distributor
/// reports it.
pub(super) fn notes<'a>(files: impl Iterator<Item = &'a str>) -> Notes {
    let mut notes = Notes::default();
    for document in files.flat_map(documents) {
        let Ok(value) = serde_saphyr::from_str::<Value>(&document) else {
            continue;
        };
        let single = std::slice::from_ref(&value);
        for object in value["items"].as_array().map_or(single, Vec::as_slice) {
            if object["kind"] == "Pod" {
                notes.pods.insert(id(object), notes_of(object));
            } else if object["kind"] == "Node" {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                notes.pod_cidrs.insert(name.to_owned(), pod_cidrs(object));
            }
        }
    }
    notes
}

/// The text between document markers.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents
}

fn id(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    let namespace = metadata["namespace"]
        .as_str()
        .filter(|namespace| !namespace.is_empty());
    format!(
        "{}/{}",
        namespace.unwrap_or("default"),
        metadata["name"].as_str().unwrap_or_default()
    )
}

fn notes_of(pod: &Value) -> PodNotes {
    let annotation = &pod["metadata"]["annotations"][SIDECAR];
    let containers = ["initContainers", "containers"].map(|field| pod["spec"][field].as_array());
    let containers = containers.into_iter().flatten().flatten();
    let ports = containers
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    PodNotes {
        sidecar: annotation != "false",
        ports: ports.filter_map(container_port).collect(),
    }
}

/// `spec.podCIDRs`, or else the older `spec.podCIDR`.
fn pod_cidrs(node: &Value) -> Vec<String> {
    let spec = &node["spec"];
    let all = spec["podCIDRs"].as_array().map_or(&[][..], Vec::as_slice);
    let one = std::slice::from_ref(&spec["podCIDR"]);
    let cidrs = if all.is_empty() { one } else { all };
    cidrs
        .iter()
        .filter_map(|cidr| cidr.as_str().map(str::to_owned))
        .collect()
}

/// `None` for what is no port.
fn container_port(port: &Value) -> Option<ContainerPort> {
    let protocol = match port["protocol"].as_str().unwrap_or("TCP") {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let number = port["containerPort"]
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())?;
    Some(ContainerPort {
        name: port["name"].as_str().map(str::to_owned),
        protocol,
        number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_pods_in_documents_and_lists() {
        let files = [
            "kind: Pod\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {name: b, namespace: shop, annotations: {sidewall.dev/sidecar: \"false\"}}\n\
             spec: {containers: [{ports: [{containerPort: 80, name: web}, {containerPort: 53, protocol: UDP}, {containerPort: 9, protocol: SCTP}]}]}\n",
            "{ not yaml",
            "kind: Node\nmetadata: {name: node-1}\nspec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}\n\
             ---\nkind: Node\nmetadata: {name: node-2}\nspec: {podCIDR: 10.244.1.0/24}\n",
            "kind: List\nitems: [{kind: Pod, metadata: {name: c}}, {kind: Service, metadata: {name: d}}]",
        ];
        let notes = notes(files.into_iter());
        let ranges = ["10.244.1.0/24".to_owned(), "fd00:244:1::/64".to_owned()];
        assert_eq!(notes.pod_cidrs["node-1"], ranges);
        assert_eq!(notes.pod_cidrs["node-2"], ranges[..1]);
        let notes = notes.pods;
        assert_eq!(
            notes.keys().collect::<Vec<_>>(),
            ["default/a", "default/c", "shop/b"]
        );
        assert_eq!(
            notes["default/a"],
            PodNotes {
                sidecar: true,
                ports: Vec::new()
            }
        );
        let port = |name: Option<&str>, protocol, number| ContainerPort {
            name: name.map(str::to_owned),
            protocol,
            number,
        };
        let ports = vec![
            port(Some("web"), Protocol::Tcp, 80),
            port(None, Protocol::Udp, 53),
            port(None, Protocol::Sctp, 9),
        ];
        assert_eq!(
            notes["shop/b"],
            PodNotes {
                sidecar: false,
                ports
            }
        );
    }
}
