//! With Kubernetes' own API server and kube-proxy: without a policy the node plane makes no difference, whatever is
//! dialled from wherever.
//!
//! Each case starts the same cluster twice, without the node plane and with it, tries the same ways, and compares who
//! answered, as whom the client was seen, and how everybody else was turned away.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "cluster_support/matrix.rs"]
mod matrix;
#[path = "cluster_support/scene.rs"]
mod scene;
#[path = "net_support/talk.rs"]
mod talk;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{KubeProxy, LabConfig, Plane};

fn main() -> ExitCode {
    harness::main_with_programs(
        &["etcd", "kube-apiserver", "kube-proxy"],
        &[
            ("no_difference_with_nftables", || {
                compare(KubeProxy::Nftables, false, "")
            }),
            ("no_difference_with_iptables", || {
                compare(KubeProxy::Iptables, false, "")
            }),
            ("no_difference_with_nftables_on_bridges", || {
                compare(KubeProxy::Nftables, true, "")
            }),
            ("no_difference_with_iptables_on_bridges", || {
                compare(KubeProxy::Iptables, true, "")
            }),
            ("rules_of_others_stay_in_force", || {
                compare(KubeProxy::Nftables, false, scene::RULES_OF_OTHERS)
            }),
            ("rules_of_others_stay_in_force_on_bridges", || {
                compare(KubeProxy::Iptables, true, scene::RULES_OF_OTHERS)
            }),
        ],
    )
}

/// Counts what differs: nothing may.
fn compare(mode: KubeProxy, bridged: bool, rules: &str) -> Result<()> {
    let run = |plane: Plane| -> Result<matrix::Outcomes> {
        let config = LabConfig::default().plane(plane).kube_proxy(mode);
        let config = if bridged { config.bridged() } else { config };
        let lab = scene::start(config, rules)?;
        matrix::run(&lab)
    };
    let (without, with) = (run(Plane::Proxy)?, run(Plane::Both)?);
    let answered = |outcomes: &matrix::Outcomes| {
        let mut answers = outcomes.values();
        answers
            .by_ref()
            .filter(|outcome| outcome.starts_with("answered"))
            .count()
    };
    let (ways, open) = (without.len(), answered(&without));
    println!("{mode:?}, bridged: {bridged}: {ways} ways, {open} answered without the node plane");
    // Of each kind enough, or the comparison says nothing.
    for kind in ["refused", "timed out"] {
        ensure!(
            without.values().any(|outcome| outcome.contains(kind)),
            "no way is {kind}"
        );
    }
    ensure!(
        open > ways / 3,
        "{open} of {ways} are answered: the cluster does not work"
    );
    let differences: Vec<String> = without
        .iter()
        .filter(|(way, outcome)| with.get(*way) != Some(outcome))
        .map(|(way, outcome)| {
            let with = with.get(way).map_or("not tried", String::as_str);
            format!("{way}: {outcome}; with the node plane: {with}")
        })
        .collect();
    ensure!(
        differences.is_empty(),
        "{} of {ways} ways differ:\n    {}",
        differences.len(),
        differences.join("\n    ")
    );
    Ok(())
}
