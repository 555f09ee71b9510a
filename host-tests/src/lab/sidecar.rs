//! One pod's sidecar: started, killed, started again, and asked what it enforces.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, lock};
use crate::envoy::{self, Envoy};

/// A pod's sidecar, whether it runs at the moment or not.
#[derive(Debug)]
pub(super) struct Sidecar {
    pod: String,
    spec: envoy::Spec,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    envoy: Envoy,
    in_force: InForce,
}

/// Which snapshot each thread of an Envoy decides by, from the filter's own words in its log. An
/// ACK does not tell: it is sent before the workers have applied anything (`envoy 1`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct InForce {
    /// How much of the log has been read, in bytes.
    read: usize,
    /// Revision by thread id.
    threads: BTreeMap<String, String>,
}

impl Sidecar {
    pub(super) fn new(pod: String, spec: envoy::Spec) -> Self {
        Self { pod, spec, running: Mutex::default() }
    }

    /// Starts it, unless it runs already. Does not wait.
    pub(super) fn start(&self) -> Result<(), Error> {
        let mut running = lock(&self.running);
        if running.is_none() {
            let envoy = Envoy::spawn(self.spec.clone())?;
            // What an earlier process wrote says nothing of this one.
            let in_force = InForce { read: envoy.log_at_start(), ..InForce::default() };
            *running = Some(Running { envoy, in_force });
        }
        Ok(())
    }

    /// Ends it without notice.
    pub(super) fn kill(&self) {
        *lock(&self.running) = None;
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.running).is_some()
    }

    /// Does something with the process.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Envoy) -> Result<T, envoy::Error>) -> Result<T, Error> {
        let mut running = lock(&self.running);
        let running = running.as_mut().ok_or_else(|| Error::NoSidecar(self.pod.clone()))?;
        Ok(work(&mut running.envoy)?)
    }

    /// Waits until it accepts connections.
    pub(super) fn wait_ready(&self, timeout: Duration) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            // The lock is let go in between, so that it can be killed while it is waited for.
            match self.with(|envoy| envoy.wait_ready(Duration::ZERO)) {
                Err(Error::Envoy(envoy::Error::NotReady { .. })) if started.elapsed() < timeout => {
                    thread::sleep(Duration::from_millis(5));
                }
                done => return done,
            }
        }
    }

    /// Whether every worker decides by this revision.
    pub(super) fn enforces(&self, revision: &str) -> bool {
        let mut running = lock(&self.running);
        let Some(Running { envoy, in_force }) = running.as_mut() else { return false };
        in_force.follow(&envoy.log());
        // The workers, and the main thread, which decides nothing but has a VM too.
        let threads = usize::try_from(envoy.workers()).unwrap_or(usize::MAX).saturating_add(1);
        in_force.threads.len() >= threads && in_force.threads.values().all(|applied| applied == revision)
    }
}

impl InForce {
    /// Reads the lines that are new and complete.
    fn follow(&mut self, log: &str) {
        let new = log.get(self.read..).unwrap_or_default();
        let Some(end) = new.rfind('\n') else { return };
        self.read += end + 1;
        for line in new[..end].lines() {
            if let Some((thread, revision)) = applied(line) {
                self.threads.insert(thread.to_owned(), revision.to_owned());
            }
        }
    }
}

/// Thread and revision of `[time][thread][level][wasm] … sidewall: snapshot REVISION in force …`, or
/// `… restored` after a trap.
fn applied(line: &str) -> Option<(&str, &str)> {
    let (_, said) = line.split_once("sidewall: snapshot ")?;
    let (revision, fate) = said.split_once(' ')?;
    let is_applied = fate.starts_with("in force") || fate.starts_with("restored");
    let (_, thread) = line.split_once("][")?;
    let (thread, _) = thread.split_once(']')?;
    is_applied.then_some((thread, revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[2026-11-22 23:14:42.877][32][info][wasm] [context.cc:1151] wasm log a b: sidewall: snapshot 0000000000000001 in force: 1 subjects
[2026-11-22 23:14:42.880][40][info][wasm] [context.cc:1151] wasm log a b: sidewall: snapshot 0000000000000001 in force: 1 subjects
[2026-11-22 23:14:42.881][40][info][main] [server.cc:1] something else
[2026-11-22 23:14:43.880][40][info][wasm] [context.cc:1151] wasm log a b: sidewall: snapshot 0000000000000002 restored
[2026-11-22 23:14:43.881][32][info][wasm] [context.cc:1151] wasm log a b: sidewall: snapshot 0000000000000002 in fo";

    #[test]
    fn each_thread_is_followed_to_its_latest_snapshot() {
        let mut in_force = InForce::default();
        in_force.follow(LOG);
        assert_eq!(in_force.threads["32"], "0000000000000001", "the last line is not complete yet");
        assert_eq!(in_force.threads["40"], "0000000000000002");
        in_force.follow(&format!("{LOG}rce: 1 subjects\n"));
        assert_eq!(in_force.threads["32"], "0000000000000002");
    }
}
