//! First packets of connections, and what a node makes of them.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpHeaders, IpNumber, IpSlice, PacketBuilder, PacketBuilderStep};

use crate::probe::Association;

const HOPS: u8 = 64;

/// IANA numbers.
const ICMP: [u8; 2] = [1, 58];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The first packet of a connection; its number stands in the source port, or in the echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) number: u16,
    pub(super) source: IpAddr,
    pub(super) destination: SocketAddr,
    pub(super) protocol: u8,
}

/// What a node sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It passed a first packet on, to this address and port; 0 if the protocol has none.
    Forwarded { number: u16, to: IpAddr, port: u16 },
    /// It answered a first packet itself: a socket of its own, or its refusal where there is none.
    Answered { number: u16 },
}

impl First {
    /// The bytes of the packet. `None` where the ends are of two families.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let Self {
            number,
            source,
            destination,
            protocol,
        } = *self;
        let ip: PacketBuilderStep<IpHeaders> = match (source, destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), HOPS)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), HOPS)
            }
            _ => return None,
        };
        let mut bytes = Vec::new();
        let port = destination.port();
        let written = match protocol {
            TCP => ip.tcp(number, port, 1, 1024).syn().write(&mut bytes, b""),
            UDP => ip.udp(number, port).write(&mut bytes, b"who?"),
            protocol if protocol == ICMP[0] => {
                ip.icmpv4_echo_request(number, 1).write(&mut bytes, b"")
            }
            protocol if protocol == ICMP[1] => {
                ip.icmpv6_echo_request(number, 1).write(&mut bytes, b"")
            }
            _ => {
                let init = Association {
                    source: number,
                    destination: port,
                    verification: 0,
                    initiate: u32::from(number),
                    is_ack: false,
                    words: "case".to_owned(),
                };
                ip.write(&mut bytes, IpNumber(protocol), &init.encode())
            }
        };
        written.ok().map(|()| bytes)
    }
}

/// Reads what a node sent; `None` for what has nothing to do with first packets, such as neighbour
/// discovery. `is_number` tells numbers from other ports.
pub(super) fn read(packet: &[u8], is_number: impl Fn(u16) -> bool) -> Option<Sent> {
    let ip = IpSlice::from_slice(packet).ok()?;
    let payload = ip.payload().payload;
    let half = |at: usize| {
        let bytes = payload.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    let protocol = ip.payload_ip_number().0;
    let forwarded = |number, port| Sent::Forwarded {
        number,
        to: ip.destination_addr(),
        port,
    };
    if !ICMP.contains(&protocol) {
        let (source, destination) = (half(0)?, half(2)?);
        return if is_number(source) {
            Some(forwarded(source, destination))
        } else {
            is_number(destination).then_some(Sent::Answered {
                number: destination,
            })
        };
    }
    match (protocol, payload.first()?) {
        (1, 8) | (58, 128) => Some(forwarded(half(4)?, 0)),
        (1, 0) | (58, 129) => Some(Sent::Answered { number: half(4)? }),
        // Unreachable: the packet that could not be delivered follows.
        (1, 3) | (58, 1) => match read_inner(payload.get(8..)?)? {
            number if is_number(number) => Some(Sent::Answered { number }),
            _ => None,
        },
        _ => None,
    }
    .filter(|sent| match sent {
        Sent::Forwarded { number, .. } | Sent::Answered { number } => is_number(*number),
    })
}

/// The number of a packet that an error quotes.
fn read_inner(packet: &[u8]) -> Option<u16> {
    let length = match packet.first()? >> 4 {
        4 => usize::from(packet.first()? & 0x0f) * 4,
        _ => 40,
    };
    let bytes = packet.get(length..length + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_as_forwarded() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2:80"), ("fd00::1", "[fd00::2]:80")] {
            for protocol in [6, 17, 132, if source.contains(':') { 58 } else { 1 }] {
                let first = First {
                    number: 40_000,
                    source: source.parse().unwrap(),
                    destination: destination.parse().unwrap(),
                    protocol,
                };
                let bytes = first.encode().unwrap();
                let to = first.destination.ip();
                assert_eq!(
                    read(&bytes, |port| port >= 40_000),
                    Some(Sent::Forwarded {
                        number: 40_000,
                        to,
                        port: if matches!(protocol, 1 | 58) { 0 } else { 80 },
                    }),
                    "{first:?}"
                );
                assert_eq!(read(&bytes, |port| port > 40_000), None, "{first:?}");
            }
        }
    }
}
