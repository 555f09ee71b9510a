//! An Envoy of the lab, a sidecar or a node's: started, killed, started again, and asked what it enforces.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, lock};
use crate::envoy::{self, Envoy};

/// An Envoy, whether it runs at the moment or not.
#[derive(Debug)]
pub(super) struct Proxy {
    spec: envoy::Spec,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    envoy: Envoy,
    in_force: InForce,
    ready: bool,
}

/// Which snapshot each thread of an Envoy decides by, as revision by thread id, from the filter's own
/// words in the log. An ACK does not tell: it is sent before the workers have applied anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct InForce(BTreeMap<String, String>);

impl Proxy {
    pub(super) fn new(spec: envoy::Spec) -> Self {
        Self {
            spec,
            running: Mutex::default(),
        }
    }

    /// Starts it, unless it runs already. Does not wait.
    pub(super) fn start(&self) -> Result<(), Error> {
        let mut running = lock(&self.running);
        if running.is_none() {
            let envoy = Envoy::spawn(self.spec.clone())?;
            *running = Some(Running {
                envoy,
                in_force: InForce::default(),
                ready: false,
            });
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
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Envoy) -> Result<T, envoy::Error>,
    ) -> Result<T, Error> {
        let mut running = lock(&self.running);
        let running = running
            .as_mut()
            .ok_or_else(|| Error::NotRunning(self.spec.name.clone()))?;
        Ok(work(&mut running.envoy)?)
    }

    /// Waits until it accepts connections.
    pub(super) fn wait_ready(&self, timeout: Duration) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            // The lock is let go in between, so that it can be killed while it is waited for.
            match self.become_ready() {
                Err(Error::Envoy(envoy::Error::NotReady { .. })) if started.elapsed() < timeout => {
                    thread::sleep(Duration::from_millis(5));
                }
                done => return done,
            }
        }
    }

    /// Asks whether it accepts connections; once it does, it does for good.
    fn become_ready(&self) -> Result<(), Error> {
        let mut running = lock(&self.running);
        let running = running
            .as_mut()
            .ok_or_else(|| Error::NotRunning(self.spec.name.clone()))?;
        if !running.ready {
            running.envoy.wait_ready(Duration::ZERO)?;
            running.ready = true;
        }
        Ok(())
    }

    /// Whether every worker decides by this revision.
    pub(super) fn enforces(&self, revision: &str) -> bool {
        let mut running = lock(&self.running);
        let Some(Running {
            envoy, in_force, ..
        }) = running.as_mut()
        else {
            return false;
        };
        in_force.follow(&envoy.new_lines());
        // The workers, and the main thread, which decides nothing but has a VM too.
        let threads = usize::try_from(envoy.workers())
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        in_force.0.len() >= threads && in_force.0.values().all(|applied| applied == revision)
    }
}

impl InForce {
    fn follow(&mut self, lines: &str) {
        for (thread, revision) in lines.lines().filter_map(applied) {
            self.0.insert(thread.to_owned(), revision.to_owned());
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
[2026-11-22 23:14:43.881][32][error][wasm] [context.cc:1151] wasm log a b: sidewall: snapshot refused";

    #[test]
    fn each_thread_is_followed_to_its_latest_snapshot() {
        let mut in_force = InForce::default();
        in_force.follow(LOG);
        assert_eq!(in_force.0["32"], "0000000000000001");
        assert_eq!(in_force.0["40"], "0000000000000002", "it was restored");
        in_force.follow(&LOG.replace("0000000000000001", "0000000000000003"));
        assert_eq!(in_force.0["32"], "0000000000000003");
    }
}
