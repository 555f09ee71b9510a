//! `sidewall redirect` in a pod of the lab: what reaches Envoy's ports, and what does not.

#[path = "net_support/proxy.rs"]
mod proxy;
#[path = "net_support/talk.rs"]
mod talk;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use proxy::{Capture, Client, intercept};
use sidewall_distributor::redirect::{Args, Layout};
use sidewall_host_tests::harness;
use sidewall_host_tests::net::{Netns, Node, Plan, Pod, Protocol, Service, ServicePort, Topology};
use talk::{ask_udp, serve};

const PORT: u16 = 8080;
const OTHER_PORT: u16 = 9090;
const A: [&str; 2] = ["10.244.1.11", "fd00:244:1::11"];
const B: [&str; 2] = ["10.244.1.12", "fd00:244:1::12"];
const C: [&str; 2] = ["10.244.2.11", "fd00:244:2::11"];
const NODE: [&str; 2] = ["192.168.50.1", "fd50::1"];
const SERVICE: [&str; 2] = ["10.96.0.10", "fd00:96::10"];

fn main() -> ExitCode {
    harness::main(&[
        (
            "what_a_pod_sends_reaches_envoy_with_its_destination",
            outbound,
        ),
        (
            "what_a_pod_gets_reaches_envoy_with_its_destination",
            inbound,
        ),
        (
            "loopback_and_the_pod_itself_are_left_alone",
            loopback_and_self,
        ),
        ("what_envoy_sends_is_left_alone", envoy_outbound),
        ("envoy_reaches_its_pod_without_a_loop", envoy_to_its_pod),
        ("udp_is_left_alone", udp),
        ("without_envoy_nothing_passes", fail_closed),
        ("excluded_ports_are_left_alone", excluded_ports),
        (
            "a_second_run_replaces_the_first_and_nothing_else",
            idempotent,
        ),
        ("cleanup_leaves_what_was_there_before", cleanup),
        (
            "without_ipv6_on_loopback_it_is_closed_not_open",
            no_ipv6_on_loopback,
        ),
    ])
}

