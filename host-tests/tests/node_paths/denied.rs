//! What both ends see of TCP that a policy denies: new connections, and live ones that a change ends.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_distributor::node::ruleset::DeniedTcp;
use sidewall_host_tests::lab::{Family, Lab, LabConfig, Plane, Probe};
use sidewall_host_tests::probe::Held;

use super::world::{NODES, Path, Pod, cluster, policy};

/// `server` is on node-1.
const PODS: [Pod; 3] = [pod("server", 1, 11), pod("near", 1, 12), pod("far", 2, 13)];
const SERVER: Pod = PODS[0];
const OUTSIDE: [&str; 2] = ["external:172.17.0.5", "external:fd17::5"];
const FILE: &str = "policies.yaml";
/// An end on the same node is reset within milliseconds, any other within a way there and back.
const SOON: Duration = Duration::from_secs(1);

const fn pod(name: &'static str, node: u8, host: u8) -> Pod {
    Pod {
        name,
        role: "any",
        node,
        host,
        path: Path::Kernel,
    }
}

fn lab(config: LabConfig, policies: &str) -> Result<Lab> {
    let pods = PODS.iter().map(Pod::manifest);
    let service = SERVER.service("app: server");
    Ok(Lab::start(
        config
            .plane(Plane::Both)
            .manifest("cluster.yaml", cluster(pods.chain([service])))
            .manifest(FILE, policies),
    )?)
}

fn closed() -> String {
    policy("closed", "podSelector: {matchLabels: {app: server}}")
}

/// Every way to the server over one family: directly and by its Service from pods of either node, and from outside
/// by the pod's address and by the other node's port, which masquerades.
fn ways(family: usize) -> Result<Vec<Probe>> {
    let server = SERVER.id();
    let service = format!("service:{server}");
    let other_node = format!("address:{}", NODES[1][family]);
    [
        ("default/near", &server, 80),
        ("default/near", &service, 8000),
        ("default/far", &server, 80),
        ("default/far", &service, 8000),
        (OUTSIDE[family], &server, 80),
        (OUTSIDE[family], &other_node, SERVER.node_port()),
    ]
    .into_iter()
    .map(|(from, to, port)| Ok(Probe::new(from, to, port)?.over(families()[family])))
    .collect()
}

fn families() -> [Family; 2] {
    [Family::IPv4, Family::IPv6]
}

/// Both ends of an idle connection are reset: neither sends anything by itself.
pub fn live_ones_are_reset() -> Result<()> {
    reset_in(LabConfig::default())
}

/// The same where the pods of a node share a bridge.
pub fn live_ones_are_reset_on_bridges() -> Result<()> {
    reset_in(LabConfig::default().bridged())
}

fn reset_in(config: LabConfig) -> Result<()> {
    let lab = lab(config, "# none\n")?;
    for family in [0, 1] {
        let hold = |probe: Probe| -> Result<(String, Held)> {
            let way = format!(
                "{} to {} over {:?}",
                probe.from,
                probe.to,
                families()[family]
            );
            let held = lab.hold(&probe).with_context(|| way.clone())?;
            Ok((way, held))
        };
        let mut held: Vec<_> = ways(family)?.into_iter().map(hold).collect::<Result<_>>()?;
        let established = connections(&lab)?;
        ensure!(established >= held.len(), "the server has {established}");
        lab.apply(FILE, &closed())?;
        ends_are_reset(&lab, &mut held)?;
        lab.unapply(FILE)?;
        lab.write_manifest(FILE, "# none\n")?;
        lab.wait_applied()?;
    }
    Ok(())
}

/// A policy for egress, whose backend is on another node: that node knows nothing of it, and the client's node
/// resets both ends.
pub fn a_client_that_is_closed_is_reset() -> Result<()> {
    let closed = policy(
        "closed",
        "podSelector: {matchLabels: {app: far}}, policyTypes: [Egress]",
    );
    for config in [LabConfig::default(), LabConfig::default().bridged()] {
        let lab = lab(config, "# none\n")?;
        let mut held = Vec::new();
        for family in families() {
            for (to, port) in [
                (SERVER.id(), 80),
                (format!("service:{}", SERVER.id()), 8000),
            ] {
                let probe = Probe::new("default/far", &to, port)?.over(family);
                held.push((format!("to {to} over {family:?}"), lab.hold(&probe)?));
            }
        }
        lab.apply(FILE, &closed)?;
        ends_are_reset(&lab, &mut held)?;
    }
    Ok(())
}

/// No end of these connections waits any longer.
fn ends_are_reset(lab: &Lab, held: &mut [(String, Held)]) -> Result<()> {
    for (way, held) in held {
        ensure!(
            held.wait_cut(SOON).is_some(),
            "{way}: the client still waits"
        );
    }
    let started = Instant::now();
    while connections(lab)? > 0 {
        let text = sockets(lab)?;
        ensure!(started.elapsed() < SOON, "the server still has:\n{text}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// How many connections the server's kernel takes for established.
fn connections(lab: &Lab) -> Result<usize> {
    Ok(sockets(lab)?.lines().count())
}

fn sockets(lab: &Lab) -> Result<String> {
    let mut ss: Command = lab.netns(&SERVER.id())?.command("ss");
    let output = ss.args(["-Htn", "state", "established"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// New connections are refused as the agent's flag says, or time out.
pub fn new_ones_are_refused_or_dropped() -> Result<()> {
    for (denied_tcp, bridged, expected) in [
        (DeniedTcp::Drop, false, ["timed out"; 2]),
        (DeniedTcp::Reset, false, ["refused"; 2]),
        (DeniedTcp::Reset, true, ["refused"; 2]),
        (
            DeniedTcp::Prohibited,
            false,
            ["unreachable", "Permission denied"],
        ),
        (
            DeniedTcp::Prohibited,
            true,
            ["unreachable", "Permission denied"],
        ),
    ] {
        // A client whose connect() is under way when ICMP arrives acts on that of the next SYN, a second later.
        let config = LabConfig::default()
            .denied_tcp(denied_tcp)
            .probe_timeout(Duration::from_millis(2500));
        let config = if bridged { config.bridged() } else { config };
        let lab = lab(config, &closed())?;
        for family in [0, 1] {
            for result in lab.probe(&ways(family)?)? {
                let error = result.error.as_deref().unwrap_or_default();
                // The kernel's answer to a bridge would bypass NAT, so it gives none.
                let by_service = result.to.starts_with("service:");
                let expected = if bridged && by_service && result.from == "default/near" {
                    "timed out"
                } else {
                    expected[family]
                };
                ensure!(
                    !result.connected && error.contains(expected),
                    "{denied_tcp:?}, bridged: {bridged}: {result}"
                );
            }
        }
    }
    Ok(())
}
