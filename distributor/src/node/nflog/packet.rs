//! A packet as the kernel logs it.

use etherparse::LaxIpSlice;

use super::Prefix;
use crate::node::netlink::{attributes, be16, be32};
use crate::node::seen::{Seen, has_ports};

/// `NFULA_PAYLOAD` of linux/netfilter/nfnetlink_log.h, as are the numbers below.
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_SEQ: u16 = 12;

/// What a log message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Logged<'a> {
    /// Its number, ascending from 0.
    pub number: Option<u32>,
    /// Why the packet was dropped; `None` for the words of a rule that is not Sidewall's.
    pub prefix: Option<Prefix>,
    /// The packet, from its IP header on and maybe cut off.
    pub packet: Option<&'a [u8]>,
    /// The packet's ends; `None` if the packet cannot be read.
    pub seen: Option<Seen>,
}

impl<'a> Logged<'a> {
    pub(super) fn read(message: &'a [u8]) -> Self {
        let mut logged = Self::default();
        for attribute in attributes(message) {
            match attribute.kind {
                NFULA_PAYLOAD => {
                    logged.packet = Some(attribute.value);
                    logged.seen = seen(attribute.value);
                }
                NFULA_PREFIX => logged.prefix = Prefix::read(attribute.value),
                NFULA_SEQ => logged.number = be32(attribute.value),
                _ => {}
            }
        }
        logged
    }
}

/// The ends of a packet that begins with its IP header and may be cut off anywhere behind it.
pub(super) fn seen(packet: &[u8]) -> Option<Seen> {
    let (ip, _) = LaxIpSlice::from_slice(packet).ok()?;
    let inner = ip.payload();
    let protocol = inner.ip_number.0;
    // All protocols with ports begin with them. Fragments are whole again where rules judge; if one
    // shows up all the same, its payload may begin anywhere.
    let ports = (has_ports(protocol) && !inner.fragmented)
        .then(|| Some((be16(inner.payload)?, be16(inner.payload.get(2..)?)?)))
        .flatten();
    Some(Seen {
        source: ip.source_addr(),
        destination: ip.destination_addr(),
        protocol,
        ports,
    })
}
