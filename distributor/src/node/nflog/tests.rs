//! Packets as the kernel copies them, and what is said of them.

use std::net::IpAddr;

use super::packet::seen;
use super::*;
use crate::testing::{pod, snapshot};

const V4_SOURCE: [u8; 4] = [10, 244, 1, 11];
const V4_DESTINATION: [u8; 4] = [10, 244, 1, 12];

/// An IPv4 packet with options, so that nothing is where one might guess it.
fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x46, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(V4_SOURCE);
    packet.extend(V4_DESTINATION);
    packet.extend([1, 1, 1, 0]);
    packet.extend(payload);
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

/// An IPv6 packet from fd00::11 to fd00::12.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
    for last in [0x11, 0x12] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// The first bytes of TCP, UDP and SCTP: from 40000 to 443, then anything.
const PORTS: [u8; 8] = [0x9c, 0x40, 0x01, 0xbb, 1, 2, 3, 4];

#[test]
fn the_heads_of_ipv4() {
    for protocol in [6, 17, 132] {
        let packet = seen(&v4(protocol, &PORTS)).unwrap();
        assert_eq!(packet.source, IpAddr::from(V4_SOURCE));
        assert_eq!(packet.destination, IpAddr::from(V4_DESTINATION));
        assert_eq!(packet.protocol, protocol);
        assert_eq!(packet.ports, Some((40_000, 443)));
    }
    let ping = seen(&v4(1, &[8, 0, 0, 0, 0, 7, 0, 1])).unwrap();
    assert_eq!((ping.protocol, ping.ports), (1, None));
}

#[test]
fn ipv6_extension_headers_are_passed_over() {
    // Hop-by-hop options, a routing header, destination options of 16 bytes, then SCTP.
    let mut payload = vec![43, 0, 1, 4, 0, 0, 0, 0];
    payload.extend([60, 0, 4, 0, 0, 0, 0, 0]);
    payload.extend([132, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend(PORTS);
    let packet = seen(&v6(0, &payload)).unwrap();
    assert_eq!(packet.protocol, 132);
    assert_eq!(packet.ports, Some((40_000, 443)));
    assert_eq!(packet.source, "fd00::11".parse::<IpAddr>().unwrap());
    assert_eq!(packet.destination, "fd00::12".parse::<IpAddr>().unwrap());

    let ping = seen(&v6(58, &[128, 0, 0, 0, 0, 7, 0, 1])).unwrap();
    assert_eq!((ping.protocol, ping.ports), (58, None));
}

#[test]
fn a_packet_that_is_cut_off_tells_what_it_has() {
    let whole = v4(17, &PORTS);
    let head = whole.len() - PORTS.len();
    assert_eq!(
        seen(&whole[..head + 4]).unwrap().ports,
        Some((40_000, 443)),
        "the ports are there"
    );
    assert_eq!(seen(&whole[..head + 3]).unwrap().ports, None);
    assert_eq!(seen(&whole[..19]), None, "no whole IP header");
    assert_eq!(seen(&[]), None);
    assert_eq!(seen(&[0x10; 64]), None, "no IP version");
}

#[test]
fn the_middle_of_a_fragmented_packet_has_no_ports() {
    let mut packet = v4(17, &PORTS);
    packet[6..8].copy_from_slice(&0x00b9_u16.to_be_bytes());
    assert_eq!(seen(&packet).unwrap().ports, None);

    let mut fragment = vec![17, 0, 0x05, 0xc8, 0, 0, 0, 9];
    fragment.extend(PORTS);
    let packet = seen(&v6(44, &fragment)).unwrap();
    assert_eq!((packet.protocol, packet.ports), (17, None));
}

#[test]
fn a_prefix_is_read_with_and_without_its_padding() {
    for prefix in Prefix::ALL {
        let text = prefix.as_str();
        for end in ["", "\0", " ", " \0\0"] {
            assert_eq!(
                Prefix::read(format!("{text}{end}").as_bytes()),
                Some(prefix)
            );
        }
        assert_eq!(Prefix::read(&text.as_bytes()[..text.len() - 1]), None);
    }
}

#[test]
fn missing_numbers_are_counted_once() {
    let mut next = None;
    let arrived = [
        Some(u32::MAX - 1),
        Some(u32::MAX),
        None,
        Some(0),
        Some(4),
        Some(5),
    ];
    assert_eq!(
        arrived.map(|number| missing(&mut next, number)),
        [0, 0, 0, 0, 3, 0]
    );
}

fn line(prefix: Prefix, packet: &[u8], pod_ip: Option<&str>) -> String {
    let snapshot =
        pod_ip.map(|ip| Snapshot::check(snapshot(&pod("a"), ip).bytes.to_vec()).unwrap());
    let pod_cidrs = ["10.244.1.0/24".parse().unwrap()];
    let seen = seen(packet).unwrap();
    let record = record(&seen, Some(prefix), snapshot.as_ref(), &pod_cidrs);
    record.unwrap().line()
}

#[test]
fn without_a_snapshot_the_record_says_so() {
    assert_eq!(
        line(Prefix::Unknown, &v4(17, &PORTS), None),
        concat!(
            r#"sidewall-decision {"verdict":"deny","source":"10.244.1.11:40000","#,
            r#""destination":"10.244.1.12:443","protocol":"UDP","#,
            r#""reason":"no-snapshot","policies":[]}"#
        )
    );
}

#[test]
fn a_pod_that_is_unknown_is_named_as_the_reason_although_the_other_end_allows() {
    let line = line(Prefix::Unknown, &v4(1, &[8, 0]), Some("10.244.1.11"));
    assert!(
        line.contains(
            r#""source":"10.244.1.11","destination":"10.244.1.12","protocol":"ICMP","reason":"unknown-address""#
        ),
        "{line}"
    );
}

#[test]
fn a_drop_that_the_snapshot_would_not_repeat_keeps_its_side() {
    let mut packet = v4(6, &PORTS);
    packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
    let line = line(Prefix::Egress, &packet, Some("10.244.1.11"));
    assert!(
        line.contains(r#"{"verdict":"deny","direction":"egress","pod":"default/a""#)
            && line.contains(r#""reason":"allowed-by-now""#),
        "{line}"
    );
}
