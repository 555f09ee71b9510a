//! Connections all the while: those that are allowed are answered, those that are denied are not, and those
//! that are open stay open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_host_tests::lab::{Expect, Family, Lab, Probe, failures};
use sidewall_host_tests::probe::Held;

use crate::site::{is_friend, pods};

/// How long an open connection may take to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two rounds: an Envoy writes a line for each connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Does something under traffic.
///
/// # Errors
///
/// When that fails, or a connection does not end as it should.
pub fn under<T>(lab: &Lab, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let probes = probes(lab)?;
    let mut held = hold(lab, &probes)?;
    let finished = AtomicBool::new(false);
    let (traffic, done) = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut tried = 0;
            let mut wrong = Vec::new();
            while !finished.load(Ordering::SeqCst) {
                let results = lab.probe(&probes)?;
                tried += results.len();
                wrong.extend(failures(&results).map(ToString::to_string));
                thread::sleep(PAUSE);
            }
            Ok::<_, anyhow::Error>((tried, wrong))
        });
        let done = work();
        finished.store(true, Ordering::SeqCst);
        let traffic = traffic.join();
        let traffic = traffic.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (traffic, done)
    });
    let done = done?;
    let (tried, wrong) = traffic?;
    ensure!(
        wrong.is_empty(),
        "{} of {tried} connections are not as expected:\n    {}",
        wrong.len(),
        wrong.join("\n    ")
    );
    ensure!(tried > probes.len(), "too little traffic to tell");
    for held in &mut held {
        let answer = held.exchange(PATIENCE);
        answer.map_err(|error| {
            anyhow::anyhow!("an open connection to {}: {error}", held.identity())
        })?;
    }
    println!("{tried} connections, {} of them kept open", held.len());
    Ok(done)
}

/// Each pod connects to the next: friends are let in, strangers are not.
fn probes(lab: &Lab) -> Result<Vec<Probe>> {
    let real = lab.pods().len();
    let pods: Vec<String> = pods().take(real).collect();
    let next = pods.iter().cycle().skip(1);
    let probe = |(number, (from, to)): (usize, (&String, &String))| {
        let expect = if is_friend(number) {
            Expect::Allow
        } else {
            Expect::Deny
        };
        let probe = Probe::new(from, to, 80)?;
        Ok(probe.over(Family::IPv4).expect(expect))
    };
    pods.iter().zip(next).enumerate().map(probe).collect()
}

fn hold(lab: &Lab, probes: &[Probe]) -> Result<Vec<Held>> {
    let allowed = probes
        .iter()
        .filter(|probe| probe.expect == Some(Expect::Allow));
    allowed.map(|probe| Ok(lab.hold(probe)?)).collect()
}
