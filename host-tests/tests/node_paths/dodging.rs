//! Ways around a sidecar, and before a snapshot.

use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_host_tests::envoy::Artifact;
use sidewall_host_tests::lab::{Expect, Lab, LabConfig, Plane, Probe};
use sidewall_host_tests::probe::Protocol;

use super::edges;
use super::world::{Path, Pod, cluster, hold_to, policies, policy};

/// The user that sidecars run as; what it sends is not redirected.
const PROXY_USER: u32 = 1337;

/// Whether a program of that user in that pod gets a handshake.
fn connects(lab: &Lab, pod: &str, user: u32, address: &str) -> Result<bool> {
    let script = format!("exec 3<>/dev/tcp/{address}/80");
    let output = lab
        .netns(pod)?
        .command_as(user, user, &[], "timeout")
        .args(["2", "bash", "-c", &script])
        .output()?;
    Ok(output.status.success())
}

/// As the proxy's user nothing is redirected: the node judges all the same, on either side.
pub fn past_the_sidecar() -> Result<()> {
    let lab = edges::lab(&policy(
        "out",
        "podSelector: {matchLabels: {app: s1}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: b2}}}]}]",
    ))?;
    // Servers listen once they were asked for.
    let ask = |to: &str| Probe::new("default/b2", to, 80).map(|probe| probe.expect(Expect::Allow));
    hold_to(
        &lab,
        &[ask("default/b1")?, ask("default/b2")?, ask("default/s2")?],
        "others",
    )?;
    for (address, expected) in [
        ("10.244.2.14", true),
        ("fd00:244:2::14", true),
        ("10.244.1.12", false),
        ("fd00:244:1::12", false),
        ("10.244.2.13", false),
        ("fd00:244:2::13", false),
    ] {
        let connected = connects(&lab, "default/s1", PROXY_USER, address)?;
        ensure!(
            connected == expected,
            "as user {PROXY_USER} to {address}: connected: {connected}"
        );
    }
    Ok(())
}

/// Ports that a pod's redirection leaves out, on the way in and on the way out.
pub fn by_an_excluded_port() -> Result<()> {
    let lab = edges::lab(&policies(&[
        (
            "out",
            "podSelector: {matchLabels: {app: s1}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: b2}}}]}]",
        ),
        (
            "in",
            "podSelector: {matchLabels: {app: s2}}, ingress: [{from: [{podSelector: {matchLabels: {app: b2}}}]}]",
        ),
    ]))?;
    for pod in ["default/s1", "default/s2"] {
        let netns = lab.netns(pod)?;
        for arguments in [
            &["redirect", "--cleanup"][..],
            &[
                "redirect",
                "--exclude-inbound-ports=80",
                "--exclude-outbound-ports=80",
            ],
        ] {
            let mut sidewall = netns.command(Artifact::Sidewall.find()?);
            let output = sidewall.args(arguments).output()?;
            ensure!(output.status.success(), "{pod}: {arguments:?}: {output:?}");
        }
    }
    let mut probes = Vec::new();
    for (from, to, expect) in [
        ("default/s1", "default/b2", Expect::Allow),
        ("default/s1", "default/b1", Expect::Deny),
        ("default/b2", "default/s2", Expect::Allow),
        ("default/b1", "default/s2", Expect::Deny),
    ] {
        probes.push(Probe::new(from, to, 80)?.expect(expect));
    }
    hold_to(&lab, &probes, "past both sidecars")?;
    for result in lab.probe(&probes)? {
        let is_denied = result.expected == Some(Expect::Deny);
        // A sidecar would have answered the handshake.
        ensure!(result.connected != is_denied, "{result}");
    }
    Ok(())
}

/// A pod that the distributor does not know yet, in all protocols and both directions: here one
/// that is there before its object is.
pub fn without_a_snapshot() -> Result<()> {
    let known = Pod {
        name: "known",
        role: "any",
        node: 1,
        host: 11,
        path: Path::Kernel,
    };
    let other = Pod {
        name: "other",
        node: 2,
        host: 12,
        ..known
    };
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .probe_timeout(Duration::from_millis(500))
            .manifest(
                "cluster.yaml",
                cluster([known.manifest(), other.manifest()]),
            ),
    )?;
    let probes = |expect| -> Result<Vec<Probe>> {
        let mut probes = Vec::new();
        for (from, to) in [
            ("default/known", "default/new"),
            ("default/new", "default/known"),
            ("default/other", "default/new"),
            ("default/new", "default/other"),
        ] {
            let probe = Probe::new(from, to, 80)?.expect(expect);
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                probes.push(probe.clone().by(protocol));
            }
            let echo = Probe::new(from, to, 0)?.expect(expect);
            probes.push(echo.by(Protocol::Icmp));
        }
        Ok(probes)
    };
    // With nobody to tell of it the pod comes to the network and stays closed.
    lab.kill_distributor();
    let new = Pod {
        name: "new",
        host: 13,
        ..known
    };
    lab.write_manifest("new.yaml", &new.manifest())?;
    hold_to(&lab, &probes(Expect::Deny)?, "before its snapshot")?;
    lab.start_distributor()?;
    lab.wait_applied()?;
    hold_to(&lab, &probes(Expect::Allow)?, "with its snapshot")?;
    Ok(())
}
