//! Packets by hand, where the kernel has no socket for a protocol: SCTP's INIT and ICMP's echo.
//!
//! The machine need not speak SCTP: an INIT and the answer to it are all that a first packet's
//! verdict needs, and connection tracking follows them like any others. Needs `CAP_NET_RAW`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// IANA numbers.
const SCTP: i32 = 132;
const ICMP: i32 = 1;
const ICMPV6: i32 = 58;

/// Chunk types of RFC 9260.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// A parameter type that nobody knows, and that is to be skipped by whoever does not (RFC 9260,
/// section 3.2.1): it carries the probe's words.
const WORDS: u16 = 0x80de;

/// RFC 9260, 3.3.3.1: an INIT ACK without it is not one.
const STATE_COOKIE: u16 = 7;

/// A raw socket of one protocol and family. What is sent has no IP header, what arrives has none
/// either once [`payload`] has taken it off.
pub(super) fn socket(is_v4: bool, protocol: i32) -> io::Result<UdpSocket> {
    let domain = if is_v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
    // The standard library's datagram socket is but a descriptor with the calls that are wanted.
    Ok(UdpSocket::from(OwnedFd::from(socket)))
}

/// A raw socket for SCTP.
pub(super) fn sctp(is_v4: bool) -> io::Result<UdpSocket> {
    socket(is_v4, SCTP)
}

/// A raw socket for echo requests and replies of a family.
pub(super) fn icmp(is_v4: bool) -> io::Result<UdpSocket> {
    socket(is_v4, if is_v4 { ICMP } else { ICMPV6 })
}

/// What follows the IP header: a raw IPv4 socket delivers it, a raw IPv6 socket does not.
pub(super) fn payload(is_v4: bool, packet: &[u8]) -> Option<&[u8]> {
    if !is_v4 {
        return Some(packet);
    }
    let header = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(header..)
}

/// Where a packet is sent: raw sockets know no ports.
pub(super) fn without_port(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

/// An INIT or INIT ACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Association {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    /// The tag that the other end wants to see: 0 in an INIT.
    pub(crate) verification: u32,
    /// The tag that this end wants to see.
    pub(crate) initiate: u32,
    pub(crate) is_ack: bool,
    /// What the probe has to say.
    pub(crate) words: String,
}

impl Association {
    /// The packet, with its checksum (RFC 9260, appendix A).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut chunk = Vec::new();
        chunk.extend_from_slice(&self.initiate.to_be_bytes());
        chunk.extend_from_slice(&65_536_u32.to_be_bytes()); // a_rwnd
        chunk.extend_from_slice(&1_u16.to_be_bytes()); // outbound streams
        chunk.extend_from_slice(&1_u16.to_be_bytes()); // inbound streams
        chunk.extend_from_slice(&1_u32.to_be_bytes()); // initial TSN
        if self.is_ack {
            parameter(&mut chunk, STATE_COOKIE, b"cookie!!");
        }
        parameter(&mut chunk, WORDS, self.words.as_bytes());
        let length = u16::try_from(chunk.len() + 4).unwrap_or(u16::MAX);

        let mut packet = Vec::new();
        packet.extend_from_slice(&self.source.to_be_bytes());
        packet.extend_from_slice(&self.destination.to_be_bytes());
        packet.extend_from_slice(&self.verification.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(&[if self.is_ack { INIT_ACK } else { INIT }, 0]);
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&chunk);
        let checksum = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&checksum);
        packet
    }

    /// Reads a packet; `None` for anything else.
    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let half = |at: usize| {
            let bytes = packet.get(at..at + 2)?;
            Some(u16::from_be_bytes(bytes.try_into().ok()?))
        };
        let whole = |at: usize| {
            let bytes = packet.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let is_ack = match *packet.get(12)? {
            INIT => false,
            INIT_ACK => true,
            _ => return None,
        };
        let mut at = 32;
        let words = loop {
            let (kind, length) = (half(at)?, usize::from(half(at + 2)?));
            if kind == WORDS {
                let text = packet.get(at + 4..at + length)?;
                break String::from_utf8(text.to_vec()).ok()?;
            }
            at += length.max(4).next_multiple_of(4);
        };
        Some(Self {
            source: half(0)?,
            destination: half(2)?,
            verification: whole(4)?,
            initiate: whole(16)?,
            is_ack,
            words,
        })
    }
}

/// Appends a parameter, filled up to a multiple of four bytes.
fn parameter(chunk: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    chunk.extend_from_slice(&kind.to_be_bytes());
    chunk.extend_from_slice(&length.to_be_bytes());
    chunk.extend_from_slice(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
}

/// CRC-32C (Castagnoli), bit by bit: probes send few packets.
fn crc32c(bytes: &[u8]) -> u32 {
    const REVERSED: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (REVERSED & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// An echo request. The kernel fills in the checksum of ICMPv6.
pub(super) fn echo_request(is_v4: bool, id: u16, words: &str) -> Vec<u8> {
    let mut packet = vec![if is_v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&1_u16.to_be_bytes());
    packet.extend_from_slice(words.as_bytes());
    if is_v4 {
        let checksum = internet_checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&checksum);
    }
    packet
}

/// Whether this is the reply to such a request.
pub(super) fn is_echo_reply(is_v4: bool, id: u16, words: &str, packet: &[u8]) -> bool {
    let kind = if is_v4 { 0 } else { 129 };
    packet.first() == Some(&kind)
        && packet.get(4..6) == Some(&id.to_be_bytes())
        && packet.get(8..) == Some(words.as_bytes())
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_books() {
        // RFC 3720, B.4: 32 bytes of zeros; and the check value of CRC-32C.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 1071, section 3.
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&example), !0xddf2);
    }

    #[test]
    fn an_association_reads_as_it_was_written() {
        for (is_ack, words) in [(false, "nonce-7"), (true, "default/db:9 nonce-7")] {
            let association = Association {
                source: 40_000,
                destination: 9,
                verification: 0xdead_beef,
                initiate: 0x0102_0304,
                is_ack,
                words: words.to_owned(),
            };
            let packet = association.encode();
            assert_eq!(Association::decode(&packet), Some(association));
            for end in 0..packet.len() - 4 {
                assert_eq!(Association::decode(&packet[..end]), None, "{end} bytes");
            }
        }
    }
}
