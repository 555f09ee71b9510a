//! Words for building clusters, so that a test of the filter reads as what it is about.

use std::net::IpAddr;
use std::sync::Arc;

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{
    Backend, Cluster, IpBlock, Labels, Mode, Namespace, NamespaceScope, NamespacedName,
    NetworkPolicy, Node, Peer, Peers, Phase, Pod, PodPeer, PortMatch, PortRange, Ports, Protocol,
    Requirement, Rule, Selector, Service, ServicePort, TcpPath, Test,
};

/// A cluster under construction. Names are `namespace/name`; namespaces appear with their objects.
///
/// Everything panics on malformed input: it is written in the test that fails.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    cluster: Cluster,
}

impl Scene {
    /// Adds a node with its addresses.
    #[must_use]
    pub fn node(mut self, name: &str, addresses: &[&str]) -> Self {
        let node = Node {
            name: name.into(),
            addresses: ips(addresses),
        };
        self.cluster.nodes.insert(name.into(), node);
        self
    }

    /// Adds a running pod with the label `app`.
    #[must_use]
    pub fn pod(mut self, id: &str, app: &str, node: &str, addresses: &[&str]) -> Self {
        let id = self.own(id);
        let pod = Pod {
            id: id.clone(),
            labels: Labels::from_iter([("app", app)]),
            node: Some(node.into()),
            ips: ips(addresses),
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            tcp_path: None,
            ports: Vec::new(),
        };
        self.cluster.pods.insert(id, pod);
        self
    }

    /// Says who carries a pod's TCP.
    #[must_use]
    pub fn tcp_path(mut self, id: &str, path: TcpPath) -> Self {
        let pod = self.cluster.pods.get_mut(&name(id));
        pod.expect("the pod exists").tcp_path = Some(path);
        self
    }

    /// Adds or replaces a policy for the pods with the label `app`. `None` leaves a direction
    /// alone, an empty list isolates.
    #[must_use]
    pub fn policy(
        mut self,
        id: &str,
        app: &str,
        ingress: Option<Vec<Rule>>,
        egress: Option<Vec<Rule>>,
    ) -> Self {
        let id = self.own(id);
        let policy = NetworkPolicy {
            id: id.clone(),
            pod_selector: labelled(app),
            ingress: ingress.map(numbered),
            egress: egress.map(numbered),
            mode: Mode::Enforce,
        };
        self.cluster.policies.insert(id, policy);
        self
    }

    /// Puts a policy into audit mode.
    #[must_use]
    pub fn audit(mut self, id: &str) -> Self {
        let id = self.own(id);
        let policy = self.cluster.policies.get_mut(&id);
        policy.expect("the policy exists").mode = Mode::Audit;
        self
    }

    /// Adds a Service with one TCP port and its ready backends.
    #[must_use]
    pub fn service(mut self, id: &str, address: &str, port: u16, backends: &[(&str, u16)]) -> Self {
        let id = self.own(id);
        let backend = |&(address, port): &(&str, u16)| Backend {
            ip: ip(address),
            port,
        };
        let service = Service {
            id: id.clone(),
            cluster_ips: vec![ip(address)],
            external_ips: Vec::new(),
            ports: vec![ServicePort {
                protocol: Protocol::Tcp,
                port,
                node_port: None,
                backends: backends.iter().map(backend).collect(),
            }],
        };
        self.cluster.services.insert(id, service);
        self
    }

    /// Compiles the snapshot of these pods.
    pub fn snapshot(&self, subjects: &[&str]) -> Vec<u8> {
        self.snapshot_with(subjects, &Options::default())
    }

    /// Compiles the snapshot of these pods with other options than the default ones.
    pub fn snapshot_with(&self, subjects: &[&str], options: &Options) -> Vec<u8> {
        let subjects: Vec<_> = subjects.iter().map(|id| name(id)).collect();
        compile_snapshot(&self.cluster, &subjects, options)
    }

