//! Probes made by hand, through real namespaces, connection tracking and Service translation.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::net::{self, Netns, Node, Plan, Pod, Service, ServicePort, Topology};
use sidewall_host_tests::probe::{Held, Protocol, Server, attempt};

const PATIENCE: Duration = Duration::from_secs(3);
const MOMENT: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    harness::main(&[
        ("sctp_is_answered_by_the_server_of_its_port", sctp),
        ("sctp_reaches_the_backend_of_a_service", sctp_service),
        ("sctp_that_is_dropped_is_not_answered", sctp_dropped),
        ("echo_requests_are_answered_by_their_address", echo),
        (
            "a_held_udp_connection_is_silent_while_it_is_dropped",
            held_udp,
        ),
    ])
}

fn lab() -> Result<Topology> {
    let addresses = |v4: &str, v6: &str| -> Vec<IpAddr> {
        [v4, v6]
            .map(|text| text.parse().expect("an address"))
            .to_vec()
    };
    let plan = Plan {
        nodes: vec![
            Node::new("n1", addresses("192.168.50.1", "fd50::1")),
            Node::new("n2", addresses("192.168.50.2", "fd50::2")),
        ],
        pods: vec![
            Pod::new("x/a", "n1", addresses("10.244.1.11", "fd00:244:1::11")),
            Pod::new("x/b", "n2", addresses("10.244.2.11", "fd00:244:2::11")),
        ],
        ..Plan::default()
    };
    Ok(Topology::build(&plan)?)
}

const B: [&str; 2] = ["10.244.2.11", "fd00:244:2::11"];

fn ask(
    from: &Netns,
    to: &str,
    protocol: Protocol,
    port: u16,
    patience: Duration,
) -> Result<Option<String>> {
    let destination = SocketAddr::new(to.parse()?, port);
    let report = from.run(|| attempt(destination, protocol, patience))?;
    Ok(report.answered_by)
}

fn sctp() -> Result<()> {
    let lab = lab()?;
    let b = lab.pod("x/b")?;
    // The kernel tracks connections only where a rule asks for their state.
    let rules = "add table inet t; add chain inet t c { type filter hook forward priority 0; }; \
                 add rule inet t c ct state invalid drop";
    let status = lab.node("n2")?.command("nft").arg(rules).status()?;
    ensure!(status.success(), "nft: {status}");
    let server = Server::start(b, "b:9", Protocol::Sctp, 9)?;
    let _other = Server::start(b, "b:10", Protocol::Sctp, 10)?;
    let a = lab.pod("x/a")?;
    for to in B {
        let nine = ask(a, to, Protocol::Sctp, 9, PATIENCE)?;
        let ten = ask(a, to, Protocol::Sctp, 10, PATIENCE)?;
        ensure!(
            nine.as_deref() == Some("b:9") && ten.as_deref() == Some("b:10"),
            "{to}: {nine:?} {ten:?}"
        );
        let nobody = ask(a, to, Protocol::Sctp, 11, MOMENT)?;
        ensure!(
            nobody.is_none(),
            "{to}: {nobody:?} serves a port that nobody does"
        );
    }
    let peers: Vec<IpAddr> = server.seen().iter().map(|seen| seen.peer.ip()).collect();
    let own: Vec<IpAddr> = vec!["10.244.1.11".parse()?, "fd00:244:1::11".parse()?];
    ensure!(peers == own, "{peers:?}");
    let tracked = lab
        .node("n2")?
        .command("conntrack")
        .args(["-L", "-p", "sctp"])
        .output()?;
    let tracked = String::from_utf8_lossy(&tracked.stdout).into_owned();
    ensure!(
        tracked.contains("dport=9 "),
        "connection tracking knows nothing of it: {tracked}"
    );
    Ok(())
}

fn sctp_service() -> Result<()> {
    let lab = lab()?;
    let backends = B.map(|ip| ip.parse().map(|ip| SocketAddr::new(ip, 9)));
    let backends: Result<Vec<_>, _> = backends.into_iter().collect();
    lab.set_services(&[Service {
        name: "x/b".to_owned(),
        addresses: vec!["10.96.0.9".parse()?, "fd00:96::9".parse()?],
        ports: vec![ServicePort {
            protocol: net::Protocol::Sctp,
            port: 90,
            node_port: None,
            backends: backends?,
        }],
    }])?;
    let _server = Server::start(lab.pod("x/b")?, "b:9", Protocol::Sctp, 9)?;
    let a = lab.pod("x/a")?;
    for to in ["10.96.0.9", "fd00:96::9"] {
        let answered = ask(a, to, Protocol::Sctp, 90, PATIENCE)?;
        ensure!(answered.as_deref() == Some("b:9"), "{to}: {answered:?}");
    }
    Ok(())
}

fn sctp_dropped() -> Result<()> {
    let lab = lab()?;
    let server = Server::start(lab.pod("x/b")?, "b:9", Protocol::Sctp, 9)?;
    let rules = "add table inet t; add chain inet t c { type filter hook forward priority 0; }; \
                 add rule inet t c sctp dport 9 drop";
    let status = lab.node("n2")?.command("nft").arg(rules).status()?;
    ensure!(status.success(), "nft: {status}");
    for to in B {
        let answered = ask(lab.pod("x/a")?, to, Protocol::Sctp, 9, MOMENT)?;
        ensure!(answered.is_none(), "{to}: {answered:?}");
    }
    ensure!(server.seen().is_empty(), "{:?}", server.seen());
    Ok(())
}

fn echo() -> Result<()> {
    let lab = lab()?;
    let a = lab.pod("x/a")?;
    for to in B {
        let answered = ask(a, to, Protocol::Icmp, 0, PATIENCE)?;
        ensure!(answered.as_deref() == Some(to), "{to}: {answered:?}");
    }
    let nobody = ask(a, "10.244.2.99", Protocol::Icmp, 0, MOMENT)?;
    ensure!(nobody.is_none(), "{nobody:?}");
    Ok(())
}

fn held_udp() -> Result<()> {
    let lab = lab()?;
    let (a, b) = (lab.pod("x/a")?, lab.pod("x/b")?);
    let _server = Server::start(b, "b:9", Protocol::Udp, 9)?;
    let nft = |rules: &str| -> Result<()> {
        let status = lab.node("n2")?.command("nft").arg(rules).status()?;
        ensure!(status.success(), "nft {rules}: {status}");
        Ok(())
    };
    nft("add table inet t; add chain inet t c { type filter hook forward priority 0; }")?;
    for to in B {
        let mut held = Held::open_udp(a, SocketAddr::new(to.parse()?, 9), PATIENCE)?;
        ensure!(held.identity() == "b:9", "{held:?}");
        held.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
        nft("add rule inet t c udp dport 9 drop")?;
        let silence = held.exchange(MOMENT);
        ensure!(silence == Err("timed out".to_owned()), "{to}: {silence:?}");
        ensure!(held.wait_cut(MOMENT).is_none(), "nobody closes it");
        nft("flush chain inet t c")?;
        held.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
    }
    let nobody = Held::open_udp(a, SocketAddr::new(B[0].parse()?, 11), MOMENT);
    ensure!(nobody.is_err(), "{nobody:?}");
    Ok(())
}
