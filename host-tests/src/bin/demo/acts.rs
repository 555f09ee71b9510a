//! What is shown, in order.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sidewall_host_tests::bench;
use sidewall_host_tests::lab::{Lab, LabConfig, Probe, failures};

use super::policies::{InForce, NamespaceDefault, TEST_NETWORK_POLICY, without_frontend};
use super::scene;

/// How many probes were tried, and how many came out right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub tried: usize,
    pub right: usize,
}

/// The files that the acts write into the manifests folder.
const EXAMPLE: &str = "test-network-policy.yaml";
const DEFAULT: &str = "default.yaml";

/// How long a cut may take to reach the client. Only a broken one takes longer.
const CUT: Duration = Duration::from_secs(10);
/// How long a live connection may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Plays the whole demo.
pub fn play() -> anyhow::Result<Score> {
    let mut score = Score::default();
    println!("Starting two nodes, five pods, an Envoy beside four of them, and the distributor …");
    let lab = Lab::start(LabConfig::default().manifest("cluster.yaml", scene::CLUSTER))
        .context("cannot start the lab")?;
    show_pods(&lab)?;

    title("No policy: everybody reaches everybody");
    let mut in_force = InForce::default();
    score.try_all(&lab, in_force)?;

    title("test-network-policy: who may reach the database, and whom it may reach");
    println!("{}\n", indented(TEST_NETWORK_POLICY));
    let took = lab.apply(EXAMPLE, TEST_NETWORK_POLICY)?;
    println!(
        "The file was written; {} ms later every sidecar enforced it.\n",
        took.as_millis()
    );
    in_force.test_network_policy = true;
    score.try_all(&lab, in_force)?;
    show_decisions(&lab)?;
    cut_a_live_connection(&lab, &mut score)?;

    for default in NamespaceDefault::ALL {
        title(&format!("{} on top of it", default.name()));
        println!("  {}\n", default.meaning());
        lab.apply(DEFAULT, &default.yaml())?;
        in_force.default = Some(default);
        score.try_all(&lab, in_force)?;
    }

    title("From a file to every sidecar");
    time_changes(&lab)?;
    Ok(score)
}

impl Score {
    fn try_all(&mut self, lab: &Lab, in_force: InForce) -> anyhow::Result<()> {
        let results = lab.probe(&scene::probes(in_force)?)?;
        println!("{}\n", scene::draw(&results));
        for failure in failures(&results) {
            println!("  {failure}");
        }
        self.tried += results.len();
        self.right += results
            .iter()
            .filter(|result| result.ok == Some(true))
            .count();
        Ok(())
    }

    fn one(&mut self, right: bool) {
        self.tried += 1;
        self.right += usize::from(right);
    }
}

fn title(text: &str) {
    println!("\n== {text}\n");
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("    {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn show_pods(lab: &Lab) -> anyhow::Result<()> {
    println!();
    for (pod, sidecar) in lab.pods() {
        let addresses: Vec<String> = lab
            .addresses(&pod)?
            .iter()
            .map(ToString::to_string)
            .collect();
        let beside = if sidecar {
            "Envoy sidecar"
        } else {
            "no sidecar"
        };
        println!("    {pod:18} {:28} {beside}", addresses.join(" "));
    }
    Ok(())
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
    let hold = |from| {
        lab.hold(&Probe::new(from, "default/db", 6379)?)
            .map_err(anyhow::Error::from)
    };
    let mut forbidden = hold("default/frontend")?;
    let mut allowed = hold("myproject/worker")?;
    println!("  frontend and worker are both connected to db and exchange data.");
    println!("  The rule for frontend is taken out of the policy …");
    let took = lab.apply(EXAMPLE, &without_frontend())?;
    let cut = forbidden.wait_cut(CUT);
    let alive = allowed.exchange(ANSWER);
    score.one(cut.is_some());
    score.one(alive.is_ok());
    match cut {
        Some(_) => println!(
            "  … frontend's connection is closed: {} ms after the file changed, it was enforced everywhere;",
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

fn time_changes(lab: &Lab) -> anyhow::Result<()> {
    const CHANGES: usize = 20;
    let mut took = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let default = NamespaceDefault::ALL[change % NamespaceDefault::ALL.len()];
        took.push(lab.apply(DEFAULT, &default.yaml())?.as_secs_f64() * 1e3);
    }
    let slowest = bench::percentile(&mut took, 1.0);
    println!(
        "  {CHANGES} changes, each enforced by all four sidecars: median {:.0} ms, slowest {slowest:.0} ms\n",
        bench::median(took)
    );
    Ok(())
}
