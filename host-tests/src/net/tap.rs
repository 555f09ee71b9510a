//! A node by itself, and a wire on which packets are sent to it and read from it by hand.
//!
//! ```text
//!  whoever holds it ◀── packet socket ── eth0 ═══ eth0 ── a node that forwards everything
//! ```
//!
//! The node takes any packet and sends what it forwards, or answers, back on the same wire. So what its
//! rules make of thousands of connections is told without a single server.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, SockProtocol, sendto};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Error, Netns, command};

/// The node's end of the wire and the other one.
const NODE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const WIRE: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// `EtherType` of either family.
const IPV4: [u8; 2] = [8, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Settings of a node that takes whatever comes from wherever, and answers each time.
const SETTINGS: [(&str, &str); 9] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/icmp_ratelimit", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
    ("net/ipv4/tcp_synack_retries", "0"),
];

/// The node and the wire. Dropping it removes both.
#[derive(Debug)]
pub struct Tap {
    node: Netns,
    // Holds the other end of the wire.
    _wire: Netns,
    device: LinkAddr,
    socket: UdpSocket,
}

impl Tap {
    /// Makes a node with these addresses. `name` begins the names of two namespaces.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn create(name: &str, addresses: &[IpAddr]) -> Result<Self, Error> {
        let node = Netns::create_with(&format!("{name}-node"), &SETTINGS)?;
        let wire = Netns::create(&format!("{name}-wire"))?;
        let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let at_wire = format!(
            "link add eth0 address {} type veth peer name eth0 address {} netns {}\nlink set eth0 up\n",
            text(WIRE),
            text(NODE),
            node.name()
        );
        command::start(command::ip(wire.name()), at_wire)?.wait()?;
        let mut at_node = "link set lo up\nlink set eth0 up\n".to_owned();
        for address in addresses {
            let (length, nodad) = if address.is_ipv4() {
                (32, "")
            } else {
                (128, " nodad")
            };
            at_node.push_str(&format!("addr add {address}/{length} dev lo{nodad}\n"));
        }
        for (gateway, everything) in [("169.254.0.1", "0.0.0.0/0"), ("fe80::ffff", "::/0")] {
            let mac = text(WIRE);
            at_node.push_str(&format!(
                "neigh add {gateway} lladdr {mac} dev eth0 nud permanent\n\
                 route add {everything} via {gateway} dev eth0 onlink\n"
            ));
        }
        command::start(command::ip(node.name()), at_node)?.wait()?;
        let opened = wire.run(open)?;
        let (socket, device) = opened.map_err(|source| Error::Netns {
            name: wire.name().to_owned(),
            step: "opening a packet socket",
            source,
        })?;
        Ok(Self {
            node,
            _wire: wire,
            device,
            socket,
        })
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Netns {
        &self.node
    }

    /// Sends an IP packet to the node.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let kind = if packet.first().is_some_and(|byte| byte >> 4 == 4) {
            IPV4
        } else {
            IPV6
        };
        let frame = [&NODE[..], &WIRE, &kind, packet].concat();
        sendto(
            self.socket.as_raw_fd(),
            &frame,
            &self.device,
            MsgFlags::empty(),
        )?;
        Ok(())
    }

    /// The next IP packet that the node sends; `None` if there is none in time.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn receive(&self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        self.socket
            .set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let mut frame = [0; 2048];
        loop {
            let length = match self.socket.recv(&mut frame) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // Nobody else has this address: what comes to it is for us.
            if length > 14 && frame[..6] == WIRE {
                return Ok(Some(frame[14..length].to_vec()));
            }
        }
    }
}

/// A packet socket for everything on this namespace's wire, and the wire to send on.
fn open() -> io::Result<(UdpSocket, LinkAddr)> {
    let everything = Protocol::from(SockProtocol::EthAll as i32);
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(everything))?;
    socket.set_recv_buffer_size(4 << 20)?;
    let mut links = getifaddrs()?.filter(|link| link.interface_name == "eth0");
    let device = links.find_map(|link| link.address?.as_link_addr().copied());
    let device = device.ok_or_else(|| io::Error::other("eth0 has no address"))?;
    // The standard library's datagram socket is but a descriptor with the calls that are wanted.
    Ok((UdpSocket::from(OwnedFd::from(socket)), device))
}
