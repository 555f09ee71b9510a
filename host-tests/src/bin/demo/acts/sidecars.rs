//! Act one: sidecars alone enforce, and they enforce TCP.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sidewall_host_tests::lab::{Lab, LabConfig, Probe, Source};
use sidewall_host_tests::probe::Protocol;

use super::{
    ANSWER, CUT, DEFAULT, EXAMPLE, Score, delivered, hold, show_pods, time_changes, title,
};
use crate::policies::{InForce, NamespaceDefault, TEST_NETWORK_POLICY, without_frontend};
use crate::scene::{ACT_ONE, CLUSTER};

/// Plays it.
pub fn play(score: &mut Score, source: Source) -> anyhow::Result<()> {
    title("ACT ONE: sidecars enforce");
    println!("Starting two nodes, five pods, an Envoy beside four of them, and the distributor …");
    let config = LabConfig::default().source(source);
    let lab =
        Lab::start(config.manifest("cluster.yaml", CLUSTER)).context("cannot start the lab")?;
    show_pods(&lab, "no sidecar")?;

    title("No policy: everybody reaches everybody");
    let mut in_force = InForce::default();
    try_all(score, &lab, in_force)?;

    title("test-network-policy: who may reach the database, and whom it may reach");
    println!("{}\n", indented(TEST_NETWORK_POLICY));
    let took = lab.apply(EXAMPLE, TEST_NETWORK_POLICY)?;
    println!(
        "{}; {} ms later every sidecar enforced it.\n",
        delivered(source),
        took.as_millis()
    );
    in_force.test_network_policy = true;
    try_all(score, &lab, in_force)?;
    show_decisions(&lab)?;
    cut_a_live_connection(&lab, score)?;

    for default in NamespaceDefault::ALL {
        title(&format!("{} on top of it", default.name()));
        println!("  {}\n", default.meaning());
        lab.apply(DEFAULT, &default.yaml())?;
        in_force.default = Some(default);
        try_all(score, &lab, in_force)?;
    }

    title("From a manifest to every sidecar");
    time_changes(&lab, "all four sidecars")
}

fn try_all(score: &mut Score, lab: &Lab, in_force: InForce) -> anyhow::Result<()> {
    let probes = ACT_ONE.probes(Protocol::Tcp, in_force)?;
    score.try_all(lab, ACT_ONE, &probes, |result| result.ok == Some(true))?;
    Ok(())
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("    {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// One denied connection of each kind, as the sidecars recorded it.
fn show_decisions(lab: &Lab) -> anyhow::Result<()> {
    println!("Why not? Each sidecar says so, in one line of JSON per denied connection:\n");
    for (pod, destination) in [("default/db", ":6379"), ("default/db", ":80")] {
        let records = lab.decisions(pod)?;
        let record = records
            .iter()
            .find(|record| {
                record["destination"]
                    .as_str()
                    .is_some_and(|d| d.ends_with(destination))
            })
            .with_context(|| format!("the sidecar of {pod} recorded no deny to {destination}"))?;
        let named = record["policies"] == serde_json::json!(["default/test-network-policy"]);
        ensure!(named, "the record does not name the policy: {record}");
        println!("    {record}");
    }
    println!();
    Ok(())
}

/// Two connections to the database, of which a policy change forbids one.
fn cut_a_live_connection(lab: &Lab, score: &mut Score) -> anyhow::Result<()> {
    title("A live connection, cut by a policy change");
    let to_db = |from| Probe::new(from, "default/db", 6379);
    let mut forbidden = hold(lab, &to_db("default/frontend")?)?;
    let mut allowed = hold(lab, &to_db("myproject/worker")?)?;
    println!("  frontend and worker are both connected to db and exchange data.");
    println!("  The rule for frontend is taken out of the policy …");
    let took = lab.apply(EXAMPLE, &without_frontend())?;
    let cut = forbidden.wait_cut(CUT);
    let alive = allowed.exchange(ANSWER);
    score.one(cut.is_some());
    score.one(alive.is_ok());
    match cut {
        Some(_) => println!(
            "  … frontend's connection is closed: {} ms after the change began, it was enforced everywhere;",
            took.as_millis()
        ),
        None => println!("  … but frontend's connection still stands after {CUT:?};"),
    }
    match alive {
        Ok(()) => println!("  … worker's connection did not notice.\n"),
        Err(error) => println!("  … but worker's connection broke: {error}\n"),
    }
    let records = lab.decisions("default/db")?;
    let record = records
        .iter()
        .rev()
        .find(|record| record["cut"] == Value::Bool(true))
        .context("the sidecar of default/db recorded no cut")?;
    println!("    {record}");
    lab.apply(EXAMPLE, TEST_NETWORK_POLICY)?;
    Ok(())
}
