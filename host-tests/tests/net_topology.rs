//! The lab's network: who reaches whom, with which source address, while it changes.

#[path = "net_support/talk.rs"]
mod talk;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::net::{
    CONTROL_V4, CONTROL_V6, Error, External, Netns, Node, Plan, Pod, Protocol, Service,
    ServicePort, Topology,
};
use talk::{Answer, ask_tcp, ask_udp, serve};

const PORT: u16 = 8080;

fn main() -> ExitCode {
    harness::main(&[
        (
            "pods_reach_each_other_with_their_own_addresses",
            pods_reach_each_other,
        ),
        ("nodes_and_pods_speak_with_the_node_address", nodes_and_pods),
        (
            "external_hosts_and_control_are_reachable_both_ways",
            external_hosts,
        ),
        ("a_service_picks_among_its_backends", a_service_picks),
        (
            "a_pod_reaches_itself_through_its_service_as_its_node",
            hairpin,
        ),
        ("a_node_port_answers_on_every_node", node_port),
        ("services_can_be_replaced", services_can_be_replaced),
        ("pods_come_and_go", pods_come_and_go),
        ("a_pod_of_one_family_knows_no_other", one_family),
        ("labs_with_the_same_addresses_are_apart", labs_are_apart),
        ("collisions_are_refused_by_name", collisions),
        ("a_lab_comes_up_quickly", quickly),
    ])
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

fn answer(server: &str, client: &str) -> Answer {
    Answer {
        server: server.to_owned(),
        client: client.parse().expect("an address"),
    }
}

fn plan() -> Plan {
    Plan {
        nodes: vec![
            Node::new("node-1", addresses(&["192.168.50.1", "fd50::1"])),
            Node::new("node-2", addresses(&["192.168.50.2", "fd50::2"])),
        ],
        pods: vec![
            Pod::new(
                "default/a",
                "node-1",
                addresses(&["10.244.1.11", "fd00:244:1::11"]),
            ),
            Pod::new(
                "default/b",
                "node-1",
                addresses(&["10.244.1.12", "fd00:244:1::12"]),
            ),
            Pod::new(
                "default/c",
                "node-2",
                addresses(&["10.244.2.11", "fd00:244:2::11"]),
            ),
        ],
        externals: vec![
            External::new("office", addresses(&["172.17.0.5", "2001:db8::5"])),
            External::new("db", addresses(&["10.0.0.7"])),
        ],
        ..Plan::default()
    }
}

/// The plan with a server on every host, named after its pod or host.
fn lab() -> Result<Topology> {
    let lab = Topology::build(&plan())?;
    serve(lab.pod("default/a")?, "a", PORT)?;
    serve(lab.pod("default/b")?, "b", PORT)?;
    serve(lab.pod("default/c")?, "c", PORT)?;
    serve(lab.node("node-1")?, "node-1", PORT)?;
    serve(lab.node("node-2")?, "node-2", PORT)?;
    serve(lab.external("office")?, "office", PORT)?;
    serve(lab.external("db")?, "db", PORT)?;
    serve(lab.control(), "control", PORT)?;
    Ok(lab)
}

/// Asks over TCP and UDP; both must agree with what is expected.
fn check(from: &Netns, to: &str, expected: &Answer) -> Result<()> {
    for (protocol, got) in [
        ("tcp", ask_tcp(from, at(to, PORT))?),
        ("udp", ask_udp(from, at(to, PORT))?),
    ] {
        ensure!(
            got == *expected,
            "{protocol} from {} to {to}: {got:?}, not {expected:?}",
            from.name()
        );
    }
    Ok(())
}

fn pods_reach_each_other() -> Result<()> {
    let lab = lab()?;
    let (a, c) = (lab.pod("default/a")?, lab.pod("default/c")?);
    check(a, "10.244.1.12", &answer("b", "10.244.1.11"))?;
    check(a, "fd00:244:1::12", &answer("b", "fd00:244:1::11"))?;
    check(a, "10.244.2.11", &answer("c", "10.244.1.11"))?;
    check(a, "fd00:244:2::11", &answer("c", "fd00:244:1::11"))?;
    check(c, "10.244.1.12", &answer("b", "10.244.2.11"))?;
    check(c, "fd00:244:1::12", &answer("b", "fd00:244:2::11"))?;
    check(a, "10.244.1.11", &answer("a", "10.244.1.11"))?;
    check(a, "fd00:244:1::11", &answer("a", "fd00:244:1::11"))
}

fn nodes_and_pods() -> Result<()> {
    let lab = lab()?;
    let (node, a, c) = (
        lab.node("node-1")?,
        lab.pod("default/a")?,
        lab.pod("default/c")?,
    );
    check(node, "10.244.1.11", &answer("a", "192.168.50.1"))?;
    check(node, "fd00:244:1::11", &answer("a", "fd50::1"))?;
    check(node, "10.244.2.11", &answer("c", "192.168.50.1"))?;
    check(node, "fd00:244:2::11", &answer("c", "fd50::1"))?;
    check(node, "192.168.50.2", &answer("node-2", "192.168.50.1"))?;
    check(node, "fd50::2", &answer("node-2", "fd50::1"))?;
    check(a, "192.168.50.1", &answer("node-1", "10.244.1.11"))?;
    check(a, "fd50::1", &answer("node-1", "fd00:244:1::11"))?;
    check(c, "192.168.50.1", &answer("node-1", "10.244.2.11"))
}

fn external_hosts() -> Result<()> {
    let lab = lab()?;
    let (a, office) = (lab.pod("default/a")?, lab.external("office")?);
    check(a, "172.17.0.5", &answer("office", "10.244.1.11"))?;
    check(a, "2001:db8::5", &answer("office", "fd00:244:1::11"))?;
    check(a, "10.0.0.7", &answer("db", "10.244.1.11"))?;
    check(office, "10.244.2.11", &answer("c", "172.17.0.5"))?;
    check(office, "fd00:244:2::11", &answer("c", "2001:db8::5"))?;
    check(office, "10.0.0.7", &answer("db", "172.17.0.5"))?;
    check(
        a,
        &CONTROL_V4.to_string(),
        &answer("control", "10.244.1.11"),
    )?;
    check(
        a,
        &CONTROL_V6.to_string(),
        &answer("control", "fd00:244:1::11"),
    )?;
    check(
        lab.node("node-2")?,
        &CONTROL_V4.to_string(),
        &answer("control", "192.168.50.2"),
    )?;
    check(
        lab.control(),
        "10.244.1.11",
        &answer("a", &CONTROL_V4.to_string()),
    )
}

fn service(protocol: Protocol, node_port: Option<u16>, backends: &[&str]) -> Service {
    Service {
        name: "default/web".to_owned(),
        addresses: addresses(&["10.96.0.10", "fd00:96::10"]),
        ports: vec![ServicePort {
            protocol,
            port: 80,
            node_port,
            backends: backends.iter().map(|backend| at(backend, PORT)).collect(),
        }],
    }
}

const ALL: [&str; 4] = [
    "10.244.1.12",
    "10.244.2.11",
    "fd00:244:1::12",
    "fd00:244:2::11",
];

/// Who answers in twenty-four attempts, sorted. That one of two stays silent by chance happens
/// once in eight million runs.
fn who_answers(ask: impl Fn() -> Result<Answer>) -> Result<Vec<(String, IpAddr)>> {
    let answers: Result<std::collections::BTreeSet<_>> = (0..24)
        .map(|_| ask().map(|answer| (answer.server, answer.client)))
        .collect();
    Ok(answers?.into_iter().collect())
}

fn a_service_picks() -> Result<()> {
    let lab = lab()?;
    lab.set_services(&[
        service(Protocol::Tcp, None, &ALL),
        service(Protocol::Udp, None, &ALL),
    ])?;
    for (from, v4, v6) in [
        (lab.pod("default/a")?, "10.244.1.11", "fd00:244:1::11"),
        (lab.node("node-1")?, "192.168.50.1", "fd50::1"),
    ] {
        for (to, client) in [("10.96.0.10", v4), ("fd00:96::10", v6)] {
            let client: IpAddr = client.parse()?;
            let expected = [("b".to_owned(), client), ("c".to_owned(), client)];
            let got = who_answers(|| ask_tcp(from, at(to, 80)))?;
            ensure!(got == expected, "tcp from {} to {to}: {got:?}", from.name());
            let got = who_answers(|| ask_udp(from, at(to, 80)))?;
            ensure!(got == expected, "udp from {} to {to}: {got:?}", from.name());
        }
    }
    ensure!(
        ask_tcp(lab.pod("default/a")?, at("10.96.0.10", 81)).is_err(),
        "only the Service's port is translated"
    );
    Ok(())
}

fn hairpin() -> Result<()> {
    let lab = lab()?;
    lab.set_services(&[service(
        Protocol::Tcp,
        None,
        &["10.244.1.11", "fd00:244:1::11"],
    )])?;
    let a = lab.pod("default/a")?;
    for (to, expected) in [
        ("10.96.0.10", answer("a", "192.168.50.1")),
        ("fd00:96::10", answer("a", "fd50::1")),
    ] {
        let got = ask_tcp(a, at(to, 80))?;
        ensure!(got == expected, "{to}: {got:?}");
    }
    Ok(())
}

fn node_port() -> Result<()> {
    let lab = lab()?;
    lab.set_services(&[service(
        Protocol::Tcp,
        Some(30_080),
        &["10.244.2.11", "fd00:244:2::11"],
    )])?;
    let office = lab.external("office")?;
    // Each node masquerades what it passes on.
    for (to, client) in [
        ("192.168.50.1", "192.168.50.1"),
        ("192.168.50.2", "192.168.50.2"),
        ("fd50::1", "fd50::1"),
        ("fd50::2", "fd50::2"),
    ] {
        let got = ask_tcp(office, at(to, 30_080))?;
        ensure!(got == answer("c", client), "{to}: {got:?}");
    }
    Ok(())
}

fn services_can_be_replaced() -> Result<()> {
    let lab = lab()?;
    let a = lab.pod("default/a")?;
    lab.set_services(&[service(Protocol::Tcp, None, &["10.244.1.12"])])?;
    ensure!(ask_tcp(a, at("10.96.0.10", 80))?.server == "b");
    lab.set_services(&[service(Protocol::Tcp, None, &["10.244.2.11"])])?;
    ensure!(ask_tcp(a, at("10.96.0.10", 80))?.server == "c");
    for gone in [vec![service(Protocol::Tcp, None, &[])], Vec::new()] {
        lab.set_services(&gone)?;
        let started = Instant::now();
        ensure!(
            ask_tcp(a, at("10.96.0.10", 80)).is_err(),
            "a Service without backends answers"
        );
        ensure!(
            started.elapsed() < Duration::from_secs(1),
            "it should be refused, not time out"
        );
    }
    Ok(())
}

fn pods_come_and_go() -> Result<()> {
    let mut lab = lab()?;
    let a = lab.pod("default/a")?.clone();
    for node in ["node-1", "node-2", "node-1"] {
        let pod = Pod::new(
            "default/guest",
            node,
            addresses(&["10.244.9.9", "fd00:244:9::9"]),
        );
        let guest = lab.add_pod(&pod)?;
        serve(guest, "guest", PORT)?;
        check(guest, "10.244.1.12", &answer("b", "10.244.9.9"))?;
        check(&a, "10.244.9.9", &answer("guest", "10.244.1.11"))?;
        check(&a, "fd00:244:9::9", &answer("guest", "fd00:244:1::11"))?;
        lab.remove_pod("default/guest")?;
        ensure!(
            ask_tcp(&a, at("10.244.9.9", PORT)).is_err(),
            "a removed pod answers"
        );
        ensure!(
            matches!(lab.pod("default/guest"), Err(Error::Unknown { .. })),
            "a removed pod is listed"
        );
    }
    let later = lab.add_external(&External::new("later", addresses(&["203.0.113.9"])))?;
    check(later, "10.244.1.11", &answer("a", "203.0.113.9"))
}

fn one_family() -> Result<()> {
    let mut lab = lab()?;
    lab.add_pod(&Pod::new(
        "default/four",
        "node-2",
        addresses(&["10.244.2.44"]),
    ))?;
    lab.add_pod(&Pod::new(
        "default/six",
        "node-2",
        addresses(&["fd00:244:2::66"]),
    ))?;
    let (four, six) = (lab.pod("default/four")?, lab.pod("default/six")?);
    check(four, "10.244.1.11", &answer("a", "10.244.2.44"))?;
    check(six, "fd00:244:1::11", &answer("a", "fd00:244:2::66"))?;
    ensure!(
        ask_tcp(four, at("fd00:244:1::11", PORT)).is_err(),
        "IPv6 without an address"
    );
    ensure!(
        ask_tcp(six, at("10.244.1.11", PORT)).is_err(),
        "IPv4 without an address"
    );
    Ok(())
}

fn labs_are_apart() -> Result<()> {
    let (one, other) = (Topology::build(&plan())?, Topology::build(&plan())?);
    serve(one.pod("default/c")?, "c", PORT)?;
    check(
        one.pod("default/a")?,
        "10.244.2.11",
        &answer("c", "10.244.1.11"),
    )?;
    ensure!(
        ask_tcp(other.pod("default/a")?, at("10.244.2.11", PORT)).is_err(),
        "a server of another lab answers"
    );
    Ok(())
}

fn collisions() -> Result<()> {
    let mut lab = Topology::build(&plan())?;
    let mut refused = |pod: Pod, expected: &str| {
        let error = lab
            .add_pod(&pod)
            .map(|_| ())
            .expect_err("must be refused")
            .to_string();
        ensure!(error.contains(expected), "{error}");
        Ok(())
    };
    refused(
        Pod::new("default/x", "node-1", addresses(&["172.17.0.5"])),
        "pod default/x: address 172.17.0.5 is taken by external host office",
    )?;
    refused(
        Pod::new("default/a", "node-1", addresses(&["10.244.1.99"])),
        "pod default/a exists already",
    )?;
    refused(
        Pod::new("default/x", "node-9", addresses(&["10.244.1.99"])),
        "no node node-9",
    )?;
    refused(
        Pod::new("default/x", "node-1", []),
        "pod default/x has no address",
    )
}

/// Two nodes and twelve pods are the demo's size. It takes a fraction of a second; the limit is
/// for a busy machine.
fn quickly() -> Result<()> {
    let mut plan = plan();
    for index in 20..29 {
        let node = if index % 2 == 0 { "node-1" } else { "node-2" };
        let both = [format!("10.244.3.{index}"), format!("fd00:244:3::{index}")];
        plan.pods.push(Pod::new(
            format!("default/p{index}"),
            node,
            addresses(&both.each_ref().map(String::as_str)),
        ));
    }
    let started = Instant::now();
    let lab = Topology::build(&plan)?;
    let took = started.elapsed();
    drop(lab);
    ensure!(
        plan.pods.len() == 12 && took < Duration::from_secs(10),
        "{} pods took {took:?}",
        plan.pods.len()
    );
    Ok(())
}
