//! Act two: nodes enforce, too, and with them every pod and every protocol is covered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::lab::{
    Expect, Family, Lab, LabConfig, Plane, Probe, ProbeResult, Redirect, Source,
};
use sidewall_host_tests::probe::{Held, Protocol};

use super::{ANSWER, CUT, EXAMPLE, Score, hold, show_pods, time_changes, title};
use crate::policies::{InForce, TEST_NETWORK_POLICY};
use crate::scene::{ACT_TWO, MORE_PODS, cluster_without_a_sidecar_at_the_database};

/// For how long a live connection is unanswered that has fallen silent.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a node may take to write down what it dropped.
const RECORD: Duration = Duration::from_secs(10);

/// Plays it.
pub fn play(score: &mut Score, source: Source) -> anyhow::Result<()> {
    title("ACT TWO: nodes enforce, too");
    println!(
        "Starting again, with an agent on each node. The database has no sidecar now: the kernel decides\n\
         alone. Its replica and three others have one, and `plain` asks for the Envoy of its node …"
    );
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .redirect(Redirect::OnRequest)
            .source(source)
            .manifest("cluster.yaml", cluster_without_a_sidecar_at_the_database())
            .manifest("more-pods.yaml", MORE_PODS),
    )
    .context("cannot start the lab with nodes")?;
    show_pods(&lab, "no sidecar: its node alone")?;

    title("No policy: everybody reaches everybody, over TCP and over UDP");
    let mut in_force = InForce::default();
    try_all(score, &lab, in_force)?;

    title("The same test-network-policy, while connections are open");
    let open = Open::new(&lab)?;
    println!(
        "  frontend talks to db over UDP, IPv4 and IPv6, which only the kernel carries;\n  \
         worker talks to frontend over UDP, and to db over TCP, as the policy allows.\n  \
         The policy of act one comes into force …"
    );
    let took = lab.apply(EXAMPLE, TEST_NETWORK_POLICY)?;
    println!(
        "  … {} ms later both nodes and all four sidecars enforced it.",
        took.as_millis()
    );
    open.see(score);

    title("Who reaches whom now");
    println!(
        "  The policy isolates db, which has no sidecar, and replica, which has one. Its rules speak of\n  \
         TCP only: over UDP nobody but its own node reaches either, and neither reaches anybody.\n"
    );
    in_force.test_network_policy = true;
    try_all(score, &lab, in_force)?;
    show_records(&lab)?;

    title("From a manifest to every node and every sidecar");
    time_changes(&lab, "both nodes and all four sidecars")
}

/// The matrix over TCP and over UDP.
fn try_all(score: &mut Score, lab: &Lab, in_force: InForce) -> anyhow::Result<()> {
    println!("  TCP\n");
    let pods = lab.pods().into_iter();
    let with_sidecar: BTreeSet<String> = pods
        .filter_map(|(pod, sidecar)| sidecar.then_some(pod))
        .collect();
    let is_own_sidecars = |result: &ProbeResult| with_sidecar.contains(&result.from);
    let probes = ACT_TWO.probes(Protocol::Tcp, in_force)?;
    let results = score.try_all(lab, ACT_TWO, &probes, |result| {
        result.ok == Some(true) && (is_own_sidecars(result) || is_answered_or_silent(result))
    })?;
    let (by_sidecar, by_client): (Vec<_>, Vec<_>) =
        denied(&results).partition(|r| is_own_sidecars(r));
    if !by_client.is_empty() {
        let silent = by_client.iter().filter(|r| is_answered_or_silent(r));
        println!(
            "  {} of the {} denied connections that no sidecar opened timed out without a handshake: the\n  \
             kernel dropped the first packet. The other {} were opened by a sidecar beside the client,\n  \
             and it completes every handshake.\n",
            silent.count(),
            by_client.len(),
            by_sidecar.len(),
        );
    }

    println!("  UDP\n");
    let since = Instant::now();
    let probes = ACT_TWO.probes(Protocol::Udp, in_force)?;
    let results = score.try_all(lab, ACT_TWO, &probes, |result| {
        result.ok == Some(true) && is_answered_or_silent(result)
    })?;
    let denied = denied(&results).count();
    if denied > 0 {
        let arrived = uninvited(lab, in_force, since)?;
        score.one(arrived == 0);
        println!(
            "  {arrived} of the {denied} denied datagrams arrived at the pod they were sent to.\n"
        );
    }
    Ok(())
}

