//! Ending live connections through the kernel's own connection table.

#[path = "net_support/agent.rs"]
mod agent;
#[path = "net_conntrack/changes.rs"]
mod changes;
#[path = "net_conntrack/control_plane.rs"]
mod control_plane;
#[path = "net_conntrack/in_place.rs"]
mod in_place;
#[path = "net_support/kernel.rs"]
mod kernel;
#[path = "net_conntrack/proxies.rs"]
mod proxies;
#[path = "net_conntrack/revival.rs"]
mod revival;
#[path = "net_conntrack/silence.rs"]
mod silence;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kernel::{
    A, B, C, NODE, NODE_ADDRESSES, at, ip, nft, ping, revoke, scene, send_udp, topology, udp,
};
use serde_json::{Value, json};
use sidewall_host_tests::harness;
use sidewall_host_tests::net::{self, Netns, Service, ServicePort, Topology};
use sidewall_host_tests::probe::{Held, Protocol, Server};
use sidewall_host_tests::wasm_host::scene::{pods, tcp};
use sidewall_policy::compile::Options;

const OPEN: u16 = 8080;
const OTHER: u16 = 9090;
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a stopped connection is given to answer all the same.
const SILENCE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    harness::main(&[
        (
            "tcp_that_is_denied_now_stops_and_the_rest_goes_on",
            tcp_stops,
        ),
        ("udp_and_echo_entries_go_when_denied", udp_and_echo),
        ("a_service_is_judged_by_the_backend_it_chose", by_backend),
        ("the_nodes_own_connections_are_left_alone", own_connections),
        ("addresses_without_a_pod_are_closed", strangers),
        ("other_zones_are_left_alone", other_zones),
        ("closed_connections_go_without_a_record", closed),
        ("more_than_one_batch", many),
        ("nothing_to_do", nothing),
        (
            "a_table_changed_in_place_is_the_one_made_whole",
            in_place::as_made_whole,
        ),
        (
            "what_a_proxy_carries_is_left_to_it_first",
            proxies::come_first,
        ),
        (
            "a_sidecars_connection_to_the_distributor_stays_open",
            control_plane::stays_open,
        ),
        (
            "what_is_denied_falls_silent_and_may_speak_again",
            silence::falls_and_lifts,
        ),
        (
            "what_is_denied_is_silent_before_it_is_deleted",
            silence::comes_first,
        ),
        (
            "connections_are_judged_by_the_snapshot_that_is_the_newest",
            changes::meanwhile,
        ),
        (
            "a_change_does_not_wait_until_connections_are_judged",
            changes::do_not_wait,
        ),
        (
            "what_was_ended_stays_ended_though_the_server_goes_on",
            revival::never,
        ),
        (
            "an_answer_on_its_way_reopens_nothing",
            revival::not_by_answers_on_their_way,
        ),
    ])
}

/// The lab with the two rules that every node has: what is established passes, and TCP begins with
/// a SYN.
fn lab() -> Result<Topology> {
    let lab = topology()?;
    nft(
        lab.node(NODE)?,
        "table inet judged {
           chain pre {
             type filter hook prerouting priority dstnat + 5; policy accept;
             ct state established,related accept
             meta l4proto tcp ct state invalid,new tcp flags & (fin|syn|rst|ack) != syn drop
           }
         }",
    )?;
    Ok(lab)
}

/// The connections that the kernel knows, one a line, as an independent tool shows them.
fn table(node: &Netns) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let output = node
            .command("conntrack")
            .args(["-L", "-f", family])
            .output()?;
        ensure!(output.status.success(), "conntrack: {output:?}");
        let text = String::from_utf8(output.stdout)?;
        lines.extend(text.lines().map(str::to_owned));
    }
    Ok(lines)
}

fn count(node: &Netns, words: &[&str]) -> Result<usize> {
    let holds = |line: &String| words.iter().all(|word| line.split(' ').any(|w| w == *word));
    Ok(table(node)?.iter().filter(|line| holds(line)).count())
}

fn field<'a>(records: &'a [Value], name: &str) -> Vec<&'a str> {
    let mut values: Vec<_> = records
        .iter()
        .filter_map(|record| record[name].as_str())
        .collect();
    values.sort_unstable();
    values
}

