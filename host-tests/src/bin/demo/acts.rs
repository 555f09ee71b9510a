//! What is shown, in order.

mod nodes;
mod sidecars;

use std::time::Duration;

use anyhow::Context as _;
use sidewall_host_tests::bench;
use sidewall_host_tests::lab::{Lab, Probe, ProbeResult, Source};
use sidewall_host_tests::probe::Held;

use super::policies::NamespaceDefault;
use super::scene::Scene;

/// How many probes were tried, and how many came out right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub tried: usize,
    pub right: usize,
}

/// The files that the acts write into the manifests folder.
const EXAMPLE: &str = "test-network-policy.yaml";
const DEFAULT: &str = "default.yaml";

/// How long it may take until a change ends a live connection. Only a broken one takes longer.
const CUT: Duration = Duration::from_secs(10);
/// How long a live connection may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Plays the whole demo.
pub fn play(source: Source) -> anyhow::Result<Score> {
    let mut score = Score::default();
    sidecars::play(&mut score, source)?;
    nodes::play(&mut score, source)?;
    Ok(score)
}

impl Score {
    /// Tries probes, and draws what came of them.
    fn try_all(
        &mut self,
        lab: &Lab,
        scene: Scene,
        probes: &[Probe],
        right: impl Fn(&ProbeResult) -> bool,
    ) -> anyhow::Result<Vec<ProbeResult>> {
        let results = lab.probe(probes)?;
        println!("{}\n", scene.draw(&results, &right));
        for result in &results {
            self.one(right(result));
            if !right(result) {
                println!("  {result}");
            }
        }
        Ok(results)
    }

    fn one(&mut self, right: bool) {
        self.tried += 1;
        self.right += usize::from(right);
    }
}

/// How a manifest came to the distributor.
fn delivered(source: Source) -> &'static str {
    match source {
        Source::Manifests => "The file was written",
        Source::Kube => "kubectl was told to apply it",
    }
}

fn title(text: &str) {
    println!("\n== {text}\n");
}

/// Each pod with its addresses and what enforces at it.
fn show_pods(lab: &Lab, without_sidecar: &str) -> anyhow::Result<()> {
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
            without_sidecar
        };
        println!("    {pod:18} {:28} {beside}", addresses.join(" "));
    }
    Ok(())
}

fn hold(lab: &Lab, probe: &Probe) -> anyhow::Result<Held> {
    let describe = || format!("{} to {} over {}", probe.from, probe.to, probe.protocol);
    lab.hold(probe).with_context(describe)
}

/// Changes policies a number of times, and says how long each took to be enforced by `whom`.
fn time_changes(lab: &Lab, whom: &str) -> anyhow::Result<()> {
    const CHANGES: usize = 20;
    let mut took = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let default = NamespaceDefault::ALL[change % NamespaceDefault::ALL.len()];
        took.push(lab.apply(DEFAULT, &default.yaml())?.as_secs_f64() * 1e3);
    }
    let slowest = bench::percentile(&mut took, 1.0);
    println!(
        "  {CHANGES} changes, each enforced by {whom}: median {:.0} ms, slowest {slowest:.0} ms\n",
        bench::median(took)
    );
    Ok(())
}
