//! Two nodes with real kernels' rules and connection tables, and what is sent through them.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use serde_json::Value;
use sidewall_distributor::node::conntrack::{self, Docket, Graces};
use sidewall_distributor::node::resets::Resets;
use sidewall_distributor::node::ruleset::{DeniedTcp, Settings};
use sidewall_host_tests::net::{Netns, Node, Plan, Pod, Topology};
use sidewall_host_tests::wasm_host::scene::Scene;
use sidewall_policy::model::{PortMatch, PortRange, Ports, Protocol};
use sidewall_policy::record;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;

/// The two families of each pod.
pub const A: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
pub const B: [&str; 2] = ["10.244.1.12", "fd00:244:1::12"];
pub const C: [&str; 2] = ["10.244.2.11", "fd00:244:2::11"];

/// The node that is looked at.
pub const NODE: &str = "node-1";
pub const NODE_ADDRESSES: [&str; 2] = ["192.168.50.1", "fd50::1"];

/// Pods a and b on node-1, c on node-2.
pub fn topology() -> Result<Topology> {
    let ips = |texts: [&str; 2]| texts.map(ip);
    Ok(Topology::build(&Plan {
        nodes: vec![
            Node::new(NODE, ips(NODE_ADDRESSES)),
            Node::new("node-2", ips(["192.168.50.2", "fd50::2"])),
        ],
        pods: vec![
            Pod::new("default/a", NODE, ips(A)),
            Pod::new("default/b", NODE, ips(B)),
            Pod::new("default/c", "node-2", ips(C)),
        ],
        ..Plan::default()
    })?)
}

/// The same cluster for the compiler; every pod is labelled by its name. The node has no Node
/// object, so that nothing is exempt by it.
pub fn scene() -> Scene {
    Scene::default()
        .pod("default/a", "a", NODE, &A)
        .pod("default/b", "b", NODE, &B)
        .pod("default/c", "c", "node-2", &C)
}

/// The pod ranges of node-1.
pub fn pod_cidrs() -> [IpNet; 2] {
    ["10.244.1.0/24", "fd00:244:1::/64"].map(|text| text.parse().expect("a CIDR"))
}

/// What the agent of node-1 would be told.
pub fn settings() -> Settings {
    Settings {
        pod_cidrs: pod_cidrs().into(),
        cluster_cidrs: pod_cidrs().into(),
        control_planes: Vec::new(),
        denied_tcp: DeniedTcp::Drop,
        proxy_port: Some(15_100),
        nflog_group: 4747,
    }
}

/// One UDP port.
pub fn udp(port: u16) -> Ports {
    Ports::Of(vec![PortMatch {
        protocol: Protocol::Udp,
        port: PortRange::Numbers {
            low: port,
            high: port,
        },
    }])
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// Loads rules into a namespace.
pub fn nft(netns: &Netns, rules: &str) -> Result<()> {
    let mut nft = netns.command("nft");
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(rules.as_bytes())?;
    drop(stdin);
    ensure!(child.wait()?.success(), "nft refused:\n{rules}");
    Ok(())
}

/// The fields of a decision record.
pub fn fields(record: &record::Record) -> Result<Value> {
    let line = record.line();
    let json = line.strip_prefix(record::PREFIX).context("the prefix")?;
    Ok(serde_json::from_str(json)?)
}

/// Runs asynchronous work in a namespace: its sockets belong there.
pub fn within<T: Send>(netns: &Netns, work: impl Future<Output = T> + Send) -> Result<T> {
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(work))
    })?
}

/// Sends a datagram from a port, without waiting for anything.
pub fn send_udp(from: &Netns, source_port: u16, to: SocketAddr) -> Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let sent = from.run(|| bind(at(any, source_port))?.send_to(b"who?", to));
    sent?.with_context(|| format!("udp from {} to {to}", from.name()))?;
    Ok(())
}

/// Binds a port that may have been closed just now: a program that another thread is starting
/// holds its sockets until it really starts.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    for _ in 0..100 {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
    UdpSocket::bind(address)
}

/// Sends an ICMP or ICMPv6 echo request.
pub fn ping(from: &Netns, to: &str) -> Result<()> {
    match ip(to) {
        IpAddr::V4(_) => {
            let mut request = [8, 0, 0, 0, 0, 7, 0, 1];
            let sum = request
                .chunks(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .sum::<u16>();
            request[2..4].copy_from_slice(&(!sum).to_be_bytes());
            send_raw(from, to, SockProtocol::Icmp, &request)
        }
        // The kernel fills in the checksum.
        IpAddr::V6(_) => send_raw(from, to, SockProtocol::IcmpV6, &[128, 0, 0, 0, 0, 7, 0, 1]),
    }
}

/// Sends the head of an SCTP packet, as a router looks at it.
pub fn sctp(from: &Netns, to: &str, source_port: u16, port: u16) -> Result<()> {
    let [ports, rest] = [[source_port, port], [0, 0]].map(|pair| pair.map(u16::to_be_bytes));
    let head = [ports, rest, rest].as_flattened().as_flattened().to_vec();
    send_raw(from, to, SockProtocol::Sctp, &head)
}

fn send_raw(from: &Netns, to: &str, protocol: SockProtocol, bytes: &[u8]) -> Result<()> {
    let family = if ip(to).is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    from.run(|| {
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        let to = SockaddrStorage::from(at(to, 0));
        sendto(socket.as_raw_fd(), bytes, &to, MsgFlags::empty())?;
        Ok(())
    })?
}

/// The error of the node's work with all its causes.
pub fn chain(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

/// Nothing is deleted by this one.
pub fn patient() -> Docket {
    let long = Duration::from_secs(3600);
    Docket::new(Graces {
        proxied: long,
        silenced: long,
    })
}

/// Deletes what is denied at once, as if it had been for long enough.
pub fn impatient() -> Docket {
    Docket::new(Graces {
        proxied: Duration::ZERO,
        silenced: Duration::ZERO,
    })
}

/// Ends connections in the namespace of a node.
pub fn revoke(node: &Netns, snapshot: &[u8]) -> Result<Vec<Value>> {
    revoke_by(node, snapshot, &settings(), &mut impatient())
}

/// Silences connections.
pub fn silence(node: &Netns, snapshot: &[u8]) -> Result<Vec<Value>> {
    revoke_by(node, snapshot, &settings(), &mut patient())
}

pub fn revoke_by(
    node: &Netns,
    snapshot: &[u8],
    settings: &Settings,
    docket: &mut Docket,
) -> Result<Vec<Value>> {
    let (_, snapshots) = watch::channel(Some(checked(snapshot)?));
    let mut records = Vec::new();
    let report = |record: &record::Record| records.push(fields(record));
    within(node, async {
        conntrack::revoke(&snapshots, settings, docket, &Resets::open(), report).await
    })??;
    records.into_iter().collect()
}

pub fn checked(snapshot: &[u8]) -> Result<Arc<Snapshot>> {
    Ok(Arc::new(Snapshot::check(snapshot.to_vec())?))
}