    fn own(&mut self, id: &str) -> NamespacedName {
        let id = name(id);
        let namespace = Namespace {
            tcp_path: None,
            name: Arc::clone(&id.namespace),
            labels: Labels::default(),
            mode: Mode::Enforce,
        };
        self.cluster
            .namespaces
            .entry(Arc::clone(&id.namespace))
            .or_insert(namespace);
        id
    }
}

/// A rule for pods of the policy's namespace with the label `app`.
pub fn pods(app: &str, ports: Ports) -> Rule {
    let peer = PodPeer {
        namespaces: NamespaceScope::Own,
        pods: labelled(app),
    };
    rule(Peers::Of(vec![Peer::Pods(peer)]), ports)
}

/// A rule for a range of addresses without its exceptions.
pub fn block(cidr: &str, except: &[&str], ports: Ports) -> Rule {
    let net = |cidr: &str| cidr.parse().expect("a CIDR");
    let block = IpBlock {
        cidr: net(cidr),
        except: except.iter().map(|cidr| net(cidr)).collect(),
    };
    rule(Peers::Of(vec![Peer::Block(block)]), ports)
}

/// A rule for everyone.
pub fn anyone(ports: Ports) -> Rule {
    rule(Peers::Any, ports)
}

/// TCP ports from `low` to `high`.
pub fn tcp(low: u16, high: u16) -> Ports {
    Ports::Of(vec![PortMatch {
        protocol: Protocol::Tcp,
        port: PortRange::Numbers { low, high },
    }])
}

fn rule(peers: Peers, ports: Ports) -> Rule {
    Rule {
        index: 0,
        peers,
        ports,
    }
}

fn numbered(rules: Vec<Rule>) -> Vec<Rule> {
    let number = |(index, rule)| Rule { index, ..rule };
    (0..).zip(rules).map(number).collect()
}

fn labelled(app: &str) -> Selector {
    Selector::new(vec![Requirement {
        key: "app".into(),
        test: Test::In(vec![app.into()]),
    }])
}

fn name(id: &str) -> NamespacedName {
    let (namespace, name) = id.split_once('/').expect("namespace/name");
    NamespacedName::new(namespace, name)
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an IP address")
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| ip(address)).collect()
}

/// The cluster that most tests of the filter use:
///
/// | pod | node | address |
/// |---|---|---|
/// | shop/db | n1 | 10.1.0.10, fd01::10 |
/// | shop/web | n1 | 10.1.0.20, fd01::20 |
/// | shop/batch | n2 | 10.1.0.30 |
///
/// `shop/db` may be entered by `shop/web` on 5432 and by 192.168.0.0/16 but not 192.168.9.0/24 on
/// 5432 to 5440, and may leave to 10.3.0.0/16. Nobody may enter `shop/batch`, says a policy that is
/// only audited. The service `shop/sql` (10.96.0.5, 5432) is backed by `shop/db`; `shop/cache`
/// (10.96.0.6, 6379) by 10.3.0.9, which `shop/db` may reach, and by 10.4.0.9, which it may not.
pub fn shop() -> Scene {
    Scene::default()
        .node("n1", &["10.0.0.1", "fd00::1"])
        .node("n2", &["10.0.0.2"])
        .pod("shop/db", "db", "n1", &["10.1.0.10", "fd01::10"])
        .pod("shop/web", "web", "n1", &["10.1.0.20", "fd01::20"])
        .pod("shop/batch", "batch", "n2", &["10.1.0.30"])
        .policy(
            "shop/db",
            "db",
            Some(vec![
                pods("web", tcp(5432, 5432)),
                block("192.168.0.0/16", &["192.168.9.0/24"], tcp(5432, 5440)),
            ]),
            Some(vec![block("10.3.0.0/16", &[], Ports::Any)]),
        )
        .policy("shop/closed", "batch", Some(Vec::new()), None)
        .audit("shop/closed")
        .service("shop/sql", "10.96.0.5", 5432, &[("10.1.0.10", 5432)])
        .service(
            "shop/cache",
            "10.96.0.6",
            6379,
            &[("10.3.0.9", 6379), ("10.4.0.9", 6379)],
        )
}
