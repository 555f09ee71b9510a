//! The state of a cluster as far as NetworkPolicy depends on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, Mode, NamespacedName, NetworkPolicy, Protocol};

/// Everything that verdicts are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Namespaces by name.
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Pods by namespace and name.
    pub pods: BTreeMap<NamespacedName, Pod>,
    /// Policies by namespace and name.
    pub policies: BTreeMap<NamespacedName, NetworkPolicy>,
    /// Services with their backends, by namespace and name.
    pub services: BTreeMap<NamespacedName, Service>,
    /// Nodes by name.
    pub nodes: BTreeMap<Arc<str>, Node>,
}

/// A Namespace object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels, `kubernetes.io/metadata.name` among them (`semantics B8`).
    pub labels: Labels,
    /// [`Mode::Audit`] puts every policy of the namespace into audit mode.
    pub mode: Mode,
    /// For its pods that do not say it themselves; `None` leaves it to the cluster's default.
    pub tcp_path: Option<TcpPath>,
}

/// Which proxy carries a pod's TCP connections after the kernel of its node has allowed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcpPath {
    /// The Envoy in the same pod.
    Sidecar,
    /// The Envoy of its node: the pod, its namespace or the cluster asked for redirection.
    NodeProxy,
    /// None: the kernel decides alone.
    #[default]
    Kernel,
}

impl TcpPath {
    /// The path of a pod: its own annotation decides, then that of its namespace, then the cluster's
    /// default.
    pub fn of(pod: &Pod, namespace: Option<&Namespace>, default: Self) -> Self {
        let of_namespace = || namespace.and_then(|namespace| namespace.tcp_path);
        pod.tcp_path.or_else(of_namespace).unwrap_or(default)
    }
}

/// The life of a pod as `status.phase` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not all containers started; with an address it is a subject and a peer (`semantics H10`).
    Pending,
    /// Running.
    Running,
    /// Succeeded or Failed: its address may already belong to another pod (`semantics H6`).
    Terminal,
    /// The node does not answer: enforcement goes on (`semantics H11`).
    Unknown,
}

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub id: NamespacedName,
    /// Its labels.
    pub labels: Labels,
    /// The node it is bound to; `None` before scheduling.
    pub node: Option<Arc<str>>,
    /// All of `status.podIPs` (`semantics H12`), v4-mapped ones normalised.
    pub ips: Vec<IpAddr>,
    /// `metadata.uid`, which tells it from an earlier pod of its name; `None` in manifests without one.
    pub uid: Option<Arc<str>>,
    /// Shares its node's network: ignored by every selector (`semantics G11`, option 2).
    pub host_network: bool,
    /// Its phase.
    pub phase: Phase,
    /// Creation time in seconds since the epoch; breaks ties between pods that claim one address.
    pub created: i64,
    /// Named container ports, of restartable init containers too (`semantics E14`, `E15`).
    pub ports: Vec<PodPort>,
    /// Who carries its TCP; `None` leaves it to the namespace, see [`TcpPath::of`].
    pub tcp_path: Option<TcpPath>,
}

/// A named container port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodPort {
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol; a rule matches it only with the same one (`semantics E9`).
    pub protocol: Protocol,
    /// The port number.
    pub number: u16,
}

impl Pod {
    /// Whether policies can select it, as a subject or as a peer: neither host-network
    /// (`semantics G11`) nor terminal (`semantics H6`).
    pub fn is_selectable(&self) -> bool {
        !self.host_network && self.phase != Phase::Terminal
    }

    /// The UID of a pod that is bound to a node and has no address yet: its node prepares for it
    /// (`semantics H16`).
    pub fn pending(&self) -> Option<&Arc<str>> {
        let is_pending = self.is_selectable() && self.node.is_some() && self.ips.is_empty();
        self.uid.as_ref().filter(|_| is_pending)
    }

    /// The numbers a port name stands for on this pod (`semantics E9`, `E10`, `E15`).
    pub fn resolve_port(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
        self.ports
            .iter()
            .filter(move |p| p.protocol == protocol && p.name.as_ref() == name)
            .map(|p| p.number)
    }

    /// Orders pods that claim the same address: the greatest owns it (`semantics H7`).
    ///
    /// A running pod wins over others, then the younger one, then the name decides, so that every
    /// replica answers alike.
    pub fn claim(&self) -> impl Ord + '_ {
        (self.phase == Phase::Running, self.created, &self.id)
    }
}

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Every address a process of the node may use towards its pods (`semantics G9`).
    pub addresses: Vec<IpAddr>,
}

/// A Service with the backends its traffic can end at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub id: NamespacedName,
    /// Cluster IPs: nothing but the service answers at them; none when headless (`semantics I8`).
    pub cluster_ips: Vec<IpAddr>,
    /// External and load-balancer IPs. On ports that are not the service's they lead to whoever
    /// owns them, be it a node (`semantics I11`).
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

impl Service {
    /// Every address at which its ports are reached.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.cluster_ips.iter().chain(&self.external_ips).copied()
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the service's addresses.
    pub port: u16,
    /// The port on every node, for NodePort and LoadBalancer services.
    pub node_port: Option<u16>,
    /// Backends, both families (`semantics I1`), ready or not: whoever may be chosen at any moment
    /// while a connection lives.
    pub backends: Vec<Backend>,
}

/// Where a Service sends a connection: after DNAT, what policy judges (`semantics I1`, `I3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    /// A pod's address, or one outside the cluster (`semantics I7`).
    pub ip: IpAddr,
    /// The target port.
    pub port: u16,
}
