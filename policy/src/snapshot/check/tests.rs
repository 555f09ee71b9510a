//! Every way in which bytes with a good hash can still be no snapshot, each refused by its name.

mod contents;

use std::net::IpAddr;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::compile::{Options, compile_snapshot};
use crate::model::{
    Backend, Cluster, IpBlock, Labels, Mode, NamespaceScope, NamespacedName, NetworkPolicy, Node,
    Peer, Peers, Phase, Pod, PodPeer, PortMatch, PortRange, Ports, Protocol, Rule, Selector,
    Service, ServicePort,
};
use crate::snapshot::layout::{Header, Section};
use crate::snapshot::view::{BODY, SECTIONS, hash};
use crate::snapshot::{Snapshot, SnapshotError};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Two pods of both families on one node, a service in front of them, policies in force and observed
/// in both directions: no section of its snapshot is empty.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, v4, v6) in [("a", "10.0.0.1", "fd00::1"), ("b", "10.0.0.2", "fd00::2")] {
        let pod = Pod {
            id: NamespacedName::new("shop", name),
            labels: Labels::from_iter([("app", name)]),
            node: Some("n1".into()),
            ips: vec![ip(v4), ip(v6)],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            tcp_path: None,
            ports: Vec::new(),
        };
        cluster.pods.insert(pod.id.clone(), pod);
    }
    let node = Node {
        name: "n1".into(),
        addresses: vec![ip("192.168.0.1"), ip("fd01::1")],
    };
    cluster.nodes.insert(node.name.clone(), node);
    let backends = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"].map(|address| Backend {
        ip: ip(address),
        port: 8080,
    });
    let port = |port, node_port| ServicePort {
        protocol: Protocol::Tcp,
        port,
        node_port,
        backends: backends.to_vec(),
    };
    let service = Service {
        id: NamespacedName::new("shop", "front"),
        cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")],
        external_ips: Vec::new(),
        ports: vec![port(80, Some(30080)), port(443, Some(30443))],
    };
    cluster.services.insert(service.id.clone(), service);
    let block = |cidr: &str| {
        Peer::Block(IpBlock {
            cidr: cidr.parse().expect("a network"),
            except: Vec::new(),
        })
    };
    let everybody = Peer::Pods(PodPeer {
        namespaces: NamespaceScope::Own,
        pods: Selector::everything(),
    });
    let port = |protocol, low, high| PortMatch {
        protocol,
        port: PortRange::Numbers { low, high },
    };
    let rules = vec![Rule {
        index: 0,
        peers: Peers::Of(vec![
            everybody,
            block("172.16.0.0/12"),
            block("2001:db8::/32"),
        ]),
        ports: Ports::Of(vec![
            port(Protocol::Tcp, 80, 90),
            port(Protocol::Tcp, 8000, 9000),
            port(Protocol::Udp, 53, 53),
        ]),
    }];
    for (name, mode) in [("enforced", Mode::Enforce), ("observed", Mode::Audit)] {
        let policy = NetworkPolicy {
            id: NamespacedName::new("shop", name),
            pod_selector: Selector::everything(),
            ingress: Some(rules.clone()),
            egress: Some(rules.clone()),
            mode,
        };
        cluster.policies.insert(policy.id.clone(), policy);
    }
    cluster
}

fn good() -> Vec<u8> {
    let cluster = cluster();
    let ids: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
    let bytes = compile_snapshot(&cluster, &ids, &Options::default());
    Snapshot::check(bytes.clone()).expect("what the compiler writes is good");
    bytes
}

/// Whoever can write a snapshot can hash it.
fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = U64::new(hash(&bytes));
    bytes[16..size_of::<Header>()].copy_from_slice(hash.as_bytes());
    bytes
}

fn section_table(bytes: &mut [u8]) -> &mut [Section] {
    <[Section]>::mut_from_bytes(&mut bytes[size_of::<Header>()..BODY]).expect("whole records")
}

/// The good snapshot with the records of one section changed.
fn with<T>(section: &str, change: impl Fn(&mut [T])) -> Vec<u8>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    let mut bytes = good();
    let place = SECTIONS.iter().position(|name| *name == section);
    let place = section_table(&mut bytes)[place.expect("a section")];
    let (start, length) = (place.offset.get() as usize, place.length.get() as usize);
    let records = <[T]>::mut_from_bytes(&mut bytes[start..start + length]).expect("records");
    assert!(!records.is_empty(), "{section} is empty");
    change(records);
    signed(bytes)
}

