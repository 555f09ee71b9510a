//! Sidecars and the distributor may die: what was enforced stays enforced, what knows nothing is
//! closed, and everything comes back by itself.

#[path = "lab_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Error, Lab, LabConfig, Probe};
use world::{policy, three_pods};

fn main() -> ExitCode {
    harness::main(&[
        (
            "without_the_distributor_sidecars_go_on",
            without_distributor,
        ),
        (
            "a_sidecar_without_a_snapshot_is_closed_and_opens_with_one",
            restarted_sidecar,
        ),
        (
            "a_bad_manifest_is_reported_and_the_rest_goes_on",
            bad_manifest,
        ),
        ("nobody_is_asked_for_in_vain", unknown_names),
    ])
}

const FROM_B: &str = "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";

fn started() -> Result<Lab> {
    Ok(Lab::start(
        LabConfig::default()
            .manifest("cluster.yaml", three_pods())
            .manifest("policy.yaml", policy("p", FROM_B)),
    )?)
}

fn without_distributor() -> Result<()> {
    let lab = started()?;
    let mut held = lab.hold(&Probe::new("default/b", "default/a", 80)?)?;
    lab.kill_distributor();
    ensure!(
        held.wait_cut(Duration::from_millis(500)).is_none(),
        "a connection was cut"
    );
    ensure!(
        lab.reaches("default/b", "default/a", 80)? && !lab.reaches("default/c", "default/a", 80)?
    );
    // What changes meanwhile comes into force when it is back.
    lab.write_manifest(
        "policy.yaml",
        &policy("p", &FROM_B.replace("app: b", "app: c")),
    )?;
    ensure!(
        lab.reaches("default/b", "default/a", 80)?,
        "nobody can have told the sidecar"
    );
    lab.start_distributor()?;
    lab.wait_applied()?;
    ensure!(
        lab.reaches("default/c", "default/a", 80)? && !lab.reaches("default/b", "default/a", 80)?
    );
    Ok(())
}

fn restarted_sidecar() -> Result<()> {
    let lab = started()?;
    lab.kill_distributor();
    lab.kill_sidecar("default/a")?;
    ensure!(
        !lab.reaches("default/b", "default/a", 80)?,
        "nothing stands in front of a, and it is open"
    );
    lab.start_sidecar("default/a")?;
    thread::sleep(Duration::from_millis(500));
    ensure!(
        !lab.reaches("default/b", "default/a", 80)?,
        "a's sidecar knows no policy, and it is open"
    );
    ensure!(
        !lab.reaches("default/a", "default/b", 80)?,
        "a's sidecar knows no policy, and it lets out"
    );
    ensure!(
        lab.reaches("default/a", "default/a", 80)?,
        "a cannot reach itself"
    );
    ensure!(
        lab.seen("default/a")?.len() == 2,
        "only a itself, over each family, has come to a's server"
    );
    lab.start_distributor()?;
    lab.wait_sidecar_ready("default/a", Duration::from_secs(5))?;
    lab.wait_applied()?;
    ensure!(
        lab.reaches("default/b", "default/a", 80)? && !lab.reaches("default/c", "default/a", 80)?
    );
    Ok(())
}

fn bad_manifest() -> Result<()> {
    let lab = started()?;
    lab.write_manifest("bad.yaml", "{ this is: not, yaml\n")?;
    let port = policy(
        "bad-port",
        "podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: 70000}]}]",
    );
    lab.apply("port.yaml", &port)?;
    let problems = lab.status()?.problems;
    let reported = |object: &str, field: &str| {
        problems
            .iter()
            .any(|p| p.object.contains(object) && p.field.contains(field))
    };
    ensure!(reported("bad.yaml", ""), "{problems:?}");
    ensure!(
        reported("default/bad-port", "spec.ingress[0].ports[0]"),
        "{problems:?}"
    );
    ensure!(
        !lab.reaches("default/c", "default/b", 80)?,
        "what an invalid policy isolates stays isolated"
    );
    lab.apply(
        "policy.yaml",
        &policy("p", &FROM_B.replace("app: b", "app: c")),
    )?;
    ensure!(
        lab.reaches("default/c", "default/a", 80)?,
        "the good ones go on"
    );
    lab.remove_manifest("bad.yaml")?;
    lab.unapply("port.yaml")?;
    let problems = lab.status()?.problems;
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(())
}

fn unknown_names() -> Result<()> {
    let lab = started()?;
    let error = lab
        .reaches("default/a", "default/nobody", 80)
        .expect_err("there is no such pod");
    ensure!(
        matches!(&error, Error::Unknown(name) if name == "pod default/nobody"),
        "{error}"
    );
    let error = lab
        .reaches("default/a", "default/b", "http")
        .expect_err("the port is called web");
    ensure!(
        error.to_string().contains("no TCP port named http"),
        "{error}"
    );
    let error = lab
        .reaches("default/a", "service:default/nothing", 80)
        .expect_err("there is no such Service");
    ensure!(
        error.to_string().contains("Service default/nothing"),
        "{error}"
    );
    Ok(())
}
