//! Untrusted bytes: what `check` accepts can be judged with, put into words and shown as rules without
//! a panic, and the two readings agree.
//!
//! Whoever writes a snapshot can sign it, so each input is tried as it is and with its header set
//! right.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use sidewall_policy::eval::{Flow, Reason, Verdict};
use sidewall_policy::model::{Direction, Protocol};
use sidewall_policy::snapshot::{MAGIC, Snapshot, TableRules, VERSION};
use xxhash_rust::xxh3::Xxh3Default;

/// Flows tried on each snapshot, and pods looked at.
const FLOWS: usize = 64;
const PODS: usize = 8;
const HEADER: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    try_all(bytes.to_vec());
    if bytes.len() >= HEADER {
        try_all(signed(bytes.to_vec()));
    }
});

fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as u32;
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[11] = 0;
    bytes[10] &= 3;
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let mut hash = Xxh3Default::new();
    hash.update(&bytes[..16]);
    hash.update(&bytes[HEADER..]);
    bytes[16..HEADER].copy_from_slice(&hash.digest().to_le_bytes());
    bytes
}

fn try_all(bytes: Vec<u8>) {
    let Ok(snapshot) = Snapshot::check(bytes) else {
        return;
    };
    let pods: Vec<_> = snapshot.pods().take(PODS).collect();
    let mut addresses: Vec<IpAddr> = ["203.0.113.9", "2001:db8::9", "127.0.0.1", "10.96.0.1"]
        .map(|text| text.parse().expect("an address"))
        .to_vec();
    for pod in &pods {
        addresses.extend(pod.addresses.iter().take(4));
        addresses.extend(pod.node_addresses.iter().take(2));
        for table in [pod.ingress, pod.egress] {
            addresses.extend(table.hosts().take(3).map(|(ip, _)| ip));
            addresses.extend(table.ranges().take(3).flat_map(|(a, b, _)| [a, b]));
            let _names: Vec<_> = table.policies().collect();
        }
    }
    let ends = || addresses.iter().copied();
    let flows = ends().flat_map(|source| ends().map(move |destination| (source, destination)));
    for ((source, destination), number) in flows.zip(0_usize..).take(FLOWS * 4) {
        let protocol = [6, 17, 132, 1][number % 4];
        let port = [80, 53, 0, 65535, 443][number % 5];
        judge(
            &snapshot,
            &Flow {
                source,
                destination,
                protocol,
                port,
            },
        );
    }
    for pod in &pods {
        for (peer, protocol) in ends().zip([6, 17, 132, 58].into_iter().cycle()).take(FLOWS) {
            for own in pod.addresses.iter().take(1) {
                let flow = Flow {
                    source: peer,
                    destination: *own,
                    protocol,
                    port: 8080,
                };
                shown_as_judged(&snapshot, &flow, pod.ingress);
            }
        }
    }
}

fn judge(snapshot: &Snapshot, flow: &Flow) {
    let decision = snapshot.judge(flow);
    assert_eq!(decision, snapshot.judge(flow), "judging twice differs");
    let told = snapshot.explain(flow, &decision);
    match decision.verdict {
        Verdict::Deny => assert_eq!(told.verdict, "deny"),
        Verdict::Allow => assert_ne!(told.verdict, "deny"),
    }
    for direction in [Direction::Ingress, Direction::Egress] {
        let side = snapshot.explain_side(flow, &decision, direction);
        assert_eq!(side.is_some(), decision.side(direction).is_some());
    }
    assert!(snapshot.allowed_by(&decision).count() <= 2);
}

/// A table read as data allows what it allows as judge.
fn shown_as_judged(snapshot: &Snapshot, flow: &Flow, table: TableRules<'_>) {
    let decision = snapshot.judge(flow);
    let Some(side) = decision.ingress else {
        return;
    };
    if !matches!(
        side.reason,
        Reason::NotIsolated | Reason::Rule(_) | Reason::NoRule
    ) {
        return;
    }
    let peer = flow.source.to_canonical();
    let host = table.hosts().find(|(ip, _)| *ip == peer);
    let range = || {
        table.ranges().find(|(first, last, _)| {
            first.is_ipv4() == peer.is_ipv4() && *first <= peer && peer <= *last
        })
    };
    let class = host
        .map(|(_, class)| class)
        .or_else(|| range().map(|(.., class)| class));
    let protocol = Protocol::from_number(flow.protocol);
    let allowed = table.class(class.unwrap_or_default()).iter().any(|ports| {
        ports.protocol == protocol
            && (protocol.is_none() || (ports.low..=ports.high).contains(&flow.port))
    });
    let allowed = allowed || !table.is_isolated();
    assert_eq!(allowed, side.verdict == Verdict::Allow, "{flow:?} {side:?}");
}
