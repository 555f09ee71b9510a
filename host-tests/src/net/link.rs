//! One line of the network as text for `ip -batch`: a veth from a hub to a leaf, with host routes.
//!
//! The leaf has its addresses as `/32` and `/128` on `eth0` and a gateway on a link-local address
//! that the hub carries on its end, so no subnet, bridge or proxy ARP is involved. On a bridge it has a
//! `/24` and a `/64`, and the bridge carries the gateway.

use std::fmt::Write as _;
use std::net::IpAddr;

/// The gateway addresses on the hub's end of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gateway {
    v4: &'static str,
    v6: &'static str,
}

/// Nodes to their pods.
pub(super) const NODE: Gateway = Gateway {
    v4: "169.254.1.1",
    v6: "fe80::1",
};

/// The router to nodes and external hosts. Not the nodes' own: a gateway may not be an address of
/// the host that uses it.
pub(super) const ROUTER: Gateway = Gateway {
    v4: "169.254.0.1",
    v6: "fe80::ffff",
};

/// What every leaf answers on, next to its own addresses.
const LEAF: &str = "fe80::2";

/// The bridge of a node whose pods are on one.
const BRIDGE: &str = "cni0";

/// Makes a node's bridge.
pub(super) fn bridge() -> String {
    let Gateway { v4, v6 } = NODE;
    format!(
        "link add {BRIDGE} type bridge\n\
         addr add {v4}/32 dev {BRIDGE} scope link\n\
         addr add {v6}/64 dev {BRIDGE} nodad\n\
         link set {BRIDGE} up\n"
    )
}

/// Takes a node's routes to a pod on its bridge away.
pub(super) fn no_routes_by_bridge(pod: &[IpAddr]) -> String {
    let routes = pod
        .iter()
        .map(|address| format!("route del {address} dev {BRIDGE}\n"));
    routes.collect()
}

/// A veth between the namespace that forwards and the one that is reached through it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Its name in the hub, at most 15 bytes.
    pub(super) device: &'a str,
    /// The namespace at the other end.
    pub(super) leaf: &'a str,
    /// Whose addresses these are.
    pub(super) addresses: &'a [IpAddr],
    /// What the hub answers on.
    pub(super) gateway: Gateway,
    /// Whether its end in the hub is a port of the hub's bridge.
    pub(super) bridged: bool,
}

impl Line<'_> {
    /// The hub's end. `speakers` are the hub's own addresses: without `src` a node would speak to
    /// its pods from the gateway address.
    pub(super) fn at_hub(&self, speakers: &[IpAddr]) -> String {
        let Self {
            device,
            leaf,
            addresses,
            gateway,
            bridged,
        } = self;
        let mut text = format!("link add {device} type veth peer name eth0 netns {leaf}\n");
        let way = if *bridged {
            let _ = writeln!(text, "link set {device} master {BRIDGE}");
            let _ = writeln!(text, "link set {device} type bridge_slave hairpin on");
            BRIDGE
        } else {
            let _ = writeln!(text, "addr add {}/32 dev {device} scope link", gateway.v4);
            let _ = writeln!(text, "addr add {}/64 dev {device} nodad", gateway.v6);
            device
        };
        let _ = writeln!(text, "link set {device} up");
        for address in *addresses {
            let _ = write!(text, "route add {address} dev {way}");
            if let Some(speaker) = speakers
                .iter()
                .find(|speaker| speaker.is_ipv4() == address.is_ipv4())
            {
                let _ = write!(text, " src {speaker}");
            }
            text.push('\n');
        }
        text
    }

    /// The leaf's end.
    pub(super) fn at_leaf(&self) -> String {
        let mut text = "link set lo up\nlink set eth0 up\n".to_owned();
        if !self.bridged {
            let _ = writeln!(text, "addr add {LEAF}/64 dev eth0 nodad");
        }
        for address in self.addresses {
            let (length, nodad) = match (address.is_ipv4(), self.bridged) {
                (true, false) => (32, ""),
                (true, true) => (24, ""),
                (false, false) => (128, " nodad"),
                (false, true) => (64, " nodad"),
            };
            let _ = writeln!(text, "addr add {address}/{length} dev eth0{nodad}");
        }
        if self.addresses.iter().any(IpAddr::is_ipv4) {
            let gateway = self.gateway.v4;
            let _ = writeln!(
                text,
                "route add {gateway} dev eth0 scope link\nroute add default via {gateway} dev eth0"
            );
        }
        if self.addresses.iter().any(IpAddr::is_ipv6) {
            let _ = writeln!(text, "route add ::/0 via {} dev eth0", self.gateway.v6);
        }
        text
    }
}

/// Routes of the router to a pod, through the node at the other end of `device`. The node's
/// link-local address serves both families, so it needs no address of the pod's family.
pub(super) fn routes_to(pod: &[IpAddr], device: &str) -> String {
    let mut text = String::new();
    for address in pod {
        let family = if address.is_ipv4() { "inet6 " } else { "" };
        let _ = writeln!(text, "route add {address} via {family}{LEAF} dev {device}");
    }
    text
}

/// Takes those routes away.
pub(super) fn no_routes_to(pod: &[IpAddr]) -> String {
    let mut text = String::new();
    for address in pod {
        let _ = writeln!(text, "route del {address}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn a_dual_stack_pod() {
        let line = Line {
            device: "p1",
            leaf: "lab-web",
            addresses: &addresses(&["10.244.1.11", "fd00:244:1::11"]),
            gateway: NODE,
            bridged: false,
        };
        assert_eq!(
            line.at_hub(&addresses(&["192.168.50.1", "fd50::1", "192.168.60.1"])),
            "link add p1 type veth peer name eth0 netns lab-web\n\
             addr add 169.254.1.1/32 dev p1 scope link\n\
             addr add fe80::1/64 dev p1 nodad\n\
             link set p1 up\n\
             route add 10.244.1.11 dev p1 src 192.168.50.1\n\
             route add fd00:244:1::11 dev p1 src fd50::1\n"
        );
        assert_eq!(
            line.at_leaf(),
            "link set lo up\n\
             link set eth0 up\n\
             addr add fe80::2/64 dev eth0 nodad\n\
             addr add 10.244.1.11/32 dev eth0\n\
             addr add fd00:244:1::11/128 dev eth0 nodad\n\
             route add 169.254.1.1 dev eth0 scope link\n\
             route add default via 169.254.1.1 dev eth0\n\
             route add ::/0 via fe80::1 dev eth0\n"
        );
    }

    #[test]
    fn a_pod_of_one_family_has_no_way_out_in_the_other() {
        let v6 = addresses(&["fd00:244:1::11"]);
        let line = Line {
            device: "p1",
            leaf: "lab-web",
            addresses: &v6,
            gateway: NODE,
            bridged: false,
        };
        assert!(
            !line.at_leaf().contains("route add default via 169"),
            "{}",
            line.at_leaf()
        );
        assert!(
            line.at_leaf().contains("route add ::/0"),
            "{}",
            line.at_leaf()
        );
    }
}
