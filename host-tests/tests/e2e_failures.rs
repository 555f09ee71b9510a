//! The distributor goes away and comes back, with notice and without; sidecars are restarted
//! meanwhile.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "e2e_support/cluster.rs"]
mod cluster;
#[path = "e2e_support/connections.rs"]
mod connections;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster::policy;
use connections::{FILE, NONE, expect};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Family, Lab, Probe};
use sidewall_host_tests::probe::Held;

fn main() -> ExitCode {
    harness::main(&[
        (
            "a_killed_distributor_changes_nothing_for_running_sidecars",
            killed,
        ),
        (
            "a_restarted_sidecar_is_closed_until_the_distributor_is_back",
            restarted_sidecar,
        ),
        (
            "a_distributor_that_is_asked_to_end_leaves_connections_alone",
            restarted_distributor,
        ),
    ])
}

/// How long a connection may take to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is aimed at is a second; a machine that runs other tests is given three.
const BACK: Duration = Duration::from_secs(3);

/// `x/a` takes `x/b` only; `x/c` may connect to `x/a` only.
fn started() -> Result<Lab> {
    let policies = [
        policy(
            "x/in",
            "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]",
        ),
        policy(
            "x/out",
            "podSelector: {matchLabels: {app: c}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: a}}}]}]",
        ),
    ];
    let config = cluster::cluster(&["x/a", "x/b", "x/c"]).manifest(FILE, policies.join("---\n"));
    Ok(Lab::start(config)?)
}

fn enforced(lab: &Lab, when: &str) -> Result<()> {
    let allow = ["x/b -> x/a:80", "x/a x/b -> x/c:8080", "x/a -> x/b:80"];
    let deny = ["x/c 172.17.0.5 -> x/a:80", "x/c -> x/b:80"];
    expect(lab, &allow, &deny, when)
}

/// Live connections in every direction, over both families.
fn hold(lab: &Lab) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for (from, to, port) in [("x/b", "x/a", 80), ("x/a", "x/b", 80), ("x/a", "x/c", 8080)] {
        for family in [Family::IPv4, Family::IPv6] {
            held.push(lab.hold(&Probe::new(from, to, port)?.over(family))?);
        }
    }
    Ok(held)
}

fn alive(held: &mut [Held], when: &str) -> Result<()> {
    for held in held {
        let answer = held.exchange(PATIENCE);
        answer.map_err(|error| {
            anyhow::anyhow!("{when}, a connection to {}: {error}", held.identity())
        })?;
    }
    Ok(())
}

fn killed() -> Result<()> {
    let lab = started()?;
    let mut held = hold(&lab)?;
    lab.kill_distributor();
    let started = Instant::now();
    // Long enough for sidecars to have noticed and tried again.
    while started.elapsed() < Duration::from_secs(3) {
        enforced(&lab, "without a distributor")?;
        alive(&mut held, "without a distributor")?;
        thread::sleep(Duration::from_millis(200));
    }
    let record = lab.decisions("x/a")?.pop().context("no record")?;
    ensure!(
        record["reason"] == "no-rule" && record["policies"] == serde_json::json!(["x/in"]),
        "denials are not explained any more: {record}"
    );

    // What changes meanwhile takes effect when it is back, and cuts what it turned against.
    lab.write_manifest(
        FILE,
        &policy("x/in", "podSelector: {matchLabels: {app: a}}"),
    )?;
    enforced(&lab, "nobody can have told the sidecars")?;
    lab.start_distributor()?;
    let back = Instant::now();
    lab.wait_applied()?;
    let took = back.elapsed();
    println!("sidecars followed a returned distributor in {took:?}");
    expect(
        &lab,
        &["x/c -> x/b:80"],
        &["x/b x/c -> x/a:80"],
        "with the distributor back",
    )?;
    for held in &mut held[..2] {
        ensure!(
            held.wait_cut(PATIENCE).is_some(),
            "a connection from b to a stands"
        );
    }
    alive(&mut held[2..], "with the distributor back")?;
    ensure!(
        took <= BACK,
        "sidecars took {took:?} to follow a distributor that is back"
    );
    Ok(())
}

fn restarted_sidecar() -> Result<()> {
    let lab = started()?;
    lab.kill_distributor();
    let before = lab.seen("x/a")?.len();
    lab.kill_sidecar("x/a")?;
    lab.start_sidecar("x/a")?;
    let started = Instant::now();
    // Until it runs, and after that without a snapshot.
    while started.elapsed() < Duration::from_secs(4) {
        expect(
            &lab,
            &["x/b -> x/c:8080"],
            &[
                "x/b x/c 172.17.0.5 -> x/a:80",
                "x/a -> x/b:80 x/c:8080 10.0.0.9:5978",
            ],
            "a sidecar without a snapshot",
        )?;
        thread::sleep(Duration::from_millis(200));
    }
    let seen = lab.seen("x/a")?.len() - before;
    ensure!(
        seen == 0,
        "{seen} connections came to the server behind a sidecar without a snapshot"
    );
    lab.start_distributor()?;
    let back = Instant::now();
    let probe = [Probe::new("x/b", "x/a", 80)?];
    while !lab.probe(&probe)?.iter().all(|result| result.answered) {
        ensure!(
            back.elapsed() < Duration::from_secs(60),
            "it does not open at all"
        );
        thread::sleep(Duration::from_millis(5));
    }
    let took = back.elapsed();
    println!("a sidecar without a snapshot opened {took:?} after the distributor was back");
    lab.wait_applied()?;
    enforced(&lab, "with a snapshot")?;
    ensure!(
        took <= BACK,
        "it opened {took:?} after the distributor was back"
    );
    Ok(())
}

fn restarted_distributor() -> Result<()> {
    let lab = started()?;
    let mut held = hold(&lab)?;
    let cuts = || {
        lab.stats("x/a", "sidewall_connections_cut")
            .map(|stats| stats.sum("wasmcustom.sidewall_connections_cut"))
    };
    for round in 1..=3 {
        let asked = Instant::now();
        let status = lab.stop_distributor()?;
        let took = asked.elapsed();
        ensure!(status.success(), "SIGTERM, and it ended with {status}");
        println!("SIGTERM: the distributor took {took:?} to end");
        ensure!(
            took < PATIENCE,
            "the distributor took {took:?} to end, with sidecars connected"
        );
        alive(&mut held, "after SIGTERM")?;
        lab.start_distributor()?;
        lab.wait_applied()?;
        alive(&mut held, "after a restart")?;
        enforced(&lab, &format!("restart {round}"))?;
    }
    // It serves those who were connected to its predecessor, too.
    lab.apply(FILE, NONE)?;
    expect(&lab, &["x/c -> x/a:80 x/b:80"], &[], "without a policy")?;
    alive(&mut held, "after a change")?;
    ensure!(cuts()? == 0, "{} connections were cut", cuts()?);
    Ok(())
}
