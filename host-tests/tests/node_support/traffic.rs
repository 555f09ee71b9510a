//! Steady traffic while something happens to a cluster, and what became of it.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::{Family, Lab, Probe};
use sidewall_host_tests::probe::{Protocol, attempt};

/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A packet that passes is answered within this time, mostly.
pub const MOMENT: Duration = Duration::from_millis(200);
/// What a client does between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// What everybody goes by, and what became of it.
#[derive(Debug, Default)]
pub struct Run {
    finished: AtomicBool,
    /// What is going on; what its numbers mean is the test's affair.
    phase: AtomicU64,
    /// How often, by phase and kind.
    counts: Mutex<BTreeMap<(u64, &'static str), u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Run {
    pub fn begin(&self, phase: u64) {
        self.phase.store(phase, SeqCst);
    }

    pub fn phase(&self) -> u64 {
        self.phase.load(SeqCst)
    }

    pub fn goes_on(&self) -> bool {
        !self.finished.load(SeqCst)
    }

    /// Counts something of a kind that a phase had.
    pub fn count(&self, phase: u64, kind: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((phase, kind)).or_default() += 1;
    }

    /// Keeps what should not have happened.
    pub fn wrong(&self, what: String) {
        let wrong = self.wrong.lock();
        wrong.unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// How often there was what, in the phases that are asked for.
    pub fn counts(&self, phases: impl Fn(u64) -> bool) -> BTreeMap<&'static str, u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = BTreeMap::new();
        for ((phase, kind), count) in &*counts {
            let sum: &mut u64 = sums.entry(*kind).or_default();
            *sum += if phases(*phase) { *count } else { 0 };
        }
        sums
    }

    /// Lets clients send until `act` is done, which is told what went wrong meanwhile if it fails.
    /// Anything that went wrong fails it.
    pub fn while_it_lasts<T>(
        &self,
        clients: Vec<Box<dyn FnOnce() -> Result<()> + Send + '_>>,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let outcome = thread::scope(|scope| {
            let clients: Vec<_> = clients
                .into_iter()
                .map(|client| scope.spawn(client))
                .collect();
            let mut outcome = act();
            self.finished.store(true, SeqCst);
            for client in clients {
                let done = client
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                outcome = outcome.and_then(|given| done.map(|()| given));
            }
            outcome
        });
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let told = format!(
            "{} wrong of {:?}:\n{}",
            wrong.len(),
            self.counts(|_| true),
            wrong.join("\n")
        );
        let given = outcome.with_context(|| told.clone())?;
        ensure!(wrong.is_empty(), "{told}");
        Ok(given)
    }
}

/// `3 denied, 7 exchanged`.
pub fn words(counts: &BTreeMap<&'static str, u64>) -> String {
    let words = counts.iter().map(|(kind, count)| format!("{count} {kind}"));
    words.collect::<Vec<_>>().join(", ")
}

/// New flows that are allowed all along.
pub fn allowed(lab: &Lab, run: &Run, kind: &'static str, probes: &[Probe]) -> Result<()> {
    while run.goes_on() {
        let phase = run.phase();
        for result in lab.probe(probes)? {
            run.count(phase, kind);
            if !result.answered {
                run.wrong(format!("lost in phase {phase}: {result}"));
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Attempts that are denied all along.
pub fn denied(lab: &Lab, run: &Run, from: &str, servers: &[&str]) -> Result<()> {
    for_each_way(lab, run, from, servers, |what, answered, phase| {
        run.count(phase, "denied");
        if answered {
            run.wrong(format!("passed in phase {phase}: {from} by {what}"));
        }
    })
}

/// One attempt after the other by TCP and UDP over both families, each as short as an answer takes.
/// `judge` is told what was tried, whether it was answered, and the phase in which it began.
pub fn for_each_way(
    lab: &Lab,
    run: &Run,
    from: &str,
    servers: &[&str],
    judge: impl Fn(&str, bool, u64) + Sync,
) -> Result<()> {
    let netns = lab.netns(from)?;
    let mut ways = Vec::new();
    for server in servers {
        for address in lab.addresses(server)? {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                ways.push((SocketAddr::new(address, 80), protocol));
            }
        }
    }
    while run.goes_on() {
        thread::scope(|scope| {
            for &(to, protocol) in &ways {
                let (netns, judge) = (&netns, &judge);
                scope.spawn(move || {
                    let before = run.phase();
                    if let Ok(report) = netns.run(|| attempt(to, protocol, MOMENT)) {
                        let answered = report.answered_by.is_some();
                        judge(&format!("{protocol} to {to}"), answered, before);
                    }
                });
            }
        });
        thread::sleep(MOMENT / 2);
    }
    Ok(())
}

/// Flows that live through everything, over both families.
pub fn held(lab: &Lab, run: &Run, probes: &[Probe]) -> Result<()> {
    let mut held = Vec::new();
    for probe in probes {
        for family in [Family::IPv4, Family::IPv6] {
            let what = format!("{} {family} to {}", probe.protocol, probe.to);
            held.push((what, lab.hold(&probe.clone().over(family))?));
        }
    }
    while run.goes_on() && !held.is_empty() {
        held.retain_mut(|(what, held)| {
            let phase = run.phase();
            run.count(phase, "exchanged");
            match held.exchange(PATIENCE) {
                Ok(()) => true,
                Err(error) => {
                    run.wrong(format!(
                        "a live flow broke in phase {phase}, {what}: {error}"
                    ));
                    false
                }
            }
        });
        thread::sleep(PAUSE);
    }
    Ok(())
}