fn denied(results: &[ProbeResult]) -> impl Iterator<Item = &ProbeResult> {
    let is_denied = |result: &&ProbeResult| result.expected == Some(Expect::Deny);
    results.iter().filter(is_denied)
}

/// Who has no sidecar gets an answer or nothing at all, not even a handshake.
fn is_answered_or_silent(result: &ProbeResult) -> bool {
    result.answered || (!result.connected && result.error.as_deref() == Some("timed out"))
}

/// How many datagrams have come to pods from where none is allowed.
fn uninvited(lab: &Lab, in_force: InForce, since: Instant) -> anyhow::Result<usize> {
    let mut arrived = 0;
    for (pod, _) in lab.pods() {
        let mut invited = Vec::new();
        for source in ACT_TWO.sources {
            if in_force.allows(Protocol::Udp, source, &pod) {
                invited.extend(lab.addresses(source)?);
            }
        }
        let seen = lab.seen(&pod)?.into_iter();
        arrived += seen
            .filter(|(_, seen)| seen.at >= since && !invited.contains(&seen.peer.ip()))
            .count();
    }
    Ok(arrived)
}

/// Connections that are open while the policy changes.
struct Open {
    denied: Vec<(Family, Held)>,
    allowed: Vec<(&'static str, Held)>,
}

impl Open {
    fn new(lab: &Lab) -> anyhow::Result<Self> {
        let mut denied = Vec::new();
        for family in [Family::IPv4, Family::IPv6] {
            let to_db = Probe::new("default/frontend", "default/db", 6379)?.udp();
            denied.push((family, hold(lab, &to_db.over(family))?));
        }
        let datagrams = Probe::new("myproject/worker", "default/frontend", 80)?.udp();
        let connection = Probe::new("myproject/worker", "default/db", 6379)?;
        let allowed = vec![
            ("worker's datagrams to frontend", hold(lab, &datagrams)?),
            ("worker's connection to db", hold(lab, &connection)?),
        ];
        Ok(Self { denied, allowed })
    }

    /// What became of them.
    fn see(self, score: &mut Score) {
        for (family, mut held) in self.denied {
            let is_silent = held.wait_silent(SILENCE, CUT).is_some();
            score.one(is_silent);
            if is_silent {
                println!("  … frontend's datagrams to db over {family} are not answered any more.");
            } else {
                println!("  … But db still answers frontend's datagrams over {family}.");
            }
        }
        for (what, mut held) in self.allowed {
            let alive = held.exchange(ANSWER);
            score.one(alive.is_ok());
            match alive {
                Ok(()) => println!("  … {what} did not notice."),
                Err(error) => println!("  … But {what} broke: {error}."),
            }
        }
    }
}

/// What the agent of the database's node wrote: of a first packet from a pod without a sidecar, and
/// of the datagrams that fell silent.
fn show_records(lab: &Lab) -> anyhow::Result<()> {
    println!("Why not? The agent of the database's node says so, in one line of JSON:\n");
    let plain = lab.addresses("default/plain")?;
    let frontend = lab.addresses("default/frontend")?;
    let dropped = wait_for(lab, |record| {
        record["protocol"] == "TCP" && is_from(record, &plain)
    });
    let cut = wait_for(lab, |record| {
        record["protocol"] == "UDP" && record["cut"] == true && is_from(record, &frontend)
    });
    for record in [
        dropped.context("the agent recorded no drop of TCP from default/plain")?,
        cut.context("the agent recorded no UDP that it ended")?,
    ] {
        let named = record["policies"] == json!(["default/test-network-policy"]);
        ensure!(named, "the record does not name the policy: {record}");
        println!("    {record}");
    }
    println!();
    Ok(())
}

fn is_from(record: &Value, addresses: &[IpAddr]) -> bool {
    let source = record["source"].as_str().and_then(|text| text.parse().ok());
    source.is_some_and(|source: SocketAddr| addresses.contains(&source.ip()))
}

/// The first record of node-1's agent that matches.
fn wait_for(lab: &Lab, matches: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let started = Instant::now();
    loop {
        let records = lab.agent_decisions("node-1")?;
        if let Some(record) = records.iter().find(|record| matches(record)) {
            return Ok(record.clone());
        }
        ensure!(started.elapsed() < RECORD, "not within {RECORD:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