#[track_caller]
fn refused(bytes: Vec<u8>, section: &'static str, reason: &'static str) {
    let wanted = SnapshotError::Section { section, reason };
    assert_eq!(Snapshot::check(bytes).err(), Some(wanted));
}

#[test]
fn sections_lie_one_behind_the_other_and_fill_the_snapshot() {
    let sections = |change: &dyn Fn(&mut [Section])| {
        let mut bytes = good();
        change(section_table(&mut bytes));
        signed(bytes)
    };
    let longer = |section: &mut Section, by: u32| {
        section.length = section.length.get().wrapping_add(by).into();
    };
    refused(
        sections(&|s| s[0].offset = 0.into()),
        "subjects_v4",
        "it does not begin where the one before it ends",
    );
    refused(
        sections(&|s| longer(&mut s[0], 8)),
        "subjects_v6",
        "it does not begin where the one before it ends",
    );
    refused(
        sections(&|s| longer(&mut s[0], 1)),
        "subjects_v4",
        "its length is not a multiple of its record",
    );
    refused(
        sections(&|s| s[0].length = u32::MAX.into()),
        "subjects_v4",
        "it ends behind the snapshot",
    );
    refused(
        sections(&|s| longer(&mut s[SECTIONS.len()], u32::MAX)),
        "text",
        "bytes follow the last section",
    );
    let mut garbled = good();
    *garbled.last_mut().expect("a last byte") = 0xff;
    refused(signed(garbled), "text", "it is not UTF-8");
}

#[test]
fn the_header_is_read_first() {
    let changed = |at: usize, to: u8| {
        let mut bytes = good();
        bytes[at] = to;
        Snapshot::check(signed(bytes)).err()
    };
    assert_eq!(changed(0, b'X'), Some(SnapshotError::Magic));
    assert_eq!(changed(8, 2), Some(SnapshotError::Version(2)));
    assert_eq!(changed(10, 0b100), Some(SnapshotError::Flags(4)));
    assert_eq!(changed(11, 0x80), Some(SnapshotError::Flags(0x8000)));
    let mut longer = good();
    longer.push(0);
    let length = longer.len();
    assert_eq!(
        Snapshot::check(signed(longer)).err(),
        Some(SnapshotError::Length {
            header: length as u32 - 1,
            found: length
        })
    );
    // A header that is all there is, and says so.
    let mut header = good();
    header.truncate(size_of::<Header>());
    header[12..16].copy_from_slice(U32::new(24).as_bytes());
    assert_eq!(
        Snapshot::check(header.clone()).err(),
        Some(SnapshotError::TooShort(24))
    );
    header.truncate(23);
    assert_eq!(
        Snapshot::check(header).err(),
        Some(SnapshotError::TooShort(23))
    );
}

#[test]
fn what_is_too_long_is_not_even_looked_at() {
    let limit = crate::snapshot::MAX_LENGTH;
    assert_eq!(
        Snapshot::check(vec![0; limit + 1]).err(),
        Some(SnapshotError::TooLong(limit + 1))
    );
    assert_eq!(
        Snapshot::check(vec![0; limit]).err(),
        Some(SnapshotError::Magic)
    );
}

#[test]
fn a_snapshot_tells_its_pods_and_its_revision() {
    let bytes = good();
    let snapshot = Snapshot::check(bytes.clone()).expect("it is good");
    let names: Vec<String> = snapshot
        .subjects()
        .map(|pod| format!("{}/{}", pod.namespace, pod.name))
        .collect();
    assert_eq!(names, ["shop/a", "shop/b"]);
    assert_eq!(snapshot.bytes(), bytes);
    assert_eq!(
        format!("{snapshot:?}"),
        format!(
            "Snapshot {{ revision: {:?}, bytes: {} }}",
            snapshot.revision(),
            bytes.len()
        )
    );
    assert_eq!(snapshot.revision().0, hash(&bytes));
    assert_eq!(
        snapshot.revision().to_string(),
        format!("{:016x}", hash(&bytes))
    );
}
