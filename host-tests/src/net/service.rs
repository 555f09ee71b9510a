//! Services, as kube-proxy's nftables mode translates them on every node.
//!
//! Pure text: [`rules`] gives the input of `nft -f -`. Backends are chosen at random, a pod that
//! reaches itself through its Service is masqueraded (hairpin), and so is NodePort traffic
//! (`externalTrafficPolicy: Cluster`). A Service without backends translates to nothing, and its
//! addresses, which no route leads to, stay unreachable.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The table's name; only ever this table is replaced.
const TABLE: &str = "lab_services";

/// The packet mark that asks for masquerading, the same as kube-proxy's.
const MASQUERADE: &str = "0x4000";

/// A transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, by custom `namespace/name`; for the comments in the rules only.
    pub name: String,
    /// Its ClusterIPs and external addresses, of either family.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the Service's addresses.
    pub port: u16,
    /// The port on every node's addresses, for a NodePort Service.
    pub node_port: Option<u16>,
    /// The ready backends, of either family.
    pub backends: Vec<SocketAddr>,
}

/// The rules of a node with these addresses, for `nft -f -`; they replace those that were there.
#[must_use]
pub fn rules(services: &[Service], node: &[IpAddr]) -> String {
    let mut plan = Rules::default();
    for service in services {
        for port in &service.ports {
            plan.add(service, port, node);
        }
    }
    plan.render()
}

/// What [`rules`] gathers: look-up elements, and the chains that they lead to.
#[derive(Default)]
struct Rules {
    /// `address . protocol . port` to chain, by family. The first Service to claim a triple keeps it.
    v4: BTreeMap<String, String>,
    v6: BTreeMap<String, String>,
    chains: String,
    count: usize,
}

impl Rules {
    fn add(&mut self, service: &Service, port: &ServicePort, node: &[IpAddr]) {
        let protocol = port.protocol.as_str();
        for is_v4 in [true, false] {
            let same_family = |address: &&IpAddr| address.is_ipv4() == is_v4;
            let backends: Vec<_> = port
                .backends
                .iter()
                .filter(|backend| same_family(&&backend.ip()))
                .collect();
            if backends.is_empty() {
                continue;
            }
            let chain = self.balance(&service.name, protocol, &backends);
            let look_up = if is_v4 { &mut self.v4 } else { &mut self.v6 };
            for address in service.addresses.iter().filter(same_family) {
                look_up
                    .entry(format!("{address} . {protocol} . {}", port.port))
                    .or_insert_with(|| chain.clone());
            }
            let Some(node_port) = port.node_port else {
                continue;
            };
            for address in node.iter().filter(same_family) {
                let external = format!("{chain}_external");
                look_up
                    .entry(format!("{address} . {protocol} . {node_port}"))
                    .or_insert(external);
            }
        }
    }

    /// A chain for each backend, one that picks among them, and one that masquerades first.
    fn balance(&mut self, name: &str, protocol: &str, backends: &[&SocketAddr]) -> String {
        self.count += 1;
        let chain = format!("svc{}", self.count);
        let mut picks = Vec::new();
        for (index, backend) in backends.iter().enumerate() {
            let family = if backend.is_ipv4() { "ip" } else { "ip6" };
            let _ = write!(
                self.chains,
                "  chain {chain}_{index} {{\n    \
                 {family} saddr {} meta mark set meta mark | {MASQUERADE}\n    \
                 meta l4proto {protocol} dnat {family} to {backend}\n  }}\n",
                backend.ip()
            );
            picks.push(format!("{index} : goto {chain}_{index}"));
        }
        let _ = write!(
            self.chains,
            "  chain {chain} {{ numgen random mod {} vmap {{ {} }} comment \"{name}\"; }}\n  \
             chain {chain}_external {{ meta mark set meta mark | {MASQUERADE}; goto {chain}; }}\n",
            backends.len(),
            picks.join(", ")
        );
        chain
    }

    fn render(self) -> String {
        let mut text =
            format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
        text.push_str(&self.chains);
        for (map, kind, elements) in [("v4", "ipv4_addr", &self.v4), ("v6", "ipv6_addr", &self.v6)]
        {
            let _ = write!(
                text,
                "  map {map} {{\n    type {kind} . inet_proto . inet_service : verdict\n"
            );
            if !elements.is_empty() {
                let elements: Vec<_> = elements
                    .iter()
                    .map(|(key, chain)| format!("{key} : goto {chain}"))
                    .collect();
                let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
            }
            text.push_str("  }\n");
        }
        let _ = write!(
            text,
            "  chain services {{\n    \
             ip daddr . meta l4proto . th dport vmap @v4\n    \
             ip6 daddr . meta l4proto . th dport vmap @v6\n  }}\n  \
             chain prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n  \
             chain output {{ type nat hook output priority -100; jump services; }}\n  \
             chain postrouting {{\n    type nat hook postrouting priority srcnat;\n    \
             meta mark & {MASQUERADE} == {MASQUERADE} masquerade\n  }}\n}}\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dual_stack_node_port_service() {
        let service = Service {
            name: "default/web".to_owned(),
            addresses: vec![
                "10.96.0.10".parse().expect("v4"),
                "fd00:96::10".parse().expect("v6"),
            ],
            ports: vec![ServicePort {
                protocol: Protocol::Udp,
                port: 53,
                node_port: Some(30_053),
                backends: vec![
                    "10.244.1.11:5353".parse().expect("v4"),
                    "10.244.2.11:5353".parse().expect("v4"),
                ],
            }],
        };
        let node: Vec<IpAddr> = vec![
            "192.168.50.1".parse().expect("v4"),
            "fd50::1".parse().expect("v6"),
        ];
        let text = rules(&[service], &node);
        let expected = "\
table inet lab_services
delete table inet lab_services
table inet lab_services {
  chain svc1_0 {
    ip saddr 10.244.1.11 meta mark set meta mark | 0x4000
    meta l4proto udp dnat ip to 10.244.1.11:5353
  }
  chain svc1_1 {
    ip saddr 10.244.2.11 meta mark set meta mark | 0x4000
    meta l4proto udp dnat ip to 10.244.2.11:5353
  }
  chain svc1 { numgen random mod 2 vmap { 0 : goto svc1_0, 1 : goto svc1_1 } comment \"default/web\"; }
  chain svc1_external { meta mark set meta mark | 0x4000; goto svc1; }
  map v4 {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.10 . udp . 53 : goto svc1, 192.168.50.1 . udp . 30053 : goto svc1_external }
  }
  map v6 {
    type ipv6_addr . inet_proto . inet_service : verdict
  }
";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_service_without_backends_translates_nothing() {
        let service = Service {
            name: "default/web".to_owned(),
            addresses: vec!["10.96.0.10".parse().expect("v4")],
            ports: vec![ServicePort {
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
                backends: Vec::new(),
            }],
        };
        assert!(!rules(&[service], &[]).contains("elements"));
    }
}