fn addresses(texts: [&str; 2]) -> Vec<IpAddr> {
    texts
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// Pods a and b on one node, c on another, an application on every host, and in pod a something in
/// Envoy's place, but no redirection yet.
fn lab() -> Result<Topology> {
    let lab = Topology::build(&Plan {
        nodes: vec![
            Node::new("node-1", addresses(NODE)),
            Node::new("node-2", addresses(["192.168.50.2", "fd50::2"])),
        ],
        pods: vec![
            Pod::new("a", "node-1", addresses(A)),
            Pod::new("b", "node-1", addresses(B)),
            Pod::new("c", "node-2", addresses(C)),
        ],
        ..Plan::default()
    })?;
    for (name, netns) in [
        ("b", lab.pod("b")?),
        ("c", lab.pod("c")?),
        ("node", lab.node("node-1")?),
    ] {
        serve(netns, name, PORT)?;
    }
    serve(lab.pod("a")?, "a", PORT)?;
    serve(lab.pod("a")?, "a", OTHER_PORT)?;
    serve(lab.pod("b")?, "b", OTHER_PORT)?;
    Ok(lab)
}

/// The lab with pod a redirected to a stand-in for Envoy.
fn redirected() -> Result<Topology> {
    let lab = lab()?;
    let a = lab.pod("a")?;
    intercept(a, "outbound", 15_001)?;
    intercept(a, "inbound", 15_006)?;
    redirect(a, Layout::default())?;
    Ok(lab)
}

fn redirect(pod: &Netns, layout: Layout) -> Result<()> {
    Ok(pod.run(|| {
        Args {
            cleanup: false,
            layout,
        }
        .run()
    })??)
}

fn clean_up(pod: &Netns) -> Result<()> {
    Ok(pod.run(|| {
        Args {
            cleanup: true,
            ..Args::default()
        }
        .run()
    })??)
}

/// The application or listener that answers, and what it saw.
fn check(client: Client<'_>, to: SocketAddr, expected: &Capture) -> Result<()> {
    let got = client
        .ask(to)
        .with_context(|| format!("{client:?} to {to}"))?;
    ensure!(
        got == *expected,
        "{client:?} to {to}: {got:?}, not {expected:?}"
    );
    Ok(())
}

fn outbound() -> Result<()> {
    let lab = redirected()?;
    let backends = vec![at(C[0], PORT), at(C[1], PORT)];
    lab.set_services(&[Service {
        name: "default/c".to_owned(),
        addresses: addresses(SERVICE),
        ports: vec![ServicePort {
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            backends,
        }],
    }])?;
    let a = Client::root(lab.pod("a")?);
    for (family, own) in A.iter().enumerate() {
        for to in [
            at(B[family], PORT),
            at(C[family], PORT),
            at(NODE[family], PORT),
            at(SERVICE[family], 80),
        ] {
            check(a, to, &Capture::redirected("outbound", own, to))?;
        }
    }
    Ok(())
}

fn inbound() -> Result<()> {
    let lab = redirected()?;
    for (family, own) in A.iter().enumerate() {
        let to = at(own, PORT);
        for (from, seen) in [
            (lab.pod("b")?, B[family]),
            (lab.pod("c")?, C[family]),
            (lab.node("node-1")?, NODE[family]),
        ] {
            check(
                Client::root(from),
                to,
                &Capture::redirected("inbound", seen, to),
            )?;
        }
    }
    Ok(())
}

fn loopback_and_self() -> Result<()> {
    let lab = redirected()?;
    let a = Client::root(lab.pod("a")?);
    for to in ["127.0.0.1", "::1", A[0], A[1]] {
        check(a, at(to, PORT), &Capture::direct("a", to))?;
    }
    Ok(())
}

fn envoy_outbound() -> Result<()> {
    let lab = redirected()?;
    let a = lab.pod("a")?;
    for (family, own) in A.iter().enumerate() {
        for client in [
            Client::envoy(a),
            Client {
                uid: 1337,
                ..Client::root(a)
            },
            Client {
                gid: 1337,
                ..Client::root(a)
            },
        ] {
            check(client, at(C[family], PORT), &Capture::direct("c", own))?;
        }
    }
    Ok(())
}

fn envoy_to_its_pod() -> Result<()> {
    let lab = redirected()?;
    let envoy = Client::envoy(lab.pod("a")?);
    for (own, passthrough) in [(A[0], "127.0.0.6"), (A[1], "::6")] {
        let bound = Client {
            source: Some(passthrough),
            ..envoy
        };
        check(bound, at(own, PORT), &Capture::direct("a", passthrough))?;
        // Where a Service leads Envoy back to its pod, the pod's policies apply.
        check(
            envoy,
            at(own, PORT),
            &Capture::redirected("inbound", own, at(own, PORT)),
        )?;
    }
    check(
        envoy,
        at("127.0.0.1", PORT),
        &Capture::direct("a", "127.0.0.1"),
    )?;
    check(envoy, at("::1", PORT), &Capture::direct("a", "::1"))
}

fn udp() -> Result<()> {
    let lab = redirected()?;
    for (own, other) in A.iter().zip(B) {
        ensure!(ask_udp(lab.pod("a")?, at(other, PORT))?.server == "b");
        ensure!(ask_udp(lab.pod("b")?, at(own, PORT))?.server == "a");
    }
    Ok(())
}

fn fail_closed() -> Result<()> {
    let lab = lab()?;
    let a = lab.pod("a")?;
    redirect(a, Layout::default())?;
    for (own, other) in A.iter().zip(B) {
        ensure!(
            Client::root(a).ask(at(other, PORT)).is_err(),
            "out to {other}"
        );
        ensure!(
            Client::root(lab.pod("b")?).ask(at(own, PORT)).is_err(),
            "in to {own}"
        );
        check(Client::root(a), at(own, PORT), &Capture::direct("a", own))?;
    }
    Ok(())
}

fn excluded_ports() -> Result<()> {
    let lab = redirected()?;
    let a = lab.pod("a")?;
    let port = NonZeroU16::new(OTHER_PORT).context("zero")?;
    redirect(
        a,
        Layout {
            exclude_inbound_ports: vec![port],
            exclude_outbound_ports: vec![port],
            ..Layout::default()
        },
    )?;
    for (own, other) in A.iter().zip(B) {
        check(
            Client::root(a),
            at(other, OTHER_PORT),
            &Capture::direct("b", own),
        )?;
        check(
            Client::root(lab.pod("b")?),
            at(own, OTHER_PORT),
            &Capture::direct("a", other),
        )?;
        let to = at(other, PORT);
        check(
            Client::root(a),
            to,
            &Capture::redirected("outbound", own, to),
        )?;
    }
    Ok(())
}

/// The nat tables of both families, without comments and counters, and the addresses of loopback.
fn state(pod: &Netns) -> Result<Vec<String>> {
    let mut state = Vec::new();
    for arguments in [
        ["iptables-save", "-t", "nat"],
        ["ip6tables-save", "-t", "nat"],
        ["ip", "addr", "show"],
    ] {
        let output = pod.command(arguments[0]).args(&arguments[1..]).output()?;
        ensure!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout)?;
        state.extend(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| {
                    let line = line.split(" [").next().unwrap_or_default();
                    format!("{}: {line}", arguments[0])
                }),
        );
    }
    Ok(state)
}