fn tcp_stops() -> Result<()> {
    let lab = lab()?;
    let servers = [
        ("default/b", OPEN),
        ("default/b", OTHER),
        ("default/c", OPEN),
    ]
    .map(|(pod, port)| Server::start(lab.pod(pod)?, pod, Protocol::Tcp, port).map_err(Into::into))
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    let hold = |from: &str, to: &str, port| {
        Held::open(lab.pod(from)?, at(to, port), PATIENCE).map_err(anyhow::Error::from)
    };
    for family in [0, 1] {
        let mut allowed = [
            hold("default/a", B[family], OPEN)?,
            hold("default/b", C[family], OPEN)?,
        ];
        let mut denied = [
            hold("default/a", B[family], OTHER)?,
            hold("default/c", B[family], OPEN)?,
        ];
        let snapshot = scene()
            .policy(
                "default/b",
                "b",
                Some(vec![pods("a", tcp(OPEN, OPEN))]),
                None,
            )
            .snapshot(&["default/a", "default/b"]);
        let records = revoke(lab.node(NODE)?, &snapshot)?;

        for held in &mut allowed {
            held.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
        }
        for held in &mut denied {
            let answered = held.exchange(SILENCE);
            ensure!(answered.is_err(), "a denied connection answered");
        }
        ensure!(records.len() == 2, "{records:?}");
        let [other, open] = [OTHER, OPEN].map(|port| at(B[family], port).to_string());
        let of = |destination: &str| {
            let found = records.iter().find(|r| r["destination"] == destination);
            found.context("a record for each")
        };
        let mut record = of(&other)?.clone();
        let fields = record.as_object_mut().context("an object")?;
        let source = fields.remove("source").context("a source")?;
        ensure!(
            source.as_str().is_some_and(|s| s.contains(A[family])),
            "{source}"
        );
        fields.remove("revision").context("a revision")?;
        assert_eq!(
            record,
            json!({
                "verdict": "deny", "direction": "ingress", "pod": "default/b",
                "destination": other, "protocol": "TCP", "reason": "no-rule",
                "policies": ["default/b"], "cut": true,
                "nearest": {"rule": "default/b ingress[0]", "missed": "ports"},
            })
        );
        assert_eq!(of(&open)?["nearest"]["missed"], "from");
    }
    drop(servers);
    Ok(())
}

fn udp_and_echo() -> Result<()> {
    let lab = lab()?;
    let node = lab.node(NODE)?;
    for family in [0, 1] {
        send_udp(lab.pod("default/a")?, 5000, at(B[family], 53))?;
        send_udp(lab.pod("default/c")?, 5000, at(B[family], 53))?;
        ping(lab.pod("default/a")?, B[family])?;
        ping(lab.pod("default/b")?, C[family])?;
        let icmp = ["icmp", "icmpv6"][family];
        let [from_a, from_b, from_c] = [A, B, C].map(|pod| format!("src={}", ip(pod[family])));
        assert_eq!(count(node, &["udp", &from_a, "dport=53"])?, 1);
        assert_eq!(count(node, &["udp", &from_c, "dport=53"])?, 1);
        assert_eq!(count(node, &[icmp, &from_a])?, 1);
        // The reply's source is in the line, too: the pinged pod.
        assert_eq!(count(node, &[icmp, &from_b])?, 2);

        // A rule with ports is none for echo.
        let snapshot = scene()
            .policy("default/b", "b", Some(vec![pods("a", udp(53))]), None)
            .snapshot(&["default/a", "default/b"]);
        let records = revoke(node, &snapshot)?;
        assert_eq!(
            field(&records, "protocol"),
            [["ICMP", "ICMPv6"][family], "UDP"]
        );
        let mut sources = [A[family].to_owned(), at(C[family], 5000).to_string()];
        sources.sort_unstable();
        assert_eq!(field(&records, "source"), sources);

        assert_eq!(count(node, &["udp", &from_a, "dport=53"])?, 1);
        assert_eq!(count(node, &["udp", &from_c, "dport=53"])?, 0);
        assert_eq!(count(node, &[icmp, &from_a])?, 0);
        assert_eq!(count(node, &[icmp, &from_b])?, 1);
    }
    Ok(())
}

fn by_backend() -> Result<()> {
    const ADDRESSES: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
    let lab = lab()?;
    lab.set_services(&[Service {
        name: "default/b".to_owned(),
        addresses: ADDRESSES.map(ip).to_vec(),
        ports: vec![ServicePort {
            protocol: net::Protocol::Tcp,
            port: 80,
            node_port: Some(30_080),
            backends: B.map(|address| at(address, OPEN)).to_vec(),
        }],
    }])?;
    let _server = Server::start(lab.pod("default/b")?, "b", Protocol::Tcp, OPEN)?;
    for family in [0, 1] {
        let hold = |address: &str, port| {
            Held::open(lab.pod("default/a")?, at(address, port), PATIENCE)
                .map_err(anyhow::Error::from)
        };
        // By the Service, and by a port of the own node, which is no connection of the node's.
        let mut held = [
            hold(ADDRESSES[family], 80)?,
            hold(NODE_ADDRESSES[family], 30_080)?,
        ];
        let subjects = ["default/a", "default/b"];
        let allowing = |port| {
            let rules = Some(vec![pods("a", tcp(port, port))]);
            scene()
                .policy("default/b", "b", rules, None)
                .snapshot(&subjects)
        };
        let records = revoke(lab.node(NODE)?, &allowing(OPEN))?;
        ensure!(records.is_empty(), "{records:?}");
        for held in &mut held {
            held.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
        }
        let records = revoke(lab.node(NODE)?, &allowing(80))?;
        assert_eq!(
            field(&records, "destination"),
            [
                at(B[family], OPEN).to_string(),
                at(B[family], OPEN).to_string()
            ]
        );
        for held in &mut held {
            ensure!(
                held.exchange(SILENCE).is_err(),
                "a denied connection answered"
            );
        }
    }
    Ok(())
}

