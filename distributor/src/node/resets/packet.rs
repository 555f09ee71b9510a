//! TCP segments: what the kernel logs of a silenced connection, and what resets its ends.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, LaxIpSlice, TcpHeader, TcpSlice,
};

/// Enough for the pod's own network; other tables would take it for stray anyway.
const HOP_LIMIT: u8 = 64;

/// A segment without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    sequence: u32,
    acknowledged: u32,
    is_reset: bool,
}

/// A segment that an end of a silenced connection has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speech {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    sequence: u32,
    acknowledged: u32,
    /// The sequence number behind the payload.
    next: u32,
}

impl Segment {
    /// A bare ACK that is out of every window but one in 65,000: an established end answers either with an ACK of
    /// its own (RFC 9293 section 3.10.7.4, RFC 5961 section 5).
    pub(super) fn probe(source: SocketAddr, destination: SocketAddr) -> Self {
        let ports = u32::from(source.port()) << 16 | u32::from(destination.port());
        Self {
            sequence: ports.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995,
            acknowledged: ports.rotate_left(13) ^ 0x85eb_ca6b,
            is_reset: false,
        }
    }

    /// The packet, IP header included; `None` for ends of two families.
    pub(super) fn bytes(&self, source: SocketAddr, destination: SocketAddr) -> Option<Vec<u8>> {
        let mut tcp = TcpHeader::new(source.port(), destination.port(), self.sequence, 0);
        tcp.acknowledgment_number = self.acknowledged;
        tcp.ack = true;
        tcp.rst = self.is_reset;
        let length = u16::try_from(tcp.header_len()).ok()?;
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let mut ip =
                    Ipv4Header::new(length, HOP_LIMIT, IpNumber::TCP, source, destination).ok()?;
                ip.header_checksum = ip.calc_header_checksum();
                tcp.checksum = tcp.calc_checksum_ipv4_raw(source, destination, &[]).ok()?;
                Some([&ip.to_bytes()[..], &tcp.to_bytes()[..]].concat())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let ip = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: length,
                    next_header: IpNumber::TCP,
                    hop_limit: HOP_LIMIT,
                    source,
                    destination,
                };
                tcp.checksum = tcp.calc_checksum_ipv6_raw(source, destination, &[]).ok()?;
                Some([&ip.to_bytes()[..], &tcp.to_bytes()[..]].concat())
            }
            _ => None,
        }
    }
}

impl Speech {
    /// Reads a packet that begins with its IP header and may be cut off behind TCP's; `None` for what is no TCP
    /// segment with an ACK, or is a reset already.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let (ip, _) = LaxIpSlice::from_slice(packet).ok()?;
        let inner = ip.payload();
        if inner.ip_number != IpNumber::TCP || inner.fragmented {
            return None;
        }
        let tcp = TcpSlice::from_slice(inner.payload).ok()?;
        if tcp.rst() || !tcp.ack() {
            return None;
        }
        let payload = u32::try_from(length_of_payload(&ip)?.checked_sub(tcp.header_len())?).ok()?;
        let control = u32::from(tcp.syn()) + u32::from(tcp.fin());
        let sequence = tcp.sequence_number();
        Some(Self {
            source: SocketAddr::new(ip.source_addr(), tcp.source_port()),
            destination: SocketAddr::new(ip.destination_addr(), tcp.destination_port()),
            sequence,
            acknowledged: tcp.acknowledgment_number(),
            next: sequence.wrapping_add(payload).wrapping_add(control),
        })
    }

    /// A reset for its sender, which expects the number that it acknowledges.
    pub(super) fn answer(&self) -> Segment {
        Segment {
            sequence: self.acknowledged,
            acknowledged: self.next,
            is_reset: true,
        }
    }

    /// Resets for the end that it was meant for: that end expects its first byte or, if it has it already, the one
    /// behind its last.
    pub(super) fn resets(&self) -> impl Iterator<Item = Segment> {
        let segment = |sequence| Segment {
            sequence,
            acknowledged: self.acknowledged,
            is_reset: true,
        };
        let second = (self.next != self.sequence).then(|| segment(self.next));
        std::iter::once(segment(self.sequence)).chain(second)
    }
}

/// The bytes behind the IP headers by what these say: the packet may be cut off.
fn length_of_payload(ip: &LaxIpSlice<'_>) -> Option<usize> {
    match ip {
        LaxIpSlice::Ipv4(v4) => {
            let header = v4.header();
            usize::from(header.total_len()).checked_sub(header.slice().len())
        }
        LaxIpSlice::Ipv6(v6) => {
            let extensions = v6.extensions().slice().len();
            usize::from(v6.header().payload_length()).checked_sub(extensions)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(family: usize) -> (SocketAddr, SocketAddr) {
        let [source, destination] = [
            ["10.244.1.11:40000", "10.96.0.1:443"],
            ["[fd00:244:1::11]:40000", "[fd00:96::1]:443"],
        ][family];
        (source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn what_is_written_is_read_back_and_answered_by_its_numbers() {
        for family in [0, 1] {
            let (source, destination) = ends(family);
            let probe = Segment::probe(source, destination);
            let speech = Speech::read(&probe.bytes(source, destination).unwrap()).unwrap();
            assert_eq!((speech.source, speech.destination), (source, destination));
            let resets: Vec<_> = speech.resets().collect();
            assert_eq!(resets.len(), 1);
            assert_eq!(resets[0].sequence, probe.sequence);
            // A reset is not answered by another one.
            assert_eq!(
                Speech::read(&resets[0].bytes(source, destination).unwrap()),
                None
            );
        }
    }

    #[test]
    fn payload_that_was_cut_off_counts() {
        for family in [0, 1] {
            let (source, destination) = ends(family);
            let probe = Segment::probe(source, destination);
            let mut packet = probe.bytes(source, destination).unwrap();
            // The length of the whole packet in IPv4, of what follows the header in IPv6.
            let (place, length) = [(2, 40 + 1000_u16), (4, 20 + 1000)][family];
            packet[place..place + 2].copy_from_slice(&length.to_be_bytes());
            packet.extend([0; 50]);
            let resets: Vec<_> = Speech::read(&packet).unwrap().resets().collect();
            let numbers = resets
                .iter()
                .map(|reset| reset.sequence.wrapping_sub(probe.sequence));
            assert_eq!(numbers.collect::<Vec<_>>(), [0, 1000]);
        }
    }

    #[test]
    fn bytes_without_sense_are_no_segment() {
        let (source, destination) = ends(0);
        let packet = Segment::probe(source, destination);
        let packet = packet.bytes(source, destination).unwrap();
        for end in 0..packet.len() {
            assert_eq!(Speech::read(&packet[..end]), None, "{end}");
        }
        let (_, other) = ends(1);
        assert_eq!(Segment::probe(source, other).bytes(source, other), None);
    }
}