/// Rules of somebody else, which must survive.
fn add_foreign_rules(pod: &Netns) -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        for arguments in [
            "-N ISTIO_INBOUND",
            "-A PREROUTING -p tcp --dport 4 -j ISTIO_INBOUND",
            "-A OUTPUT -j ACCEPT -p tcp --dport 5",
        ] {
            let status = pod
                .command(program)
                .args(["-t", "nat"])
                .args(arguments.split(' '))
                .status()?;
            ensure!(status.success(), "{program} {arguments}: {status}");
        }
    }
    Ok(())
}

fn idempotent() -> Result<()> {
    let lab = lab()?;
    let a = lab.pod("a")?;
    add_foreign_rules(a)?;
    redirect(a, Layout::default())?;
    let once = state(a)?;
    redirect(a, Layout::default())?;
    ensure!(state(a)? == once, "{once:#?}\nbecame\n{:#?}", state(a)?);
    ensure!(
        once.iter()
            .filter(|line| line.contains("-A PREROUTING"))
            .count()
            == 4,
        "{once:#?}"
    );

    let port = NonZeroU16::new(16_001).context("zero")?;
    redirect(
        a,
        Layout {
            outbound_port: port,
            ..Layout::default()
        },
    )?;
    let expected: Vec<_> = once
        .iter()
        .map(|line| line.replace("--to-ports 15001", "--to-ports 16001"))
        .collect();
    ensure!(
        state(a)? == expected && expected != once,
        "{:#?}",
        state(a)?
    );
    Ok(())
}

fn cleanup() -> Result<()> {
    let lab = lab()?;
    let a = lab.pod("a")?;
    add_foreign_rules(a)?;
    let before = state(a)?;
    redirect(a, Layout::default())?;
    ensure!(state(a)? != before);
    for _ in 0..2 {
        clean_up(a)?;
        ensure!(state(a)? == before, "{before:#?}\nbecame\n{:#?}", state(a)?);
    }
    for (own, other) in A.iter().zip(B) {
        check(Client::root(a), at(other, PORT), &Capture::direct("b", own))?;
        check(
            Client::root(lab.pod("b")?),
            at(own, PORT),
            &Capture::direct("a", other),
        )?;
    }
    Ok(())
}

fn no_ipv6_on_loopback() -> Result<()> {
    let lab = lab()?;
    let a = lab.pod("a")?;
    a.run(|| std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1"))??;
    intercept(a, "inbound", 15_006)?;
    redirect(a, Layout::default())?;
    let to = at(A[1], PORT);
    check(
        Client::root(lab.pod("b")?),
        to,
        &Capture::redirected("inbound", B[1], to),
    )?;
    ensure!(
        Client::root(a).ask(at(B[1], PORT)).is_err(),
        "IPv6 leaves the pod around Envoy"
    );
    clean_up(a)
}
