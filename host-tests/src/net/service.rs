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

/// The rules of a node with these addresses.
pub(super) fn rules(services: &[Service], node: &[IpAddr]) -> String {
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
        let Service {
            name, addresses, ..
        } = service;
        let ServicePort {
            protocol,
            port,
            node_port,
            backends,
        } = port;
        for is_v4 in [true, false] {
            let backends: Vec<_> = backends
                .iter()
                .filter(|backend| backend.is_ipv4() == is_v4)
                .collect();
            if backends.is_empty() {
                continue;
            }
            self.count += 1;
            let chain = format!("svc{}", self.count);
            let external = format!("{chain}_ext");
            self.balance(&chain, name, &backends);
            let _ = writeln!(
                self.chains,
                "  chain {external} {{ meta mark set meta mark | {MASQUERADE}; goto {chain}; }}"
            );
            let protocol = protocol.as_str();
            let look_up = if is_v4 { &mut self.v4 } else { &mut self.v6 };
            for address in addresses
                .iter()
                .filter(|address| address.is_ipv4() == is_v4)
            {
                look_up
                    .entry(format!("{address} . {protocol} . {port}"))
                    .or_insert_with(|| chain.clone());
            }
            for address in node.iter().filter(|address| address.is_ipv4() == is_v4) {
                if let Some(port) = node_port {
                    look_up
                        .entry(format!("{address} . {protocol} . {port}"))
                        .or_insert_with(|| external.clone());
                }
            }
        }
    }

    /// A chain for each backend, and one that picks among them.
    fn balance(&mut self, chain: &str, name: &str, backends: &[&SocketAddr]) {
        let mut picks = Vec::new();
        for (index, backend) in backends.iter().enumerate() {
            let family = if backend.is_ipv4() { "ip" } else { "ip6" };
            let _ = write!(
                self.chains,
                "  chain {chain}_{index} {{\n    \
                 {family} saddr {} meta mark set meta mark | {MASQUERADE}\n    \
                 meta l4proto {{ tcp, udp, sctp }} dnat {family} to {backend}\n  }}\n",
                backend.ip()
            );
            picks.push(format!("{index} : goto {chain}_{index}"));
        }
        let _ = writeln!(
            self.chains,
            "  chain {chain} {{ numgen random mod {} vmap {{ {} }} comment \"{name}\"; }}",
            backends.len(),
            picks.join(", ")
        );
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
             chain output {{ type nat hook output priority dstnat; jump services; }}\n  \
             chain postrouting {{\n    type nat hook postrouting priority srcnat;\n    \
             meta mark & {MASQUERADE} == {MASQUERADE} masquerade\n  }}\n}}\n"
        );
        text
    }
}
