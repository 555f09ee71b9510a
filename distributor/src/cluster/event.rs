//! What a source of cluster state says, whatever it reads from.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sidewall_policy::model::{
    self, Namespace, NamespacedName, NetworkPolicy, Node, Protocol, Selector,
};

use crate::problem::Problem;

/// Events that belong together: they are applied as a whole, so that nothing is ever compiled from
/// half of a change.
pub type Batch = Vec<Event>;

/// One step of the cluster's state.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An object is new or has changed.
    Apply(Object),
    /// An object is gone.
    Delete(ObjectRef),
    /// Every object of this kind that exists by now has been applied. Nothing is published before
    /// each kind has said so: "none" and "not yet known" are different.
    Synced(Kind),
    /// Everything that is wrong with this origin at the moment, instead of what was reported about
    /// it before; nothing when it is mended or gone.
    Report(Origin, Vec<Problem>),
}

/// What a report of problems is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A file, a folder or a watch, by its name.
    Source(Arc<str>),
    /// One object.
    Object(ObjectRef),
}

/// The kinds of objects that verdicts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` Node.
    Node,
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::NetworkPolicy,
    ];

    /// The `kind` of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }

    /// The API group; empty for the core.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Pod | Self::Service => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::NetworkPolicy => "networking.k8s.io",
        }
    }

    /// The `apiVersion` that is understood.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Pod | Self::Service => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
        }
    }

    /// Whether its objects live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    /// Whether an object that cannot be read any more stays as it was read last. Where a Service is not known
    /// its address is one like any other, and where a backend is not known the others decide alone: either may
    /// allow what was denied. Of the other kinds what is not known allows nothing.
    pub const fn outlives_errors(self) -> bool {
        matches!(self, Self::Service | Self::EndpointSlice)
    }

    /// The kind of that name.
    pub fn from_api(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The identity of an object, printed as `Pod default/web` or `Node worker`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name; the namespace is empty for kinds that live in none.
    pub id: NamespacedName,
}

impl ObjectRef {
    /// The object of this kind with this name.
    pub fn new(kind: Kind, id: NamespacedName) -> Self {
        Self { kind, id }
    }

    /// An object that lives in no namespace.
    pub fn cluster_scoped(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        Self::new(kind, NamespacedName::new("", name))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_namespaced() {
            write!(f, "{} {}", self.kind, self.id)
        } else {
            write!(f, "{} {}", self.kind, self.id.name)
        }
    }
}

/// An object, reduced to what verdicts depend on.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A Namespace.
    Namespace(Namespace),
    /// A Node.
    Node(Node),
    /// A Pod.
    Pod(model::Pod),
    /// A Service.
    Service(Service),
    /// An EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// A NetworkPolicy.
    NetworkPolicy(NetworkPolicy),
}

impl Object {
    /// Its identity.
    pub fn reference(&self) -> ObjectRef {
        match self {
            Self::Namespace(ns) => ObjectRef::cluster_scoped(Kind::Namespace, Arc::clone(&ns.name)),
            Self::Node(node) => ObjectRef::cluster_scoped(Kind::Node, Arc::clone(&node.name)),
            Self::Pod(pod) => ObjectRef::new(Kind::Pod, pod.id.clone()),
            Self::Service(service) => ObjectRef::new(Kind::Service, service.id.clone()),
            Self::EndpointSlice(slice) => ObjectRef::new(Kind::EndpointSlice, slice.id.clone()),
            Self::NetworkPolicy(policy) => ObjectRef::new(Kind::NetworkPolicy, policy.id.clone()),
        }
    }
}

/// A Service before its backends are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub id: NamespacedName,
    /// Cluster IPs; none when it is headless or an ExternalName (`semantics I8`, `I9`).
    pub cluster_ips: Vec<IpAddr>,
    /// External and load-balancer IPs (`semantics I11`).
    pub external_ips: Vec<IpAddr>,
    /// Which pods of its namespace it sends to; `None` when its EndpointSlices are made by hand.
    pub selector: Option<Selector>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, which joins it with the ports of EndpointSlices; empty for an unnamed port.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the Service's addresses.
    pub port: u16,
    /// The port on every node.
    pub node_port: Option<u16>,
    /// The port on the backends.
    pub target: Target,
}

/// The `targetPort` of a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The same number on every backend.
    Number(u16),
    /// A container port name, resolved for each pod (`semantics I4`).
    Name(Arc<str>),
}

/// An EndpointSlice: backends of a Service as its controller, or a person, wrote them down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub id: NamespacedName,
    /// The Service it belongs to, in the same namespace; `None` without the label that says so.
    pub service: Option<Arc<str>>,
    /// Ports of every endpoint.
    pub ports: Vec<EndpointPort>,
    /// The endpoints' addresses, ready or not.
    pub addresses: Vec<IpAddr>,
}

/// One port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The name of the Service port that leads here; empty for an unnamed one.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port number.
    pub port: u16,
}
