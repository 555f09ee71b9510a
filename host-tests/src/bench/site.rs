//! One Envoy to be measured, alone in a network namespace where every address of 10.0.0.0/8 is its
//! own, so that clients can come from any of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sidewall_policy::snapshot::{Revision, Snapshot};

use super::bootstrap::{Front, bootstrap, carrying};
use super::usage;
use crate::envoy::{Envoy, Spec, artifact};
use crate::net::Netns;
use crate::sandbox;

/// Longer than anything here takes unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Envoy.
#[derive(Debug)]
pub struct Site {
    envoy: Envoy,
    front: Front,
    carried: PathBuf,
    version: AtomicU32,
    netns: Netns,
}

/// A snapshot that has come into force.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// From the appearance of its file until every thread decided by it.
    pub took: Duration,
    /// How many live connections it left open.
    pub kept: u64,
}

impl Site {
    /// Starts an Envoy and waits until it is ready. `name` is that of a file; `more` listeners
    /// stand by that nobody connects to, each with the same front.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not become ready.
    pub fn start(name: &str, front: Front, workers: u32, more: u16) -> Result<Self> {
        let netns = Netns::create(name)?;
        for arguments in ["link set lo up", "route add local 10.0.0.0/8 dev lo"] {
            let status = netns.command("ip").args(arguments.split(' ')).status()?;
            ensure!(status.success(), "{name}: ip {arguments}: {status}");
        }
        let folder = sandbox::scratch().join("bench").join(name);
        fs::create_dir_all(&folder)?;
        let carried = folder.join("carried.json");
        if let Front::Sidewall { module, snapshot } = &front {
            fs::write(&carried, carrying(module, snapshot, 0)?)?;
        }
        let spec = Spec {
            name: name.to_owned(),
            binary: artifact::install_envoy(&sandbox::scratch().join("bin"))?,
            netns: netns.clone(),
            bootstrap: bootstrap(&front, &carried, more)?,
            node_id: format!("bench/{name}"),
            workers,
            net_admin: false,
            folder,
        };
        let mut envoy = Envoy::spawn(spec)?;
        envoy.wait_ready(PATIENCE)?;
        let version = AtomicU32::new(0);
        let site = Self {
            envoy,
            front,
            carried,
            version,
            netns,
        };
        if let Front::Sidewall { snapshot, .. } = &site.front {
            site.wait_applied(&Snapshot::check(snapshot.clone())?, 0)?;
        }
        Ok(site)
    }

    /// Its network namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// What stands in front of its chains.
    #[must_use]
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// Hands it another snapshot, and waits until the main thread and every worker decide by it.
    ///
    /// # Errors
    ///
    /// When it was not started with Sidewall, or refuses the snapshot.
    pub fn push(&self, snapshot: &Snapshot) -> Result<Applied> {
        let Front::Sidewall { module, .. } = &self.front else {
            bail!("nothing to push to")
        };
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let draft = self.carried.with_extension("draft");
        fs::write(&draft, carrying(module, snapshot.bytes(), version)?)?;
        let logged = self.envoy.log().len();
        let started = Instant::now();
        fs::rename(&draft, &self.carried)?;
        let kept = self.wait_applied(snapshot, logged)?;
        let took = started.elapsed();
        Ok(Applied { took, kept })
    }

    /// Waits for the filter's own word from every thread, in what was logged after so many bytes,
    /// and says how many live connections they kept.
    fn wait_applied(&self, snapshot: &Snapshot, logged: usize) -> Result<u64> {
        let threads = self.envoy.workers() as usize + 1;
        let started = Instant::now();
        loop {
            let log = self.envoy.log();
            let said = said(log.get(logged..).unwrap_or_default(), snapshot.revision());
            if said.len() >= threads {
                return Ok(said.values().sum());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "snapshot {} is in force on {} of {threads} threads; the log of Envoy:\n{log}",
                snapshot.revision(),
                said.len()
            );
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// The processor time it has used.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.envoy.pid())
    }

    /// Its resident memory in MiB.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resident(&self) -> Result<f64> {
        usage::resident(self.envoy.pid())
    }

    /// The sum of the counters whose names begin like this.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn count(&self, prefix: &str) -> Result<u64> {
        Ok(self.envoy.stats(&format!("^{prefix}"))?.sum(prefix))
    }
}

/// The lines `[time][thread]… snapshot REVISION in force: … N live connections kept …` by thread,
/// and N. The canary runs on the main thread before it.
fn said(log: &str, revision: Revision) -> BTreeMap<&str, u64> {
    let word = format!("snapshot {revision} in force");
    let mut said = BTreeMap::new();
    for line in log.lines() {
        if let Some((thread, kept)) = kept(line, &word) {
            said.insert(thread, kept);
        }
    }
    said
}

fn kept<'a>(line: &'a str, word: &str) -> Option<(&'a str, u64)> {
    let (before, after) = line.split_once(word)?;
    let thread = before.split(['[', ']']).nth(3)?;
    let (kept, _) = after.split_once(" live connections kept")?;
    Some((thread, kept.rsplit(' ').next()?.parse().ok()?))
}

/// Copies a file to where every user in the sandbox can read it.
///
/// # Errors
///
/// When it is not there.
pub fn staged(file: &Path) -> Result<PathBuf> {
    let name = file.file_name().context("a file name")?;
    let to = sandbox::scratch().join(name);
    fs::copy(file, &to).with_context(|| format!("copying {}", file.display()))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_say_what_they_kept() {
        let log = "\
[2026-01-01 00:00:00.001][8][info][wasm] [c.cc:1] wasm log a b: sidewall: snapshot 00000000000000aa in force: 1 subjects, 0 live connections kept, 0 cut
[2026-01-01 00:00:00.002][31][info][wasm] [c.cc:1] wasm log a b: sidewall: snapshot 00000000000000aa in force: 1 subjects, 12 live connections kept, 3 cut
[2026-01-01 00:00:00.003][31][info][wasm] [c.cc:1] wasm log a b: sidewall: snapshot 00000000000000bb in force: 1 subjects, 9 live";
        assert_eq!(
            said(log, Revision(0xaa)),
            BTreeMap::from([("31", 12), ("8", 0)])
        );
        assert_eq!(said(log, Revision(0xbb)), BTreeMap::new());
    }
}
