//! Two hundred policy changes under steady traffic: no allowed connection is lost, no denied one is
//! answered once the change is enforced.
//!
//! | client of `x/a` | |
//! |---|---|
//! | `x/b`, `172.17.0.5` | allowed by every version |
//! | `y/a` | denied by every version |
//! | `x/c` | allowed by every second one; else denied by the server's side and the client's in turn |
//!
//! Every version means another snapshot for every pod.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "e2e_support/cluster.rs"]
mod cluster;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster::policy;
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Family, Lab, Probe};
use sidewall_host_tests::probe::Held;

/// How often the policies change.
const CHANGES: usize = 200;
/// How long a connection may take on a busy machine. One that is lost is closed, which is told at
/// once.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a client does between two connections.
const PAUSE: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    harness::main(&[(
        "changes_lose_no_allowed_connection_and_let_no_denied_one_pass",
        under_traffic,
    )])
}

fn admits_c(version: usize) -> bool {
    version % 2 == 1
}

fn policies(version: usize) -> String {
    let other_port = 1000 + version;
    let c_at_the_server = if admits_c(version) || version % 4 == 2 {
        ", {podSelector: {matchLabels: {app: c}}}"
    } else {
        ""
    };
    let c_at_the_client = if version % 4 == 2 { "9" } else { "80" };
    [
        policy(
            "x/in",
            &format!(
                "podSelector: {{matchLabels: {{app: a}}}}, ingress: [{{from: [\
                 {{podSelector: {{matchLabels: {{app: b}}}}}}, {{ipBlock: {{cidr: 172.17.0.0/16}}}}{c_at_the_server}]}}]"
            ),
        ),
        policy(
            "x/out",
            &format!(
                "podSelector: {{matchLabels: {{app: c}}}}, policyTypes: [Egress], egress: [{{ports: [{{port: {c_at_the_client}}}]}}]"
            ),
        ),
        policy(
            "x/all",
            &format!("podSelector: {{}}, ingress: [{{ports: [{{port: {other_port}}}]}}]"),
        ),
        policy(
            "y/all",
            &format!("podSelector: {{}}, ingress: [{{ports: [{{port: {other_port}}}]}}]"),
        ),
    ]
    .join("---\n")
}

/// What everybody has to go by, and what became of it.
#[derive(Debug, Default)]
struct Run {
    finished: AtomicBool,
    /// Twice the version, plus one once it is enforced.
    phase: AtomicU64,
    /// New connections of those who are allowed all along.
    allowed: AtomicU64,
    /// Exchanges over connections that are allowed all along.
    exchanged: AtomicU64,
    /// Attempts of those who are denied all along.
    denied: AtomicU64,
    /// Attempts of `x/c` that began and ended within one enforced version.
    judged: AtomicU64,
    /// What should not have happened.
    wrong: Mutex<Vec<String>>,
}

impl Run {
    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push(what);
    }

    fn goes_on(&self) -> bool {
        !self.finished.load(SeqCst)
    }
}

fn under_traffic() -> Result<()> {
    let lab = Lab::start(
        cluster::cluster(&["x/a", "x/b", "x/c", "y/a"])
            .workers(2)
            .probe_timeout(PATIENCE)
            .manifest("policies.yaml", policies(0)),
    )?;
    let run = Run::default();
    let outcome = thread::scope(|scope| {
        let (lab, run) = (&lab, &run);
        let traffic = [
            scope.spawn(move || allowed(lab, run, "x/b", Family::IPv4)),
            scope.spawn(move || allowed(lab, run, "x/b", Family::IPv6)),
            scope.spawn(move || allowed(lab, run, "external:172.17.0.5", Family::IPv4)),
            scope.spawn(move || denied(lab, run)),
            scope.spawn(move || alternating(lab, run)),
            scope.spawn(move || held(lab, run)),
        ];
        let changes = change(lab, run);
        run.finished.store(true, SeqCst);
        let mut outcome = changes;
        for client in traffic {
            let done = client
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and_then(|times| done.map(|()| times));
        }
        outcome
    });
    let wrong = run
        .wrong
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let [allowed, exchanged, denied, judged] =
        [run.allowed, run.exchanged, run.denied, run.judged].map(AtomicU64::into_inner);
    let figures = format!(
        "{CHANGES} changes; {allowed} connections and {exchanged} exchanges allowed all along, \
         {denied} denied all along, {judged} by turns; {} wrong",
        wrong.len()
    );
    let Times { enforced, cut } = outcome.with_context(|| figures.clone())?;
    println!("{figures}; enforced after {enforced:?} and cut after {cut:?} at the most");
    ensure!(wrong.is_empty(), "{figures}:\n{}", wrong.join("\n"));
    let enough = CHANGES as u64 / 2;
    ensure!(
        allowed.min(exchanged).min(denied).min(judged) >= enough,
        "too little traffic to mean anything: {figures}"
    );
    Ok(())
}

