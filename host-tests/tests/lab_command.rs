//! The `lab` command: exit codes, JSON, and nothing left behind.

#[path = "lab_support/world.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sidewall_host_tests::harness;
use world::{policy, three_pods};

fn main() -> ExitCode {
    harness::main(&[
        (
            "it_ends_with_0_when_all_is_as_expected_and_says_so_in_json",
            as_expected,
        ),
        ("it_ends_with_1_when_an_expectation_fails", not_as_expected),
        (
            "it_ends_with_2_and_a_reason_when_it_cannot_tell",
            cannot_tell,
        ),
        ("killed_it_leaves_no_process_behind", killed),
    ])
}

/// A folder with pods a, b and c, of which a takes nothing, and a file of probes next to it.
fn files(probes: &str) -> Result<tempfile::TempDir> {
    // Not in the sandbox's own scratch space, which the command covers with that of its sandbox.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    let policy = policy("p", "podSelector: {matchLabels: {app: a}}");
    fs::write(
        manifests.join("all.yaml"),
        format!("{}---\n{policy}", three_pods()),
    )?;
    fs::write(folder.path().join("probes.yaml"), probes)?;
    Ok(folder)
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.arg("--manifests").arg(folder.join("manifests"));
    command.arg("--probes").arg(folder.join("probes.yaml"));
    command
}

fn run(probes: &str, arguments: &[&str]) -> Result<Output> {
    let folder = files(probes)?;
    Ok(command(folder.path()).args(arguments).output()?)
}

const DENIED: &str = "- {from: default/b, to: default/a, port: web, family: IPv4, expect: deny}\n";
const ALLOWED: &str = "- {from: default/a, to: default/b, port: 80, expect: allow}\n";

fn as_expected() -> Result<()> {
    let output = run(
        &format!("{DENIED}{ALLOWED}"),
        &["--plane", "proxy", "--output", "json"],
    )?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(0),
        "{}: {errors}",
        output.status
    );
    let results: Vec<Value> =
        serde_json::from_slice(&output.stdout).context("not the JSON that was asked for")?;
    ensure!(
        results.len() == 3,
        "one result for IPv4, and one for each family: {results:?}"
    );
    let denied = serde_json::json!({
        "from": "default/b", "to": "default/a", "protocol": "TCP", "port": 80, "family": "IPv4",
        "connected": true, "answered": false, "expected": "deny", "ok": true,
        "error": "closed before the server spoke", "took_ms": results[0]["took_ms"],
    });
    ensure!(results[0] == denied, "{}", results[0]);
    ensure!(
        results[2]["family"] == "IPv6"
            && results[2]["answered"] == true
            && results[2]["error"].is_null(),
        "{}",
        results[2]
    );
    Ok(())
}

fn not_as_expected() -> Result<()> {
    let output = run(&DENIED.replace("deny", "allow"), &[])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
    ensure!(
        text.starts_with("FAIL default/b -> default/a TCP 80 IPv4: not answered"),
        "{text}"
    );
    ensure!(
        text.ends_with("1 results, 1 with an expectation, 1 not as expected\n"),
        "{text}"
    );
    Ok(())
}

fn cannot_tell() -> Result<()> {
    for (probes, reason) in [
        ("- {from: default/b, to: default/a}\n", "probes.yaml: "),
        (
            "- {from: default/b, to: default/nobody, port: 80}\n",
            "there is no pod default/nobody",
        ),
    ] {
        let output = run(probes, &[])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && errors.contains(reason),
            "{}: {errors}",
            output.status
        );
    }
    Ok(())
}

fn killed() -> Result<()> {
    let folder = files(DENIED)?;
    let mut lab = command(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut started = Vec::new();
    wait("an Envoy runs", || {
        started = descendants(lab.id())?;
        Ok(started.iter().any(|(_, name)| name == "envoy"))
    })?;
    lab.kill()?;
    lab.wait()?;
    wait("every process of the lab has ended", || {
        started.retain(|(process, _)| runs(*process));
        Ok(started.is_empty())
    })
}

/// Whether a process still runs. One that nobody has asked for its end, as in a sandbox nobody does
/// for orphans, is listed as a zombie.
fn runs(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn wait(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !done()? {
        ensure!(
            started.elapsed() < Duration::from_secs(60),
            "waited for a minute until {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The processes that a process has started, and those that they have; with their names.
fn descendants(ancestor: u32) -> Result<Vec<(u32, String)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // One that ends meanwhile is of no interest any more.
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        // PID (NAME) STATE PARENT …
        let fields = stat
            .split_once(" (")
            .and_then(|(process, rest)| Some((process, rest.rsplit_once(") ")?)));
        let (process, (name, rest)) = fields.with_context(|| stat.clone())?;
        let parent = rest.split(' ').nth(1).with_context(|| stat.clone())?;
        all.push((
            process.parse::<u32>()?,
            parent.parse::<u32>()?,
            name.to_owned(),
        ));
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for (process, _, name) in all.iter().filter(|(_, of, _)| *of == parent) {
            parents.push(*process);
            found.push((*process, name.clone()));
        }
    }
    Ok(found)
}
