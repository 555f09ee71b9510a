//! A denied connection: nothing of it reaches the server, and why is told in full.

#[path = "e2e_support/cluster.rs"]
mod cluster;
#[path = "e2e_support/connections.rs"]
mod connections;
#[path = "e2e_denied/records.rs"]
mod records;
#[path = "e2e_support/shared.rs"]
mod shared;
#[path = "e2e_support/wire.rs"]
mod wire;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster::policy;
use connections::{FILE, NONE, expect, probes};
use shared::Shared;
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Expect, Lab, failures};
use wire::Watch;

fn main() -> ExitCode {
    harness::main(&[
        ("the_server_s_side_denies_and_nothing_arrives", || {
            with_lab(denied_by_the_server)
        }),
        ("the_client_s_side_denies_and_nothing_leaves", || {
            with_lab(denied_by_the_client)
        }),
        ("not_a_byte_passes_either_way", || with_lab(not_a_byte)),
        ("amid_denied_ones_allowed_ones_are_answered", || {
            with_lab(amid)
        }),
        ("records_name_policies_and_the_nearest_rule", || {
            with_lab(records::decisions)
        }),
        ("records_name_services", || with_lab(records::services)),
        ("the_access_log_names_verdict_and_policy", || {
            with_lab(records::access_log)
        }),
    ])
}

/// Web servers, which speak first, as mail and database servers do.
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: pair, namespace: x}, spec: {selector: {pair: 'yes'}, clusterIPs: [10.96.0.2, 'fd00:96::2'], ports: [{port: 8000, targetPort: web}]}}\n";

fn with_lab(case: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    static LAB: Shared = Shared::new();
    LAB.with(
        || cluster::cluster(&["x/a", "x/b", "x/c", "y/a"]).manifest("service.yaml", SERVICE),
        case,
    )
}

/// No connection of namespace `x` may be taken.
const DENY_INGRESS: &str = "podSelector: {}, policyTypes: [Ingress]";
/// None may be begun.
const DENY_EGRESS: &str = "podSelector: {}, policyTypes: [Egress]";

fn denied_by_the_server(lab: &Lab) -> Result<()> {
    let denied = ["x/b x/c y/a node:node-2 172.17.0.5 2001:db8:17::5 -> x/a:80"];
    unseen(lab, DENY_INGRESS, &denied, &["x/a"], &["x/a"])
}

fn denied_by_the_client(lab: &Lab) -> Result<()> {
    let denied = ["x/a -> x/b:80 y/a:80", "x/b -> x/a:80"];
    // Nothing leaves the client's pod.
    let watched = ["x/a", "x/b", "y/a"];
    unseen(lab, DENY_EGRESS, &denied, &watched, &watched)
}

/// Tries connections that a policy denies: the servers in these pods must not see them, nor may the
/// sidecars of those pods begin a handshake. Without the policy the same connections are seen, so
/// looking means something.
fn unseen(
    lab: &Lab,
    spec: &str,
    denied: &[&str],
    servers: &[&str],
    sidecars: &[&'static str],
) -> Result<()> {
    lab.apply(FILE, &policy("x/p", spec))?;
    let watches = sidecars.iter().map(|pod| Watch::new(lab, pod, 80));
    let watches = watches.collect::<Result<Vec<_>>>()?;
    let before = visitors(lab, servers)?;
    let results = lab.probe(&probes(denied, Expect::Deny)?)?;
    for result in &results {
        ensure!(
            result.connected && result.ok == Some(true),
            "a handshake with the nearest sidecar, and no more: {result}"
        );
    }
    let (visitors_then, handshakes) = (visitors(lab, servers)?, handshakes(&watches)?);
    ensure!(
        visitors_then == before && handshakes == 0,
        "of {} denied connections the servers saw {}, and sidecars began {handshakes}",
        results.len(),
        visitors_then - before
    );

    lab.apply(FILE, NONE)?;
    expect(lab, denied, &[], "without a policy")?;
    let (visitors_now, handshakes) = (visitors(lab, servers)?, self::handshakes(&watches)?);
    ensure!(
        visitors_now == before + results.len() && handshakes > 0,
        "of {} allowed connections the servers saw {}, and sidecars began {handshakes}",
        results.len(),
        visitors_now - before
    );
    Ok(())
}

fn visitors(lab: &Lab, pods: &[&str]) -> Result<usize> {
    let mut all = 0;
    for pod in pods {
        all += lab.seen(pod)?.len();
    }
    Ok(all)
}

fn handshakes(watches: &[Watch<'_>]) -> Result<u64> {
    watches.iter().map(Watch::count).sum()
}

/// How long anything may take; what is closed is closed at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client that listens and one that sends at once get nothing, and the server gets nothing.
fn not_a_byte(lab: &Lab) -> Result<()> {
    for (side, spec, watched) in [
        ("the server's", DENY_INGRESS, "x/a"),
        ("the client's", DENY_EGRESS, "x/b"),
    ] {
        lab.apply(FILE, &policy("x/p", spec))?;
        let watch = Watch::new(lab, watched, 80)?;
        let before = visitors(lab, &["x/a"])?;
        for address in lab.addresses("x/a")? {
            for sends in [0, 64 << 10] {
                let told = converse(lab, address, sends)?;
                ensure!(
                    told.is_empty(),
                    "{address}, denied by {side} side, {sends} bytes sent: told {told:?}"
                );
            }
        }
        ensure!(
            visitors(lab, &["x/a"])? == before && watch.count()? == 0,
            "denied by {side} side, {} handshakes were begun",
            watch.count()?
        );
    }
    lab.apply(FILE, NONE)?;
    for address in lab.addresses("x/a")? {
        let told = converse(lab, address, 0)?;
        ensure!(told == "x/a:80\n", "allowed, {address} told {told:?}");
    }
    Ok(())
}

/// Connects from `x/b` to port 80, sends as many bytes, and reads to the end, or to the end of the
/// first line.
fn converse(lab: &Lab, address: IpAddr, sends: usize) -> Result<String> {
    lab.netns("x/b")?.run(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, 80), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Fails when the other end has closed by then.
        let _ = stream.write_all(&vec![b'x'; sends]);
        let mut told = Vec::new();
        let mut byte = [0];
        loop {
            match stream.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => told.extend(byte),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error).context("neither data nor an end"),
            }
            if byte == *b"\n" {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&told).into_owned())
    })?
}

/// Denied clients in great number take nothing away from allowed ones.
fn amid(lab: &Lab) -> Result<()> {
    const ROUNDS: usize = 40;
    let from_b = "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";
    lab.apply(FILE, &policy("x/p", from_b))?;
    let before = visitors(lab, &["x/a"])?;
    let mut wanted = Vec::new();
    for _ in 0..ROUNDS {
        wanted.extend(probes(&["x/b -> x/a:80"], Expect::Allow)?);
        wanted.extend(probes(&["x/c y/a -> x/a:80"], Expect::Deny)?);
    }
    let results = lab.probe(&wanted)?;
    let unmet: Vec<_> = failures(&results).map(ToString::to_string).collect();
    ensure!(
        unmet.is_empty(),
        "{} of {} are not as expected:\n{}",
        unmet.len(),
        results.len(),
        unmet.join("\n")
    );
    let seen = visitors(lab, &["x/a"])? - before;
    ensure!(
        seen == 2 * ROUNDS,
        "the server has seen {seen} of {} allowed and {} denied connections",
        2 * ROUNDS,
        4 * ROUNDS
    );
    Ok(())
}