/// New connections that every version allows.
fn allowed(lab: &Lab, run: &Run, from: &str, family: Family) -> Result<()> {
    let probe = [Probe::new(from, "x/a", 80)?.over(family)];
    while run.goes_on() {
        for result in lab.probe(&probe)? {
            run.allowed.fetch_add(1, SeqCst);
            if !result.answered {
                run.wrong(format!("lost: {result}"));
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// New connections that every version denies.
fn denied(lab: &Lab, run: &Run) -> Result<()> {
    let probe = [Probe::new("y/a", "x/a", 80)?];
    while run.goes_on() {
        for result in lab.probe(&probe)? {
            run.denied.fetch_add(1, SeqCst);
            if result.answered {
                run.wrong(format!("passed: {result}"));
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// New connections of the client that versions do not agree on. Only those that fall into the time
/// of one version are judged.
fn alternating(lab: &Lab, run: &Run) -> Result<()> {
    let probe = [Probe::new("x/c", "x/a", 80)?];
    while run.goes_on() {
        let before = run.phase.load(SeqCst);
        let results = lab.probe(&probe)?;
        let is_enforced = before % 2 == 1;
        if is_enforced && run.phase.load(SeqCst) == before {
            let version = usize::try_from(before / 2)?;
            for result in results {
                run.judged.fetch_add(1, SeqCst);
                if result.answered != admits_c(version) {
                    run.wrong(format!("version {version}: {result}"));
                }
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Connections that live through all versions.
fn held(lab: &Lab, run: &Run) -> Result<()> {
    let mut held = Vec::new();
    for (from, family) in [
        ("x/b", Family::IPv4),
        ("x/b", Family::IPv6),
        ("external:172.17.0.5", Family::IPv4),
    ] {
        held.push((from, lab.hold(&Probe::new(from, "x/a", 80)?.over(family))?));
    }
    while run.goes_on() && !held.is_empty() {
        held.retain_mut(|(from, held)| {
            run.exchanged.fetch_add(1, SeqCst);
            match held.exchange(PATIENCE) {
                Ok(()) => true,
                Err(error) => {
                    run.wrong(format!("a live connection of {from} broke: {error}"));
                    false
                }
            }
        });
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The longest of each.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    enforced: Duration,
    cut: Duration,
}

/// Changes the policies. Live connections of the client that versions do not agree on end with the
/// first version that denies it.
fn change(lab: &Lab, run: &Run) -> Result<Times> {
    let mut times = Times::default();
    let mut doomed: Vec<Held> = Vec::new();
    run.phase.store(1, SeqCst);
    for version in 1..=CHANGES {
        let phase = 2 * version as u64;
        run.phase.store(phase, SeqCst);
        let took = lab.apply("policies.yaml", &policies(version))?;
        run.phase.store(phase + 1, SeqCst);
        times.enforced = times.enforced.max(took);
        for mut held in doomed.drain(..) {
            match held.wait_cut(PATIENCE) {
                Some(took) => times.cut = times.cut.max(took),
                None => {
                    bail!("version {version}: a connection outlived its permission by {PATIENCE:?}")
                }
            }
        }
        if admits_c(version) {
            for family in [Family::IPv4, Family::IPv6] {
                let probe = Probe::new("x/c", "x/a", 80)?.over(family);
                let held = lab.hold(&probe);
                doomed.push(held.with_context(|| format!("version {version} allows this"))?);
            }
        }
        // Time for the others to come to a verdict.
        thread::sleep(Duration::from_millis(10));
    }
    Ok(times)
}