fn own_connections() -> Result<()> {
    let lab = lab()?;
    let node = lab.node(NODE)?;
    let pod = lab.pod("default/b")?;
    let _pod = Server::start(pod, "b", Protocol::Tcp, OPEN)?;
    let _node = Server::start(node, "node", Protocol::Tcp, OPEN)?;
    let enforcing = Options {
        enforce_own_node_egress: true,
        ..Options::default()
    };
    let closed = scene()
        .policy("default/b", "b", Some(Vec::new()), Some(Vec::new()))
        .snapshot_with(&["default/a", "default/b"], &enforcing);
    for family in [0, 1] {
        let mut held = [
            Held::open(node, at(B[family], OPEN), PATIENCE)?,
            Held::open(pod, at(NODE_ADDRESSES[family], OPEN), PATIENCE)?,
        ];
        let records = revoke(node, &closed)?;
        ensure!(records.is_empty(), "{records:?}");
        for held in &mut held {
            held.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
        }
    }
    Ok(())
}

fn strangers() -> Result<()> {
    let lab = lab()?;
    let node = lab.node(NODE)?;
    for family in [0, 1] {
        send_udp(lab.pod("default/a")?, 5000, at(B[family], 53))?;
        send_udp(lab.pod("default/a")?, 5000, at(C[family], 53))?;
        send_udp(lab.pod("default/c")?, 5000, at(B[family], 54))?;
    }
    // Nothing isolates a, and b has not arrived yet.
    let records = revoke(node, &scene().snapshot(&["default/a"]))?;
    assert_eq!(field(&records, "reason"), ["unknown-address"; 4]);
    for family in [0, 1] {
        let [to_b, to_c] = [B, C].map(|pod| format!("dst={}", ip(pod[family])));
        assert_eq!(count(node, &["udp", &to_b])?, 0);
        assert_eq!(count(node, &["udp", &to_c, "dport=53"])?, 1);
    }
    Ok(())
}

fn other_zones() -> Result<()> {
    let lab = lab()?;
    let node = lab.node(NODE)?;
    nft(
        node,
        "table inet zones {
           chain pre {
             type filter hook prerouting priority raw; policy accept;
             udp dport 53 ct zone set 1
           }
         }",
    )?;
    send_udp(lab.pod("default/a")?, 5000, at(B[0], 53))?;
    send_udp(lab.pod("default/a")?, 5000, at(B[0], 54))?;
    assert_eq!(
        count(node, &["dport=53", "zone=1"])?,
        1,
        "{:?}",
        table(node)?
    );
    let closed = scene()
        .policy("default/b", "b", Some(Vec::new()), None)
        .snapshot(&["default/a", "default/b"]);
    let records = revoke(node, &closed)?;
    assert_eq!(field(&records, "destination"), [at(B[0], 54).to_string()]);
    assert_eq!(count(node, &["dport=53", "zone=1"])?, 1);
    assert_eq!(count(node, &["dport=54"])?, 0);
    Ok(())
}

fn closed() -> Result<()> {
    let lab = lab()?;
    let node = lab.node(NODE)?;
    let _server = Server::start(lab.pod("default/b")?, "b", Protocol::Tcp, OPEN)?;
    let mut held = Held::open(lab.pod("default/a")?, at(B[0], OPEN), PATIENCE)?;
    held.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    while count(node, &["tcp", "TIME_WAIT"])? == 0 {
        ensure!(deadline > Instant::now(), "{:?}", table(node)?);
        std::thread::sleep(Duration::from_millis(20));
    }
    let closed = scene()
        .policy("default/b", "b", Some(Vec::new()), None)
        .snapshot(&["default/a", "default/b"]);
    let records = revoke(node, &closed)?;
    ensure!(records.is_empty(), "{records:?}");
    assert_eq!(count(node, &["tcp"])?, 0);
    Ok(())
}

fn many() -> Result<()> {
    const FLOWS: u16 = 300;
    let lab = lab()?;
    let node = lab.node(NODE)?;
    for port in 0..FLOWS {
        send_udp(lab.pod("default/a")?, 5000, at(B[1], 10_000 + port))?;
    }
    send_udp(lab.pod("default/a")?, 5000, at(C[1], 53))?;
    let closed = scene()
        .policy("default/b", "b", Some(Vec::new()), None)
        .snapshot(&["default/a", "default/b"]);
    let records = revoke(node, &closed)?;
    assert_eq!(records.len(), usize::from(FLOWS));
    assert_eq!(count(node, &["udp"])?, 1);
    Ok(())
}

fn nothing() -> Result<()> {
    let lab = lab()?;
    let open = scene().snapshot(&["default/a", "default/b"]);
    let records = revoke(lab.node(NODE)?, &open)?;
    ensure!(records.is_empty(), "an empty table: {records:?}");
    send_udp(lab.pod("default/a")?, 5000, at(B[0], 53))?;
    let records = revoke(lab.node(NODE)?, &open)?;
    ensure!(records.is_empty(), "all is allowed: {records:?}");
    assert_eq!(count(lab.node(NODE)?, &["udp"])?, 1);
    Ok(())
}
