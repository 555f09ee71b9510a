//! The `lab` command on the shipped example: what it says, and that nothing of a running cluster
//! is left on the machine, however it ends.
//!
//! These cases look from outside, so they do not enter the sandbox themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sidewall_host_tests::envoy::artifact;
use sidewall_host_tests::{harness, sandbox};

fn main() -> ExitCode {
    harness::main_outside(&[
        ("the_example_holds_and_is_cleared_away", to_the_end),
        ("interrupted_it_leaves_nothing", || ended_by(Signal::SIGINT)),
        ("killed_it_leaves_nothing", || ended_by(Signal::SIGKILL)),
    ])
}

/// The whole cluster: four Envoys and a distributor.
const ENVOYS: usize = 4;
/// How long a lab may take to come up, or to go, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its value marks all processes of one run: children inherit it.
const MARK: &str = "SIDEWALL_TEST_RUN";

fn start(mark: &str) -> Result<Child> {
    let examples = artifact::repository().join("host-tests/examples");
    let child = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("--manifests")
        .arg(examples.join("test-network-policy"))
        .arg("--probes")
        .arg(examples.join("test-network-policy.probes.yaml"))
        .args(["--output", "json"])
        .env(MARK, mark)
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

fn to_the_end() -> Result<()> {
    let (mark, before) = (mark("end"), traces()?);
    let output = start(&mark)?.wait_with_output()?;
    ensure!(output.status.code() == Some(0), "{}", output.status);
    let results: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let unmet: Vec<_> = results.iter().filter(|it| it["ok"] != true).collect();
    ensure!(unmet.is_empty(), "{unmet:#?}");
    let of = |field: &str, value: &str| results.iter().any(|it| it[field] == value);
    ensure!(
        of("expected", "allow") && of("expected", "deny") && of("family", "IPv6"),
        "the example has become too small: {results:#?}"
    );
    gone(&mark, &before)
}

fn ended_by(signal: Signal) -> Result<()> {
    let (mark, before) = (mark(signal.as_str()), traces()?);
    let mut lab = start(&mark)?;
    let started = Instant::now();
    loop {
        let running = marked(&mark)?;
        let count = |name: &str| running.iter().filter(|it| *it == name).count();
        if count("envoy") == ENVOYS && count("sidewall") == 1 {
            break;
        }
        ensure!(
            started.elapsed() < PATIENCE && lab.try_wait()?.is_none(),
            "the cluster does not come up: {running:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(i32::try_from(lab.id())?), signal)?;
    lab.wait()?;
    gone(&mark, &before)
}

fn mark(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

/// Waits until no process of that run is left, and compares what else there is.
fn gone(mark: &str, before: &BTreeSet<PathBuf>) -> Result<()> {
    let started = Instant::now();
    loop {
        let left = marked(mark)?;
        if left.is_empty() {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "processes are left: {left:?}");
        thread::sleep(Duration::from_millis(10));
    }
    let after = traces()?;
    let new: Vec<_> = after.difference(before).collect();
    ensure!(new.is_empty(), "left behind: {new:?}");
    Ok(())
}

/// The names of all processes with that mark. Zombies have none.
fn marked(mark: &str) -> Result<Vec<String>> {
    let wanted = format!("{MARK}={mark}");
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // Processes end while we look.
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        if variables.any(|variable| variable == wanted.as_bytes()) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            names.push(name.trim().to_owned());
        }
    }
    Ok(names)
}

/// What a lab makes in its sandbox, looked for outside: named namespaces, and files where it keeps
/// its own.
fn traces() -> Result<BTreeSet<PathBuf>> {
    let mut traces = BTreeSet::new();
    for folder in [Path::new("/run/netns"), sandbox::scratch()] {
        // Outside, neither has to exist.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            traces.insert(entry?.path());
        }
    }
    Ok(traces)
}
