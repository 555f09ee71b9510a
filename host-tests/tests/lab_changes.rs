//! Policies change under steady traffic: what is allowed all along never fails, and what is denied
//! is never answered once the change is enforced.

#[path = "lab_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Family, Lab, LabConfig, Probe};
use sidewall_host_tests::probe::Held;
use world::{policy, three_pods};

/// How often the policy changes.
const CHANGES: usize = 200;

fn main() -> ExitCode {
    harness::main(&[(
        "no_allowed_connection_is_lost_and_no_denied_one_answered",
        steady_traffic,
    )])
}

/// `a` takes `b` always, and `c` in every other version. The file says something else each time.
fn version(number: usize) -> String {
    let c = if admits_c(number) {
        ", {podSelector: {matchLabels: {app: c}}}"
    } else {
        ""
    };
    let spec = format!(
        "podSelector: {{matchLabels: {{app: a}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: b}}}}}}{c}]}}, {{ports: [{{port: {}}}]}}]",
        1000 + number
    );
    policy("p", &spec)
}

fn admits_c(number: usize) -> bool {
    number % 2 == 1
}

fn steady_traffic() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .workers(2)
            .probe_timeout(Duration::from_secs(5))
            .manifest("policy.yaml", version(0)),
    )?;
    let finished = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let mut held = lab.hold(&Probe::new("default/b", "default/a", 80)?)?;
    let (traffic, changes) = thread::scope(|scope| {
        let traffic = [Family::IPv4, Family::IPv6].map(|family| {
            scope.spawn({
                let (lab, finished, answered) = (&lab, &finished, &answered);
                move || steady(lab, family, finished, answered)
            })
        });
        let changes = change(&lab);
        finished.store(true, Ordering::SeqCst);
        let traffic = traffic.map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        (traffic, changes)
    });
    changes?;
    for lost in traffic {
        lost?;
    }
    ensure!(
        held.exchange(Duration::from_secs(5)).is_ok(),
        "the connection that was allowed all along was cut"
    );
    let answered = answered.into_inner();
    ensure!(
        answered > 2 * CHANGES as u64,
        "too little traffic to mean anything: {answered} connections"
    );
    Ok(())
}

/// Connects from `b` to `a`, which every version allows, without a pause.
fn steady(lab: &Lab, family: Family, finished: &AtomicBool, answered: &AtomicU64) -> Result<()> {
    let probe = [Probe::new("default/b", "default/a", 80)?.over(family)];
    while !finished.load(Ordering::SeqCst) {
        for result in lab.probe(&probe)? {
            ensure!(result.answered, "an allowed connection was lost: {result}");
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

/// Changes the policy, and holds it to each version as soon as that is enforced.
fn change(lab: &Lab) -> Result<()> {
    let probe = [Probe::new("default/c", "default/a", 80)?];
    let mut doomed = None;
    for number in 1..=CHANGES {
        lab.apply("policy.yaml", &version(number))?;
        if let Some(mut held) = doomed.take() {
            let held: &mut Held = &mut held;
            ensure!(
                held.wait_cut(Duration::from_secs(1)).is_some(),
                "change {number}: a connection outlived its permission"
            );
        }
        for result in lab.probe(&probe)? {
            ensure!(
                result.answered == admits_c(number),
                "change {number}: {result}"
            );
        }
        if admits_c(number) {
            // The next version turns against it.
            doomed = Some(lab.hold(&probe[0]).context("holding what is allowed")?);
        }
    }
    Ok(())
}
