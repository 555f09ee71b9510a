//! Three replicas of the distributor behind one address, and a hundred sidecars under traffic: a few are
//! real, the others are clients that take and acknowledge snapshots as the real ones do.
//!
//! `SIDEWALL_SIDECARS=100` makes all of them real; `SIDEWALL_SECONDS=90` makes each part take that long.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "kube_support/compiled.rs"]
mod compiled;
#[path = "lab_replicas/site.rs"]
mod site;
#[path = "lab_replicas/traffic.rs"]
mod traffic;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_host_tests::bench::percentile;
use sidewall_host_tests::harness;

use site::{REPLICAS, shared};

fn main() -> ExitCode {
    harness::main(&[
        ("one_is_killed_every_few_seconds", killed),
        ("a_rolling_restart_is_not_noticed", restarted),
        ("all_of_them_and_the_api_server_are_away", away),
    ])
}

/// What the design promises for a change, whatever happens to replicas meanwhile ...
const PROMISED: Duration = Duration::from_secs(2);

/// ... and what a busy machine adds to it, for which nobody here is to blame.
const ALLOWANCE: Duration = Duration::from_secs(3);

/// How long kube-proxy goes on sending connections to a replica that died.
const UNNOTICED: Duration = Duration::from_secs(1);

/// Policies change all the while, and every few seconds a replica is killed and started again.
fn killed() -> Result<()> {
    shared(|site| {
        let seconds = site::seconds(30);
        let finished = AtomicBool::new(false);
        let kills = || -> Result<usize> {
            let mut kills = 0;
            while !finished.load(Ordering::SeqCst) {
                let number = kills % REPLICAS;
                site.kill(number);
                kills += 1;
                thread::sleep(UNNOTICED);
                site.take_out(number)?;
                site.start(number)?;
                site.wait_ready(number)?;
                thread::sleep(Duration::from_secs(2));
            }
            Ok(kills)
        };
        let changes = || -> Result<Vec<Duration>> {
            let started = Instant::now();
            let mut lags = Vec::new();
            while started.elapsed() < seconds {
                lags.extend(&site.change()?);
                thread::sleep(Duration::from_millis(300));
            }
            Ok(lags)
        };
        let (kills, lags) = traffic::under(&site.lab, || {
            thread::scope(|scope| {
                let kills = scope.spawn(kills);
                let lags = changes();
                finished.store(true, Ordering::SeqCst);
                let kills = kills.join();
                let kills = kills.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                Ok((kills?, lags?))
            })
        })?;
        ensure!(kills >= REPLICAS, "only {kills} were killed");
        in_time(&format!("{kills} replicas killed"), &lags)?;
        site.replicas_agree()
    })
}

/// One after the other is asked to end and replaced, as a Deployment does it. Nothing is sent to anybody.
fn restarted() -> Result<()> {
    shared(|site| {
        let applied = site.applied()?;
        traffic::under(&site.lab, || {
            for number in 0..REPLICAS {
                // A replica that is asked to end is out of rotation at about the same time.
                site.take_out(number)?;
                site.stop(number)?;
                site.start(number)?;
                site.wait_ready(number)?;
                thread::sleep(Duration::from_millis(500));
            }
            // Long enough for every client to have come back.
            thread::sleep(Duration::from_secs(2));
            Ok(())
        })?;
        ensure!(
            site.applied()? == applied,
            "a restart configured filters anew"
        );
        ensure!(site.is_silent(), "a restart sent snapshots");
        in_time("after a rolling restart", &site.change()?)?;
        site.replicas_agree()
    })
}

/// Nobody can tell the sidecars anything, for longer than any pause between attempts grows. What was in force
/// stays, and what changed meanwhile comes into force when all are back.
fn away() -> Result<()> {
    shared(|site| {
        let seconds = site::seconds(12);
        let applied = site.applied()?;
        let server = site.lab.api_server()?;
        traffic::under(&site.lab, || {
            (0..REPLICAS).for_each(|number| site.kill(number));
            server.kill();
            server.compact()?;
            thread::sleep(seconds);
            Ok(())
        })?;
        ensure!(site.applied()? == applied, "somebody told something");
        let lags = traffic::under(&site.lab, || {
            site.put()?;
            server.restart()?;
            let back = Instant::now();
            for number in 0..REPLICAS {
                site.start(number)?;
            }
            for number in 0..REPLICAS {
                site.wait_ready(number)?;
            }
            println!("three replicas were ready after {:?}", back.elapsed());
            site.arrived(back)
        })?;
        in_time(&format!("back after {seconds:?}"), &lags)?;
        in_time("once they are back", &site.change()?)
    })
}

/// Nobody was left behind.
fn in_time(what: &str, lags: &[Duration]) -> Result<()> {
    let late = lags.iter().filter(|lag| **lag > PROMISED).count();
    let mut seconds: Vec<f64> = lags.iter().map(Duration::as_secs_f64).collect();
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| percentile(&mut seconds, share));
    println!(
        "{what}: {} snapshots acknowledged, p50 {p50:.3} s, p99 {p99:.3} s, the last {most:.3} s; {late} after more than {PROMISED:?}",
        lags.len()
    );
    let longest = lags.iter().max().copied().unwrap_or_default();
    ensure!(
        longest < PROMISED + ALLOWANCE,
        "{what}: a sidecar was {longest:?} behind"
    );
    Ok(())
}
