//! Holds the compiled snapshot to the reference evaluator over random clusters and flows.
//!
//! `PROPTEST_CASES=20000 cargo test -p sidewall-policy --release --test eval_matches_reference`
//! looks harder.

mod support {
    pub mod cluster;
    pub mod config;
    pub mod flow;
}

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestCaseResult, TestRunner};
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{Cluster, NamespacedName};
use sidewall_policy::reference::{self, Why};
use sidewall_policy::snapshot::Snapshot;
use sidewall_policy::verify::verify;
use support::flow::{Aim, Targets, aim};

/// Flows tried in each cluster.
const FLOWS: usize = 60;

proptest! {
    #![proptest_config(support::config::tried(256))]

    /// A node's bundle: every pod of the cluster is a subject.
    #[test]
    fn a_bundle_of_all_pods_agrees(
        cluster in support::cluster::cluster(),
        options in options(),
        aims in vec(aim(), FLOWS),
    ) {
        let subjects: BTreeSet<NamespacedName> = cluster.pods.keys().cloned().collect();
        agrees(&cluster, &subjects, &options, &aims)?;
    }

    /// A sidecar's bundle: one pod is the subject, and only its sides are judged.
    #[test]
    fn a_bundle_of_one_pod_agrees(
        cluster in support::cluster::cluster(),
        options in options(),
        chosen in any::<Index>(),
        aims in vec(aim(), FLOWS),
    ) {
        let pods: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
        let subjects = match pods.as_slice() {
            [] => BTreeSet::new(),
            pods => BTreeSet::from([chosen.get(pods).clone()]),
        };
        agrees(&cluster, &subjects, &options, &aims)?;
    }
}

/// A property test is worth what its inputs reach: every reason on every side it can have, both
/// with and without an objection of audited policies.
#[test]
fn the_strategies_reach_every_kind_of_verdict() {
    let mut runner = TestRunner::deterministic();
    let strategy = (support::cluster::cluster(), options(), vec(aim(), FLOWS));
    let mut wholes = BTreeSet::new();
    let mut sides = BTreeSet::new();
    for _ in 0..400 {
        let (cluster, options, aims) = strategy
            .new_tree(&mut runner)
            .expect("strategies reject nothing")
            .current();
        let targets = Targets::of(&cluster);
        for aim in &aims {
            let opinion = reference::judge(&cluster, &options, &targets.flow(aim));
            wholes.extend(opinion.whole.map(Why::as_str));
            let judged = [("egress", opinion.egress), ("ingress", opinion.ingress)];
            for (direction, side) in judged {
                sides.extend(side.map(|s| (direction, s.why.as_str(), s.allowed, s.would_deny)));
            }
        }
    }
    let expected = ["loopback", "self", "unknown-address"];
    assert_eq!(wholes, BTreeSet::from(expected));
    // More policies only ever add rules: what a rule allows, audited policies do not take back, so
    // they object only where nothing enforced isolates.
    let expected = BTreeSet::from([
        ("egress", "own-node", true, false),
        ("egress", "not-isolated", true, false),
        ("egress", "not-isolated", true, true),
        ("egress", "rule", true, false),
        ("egress", "no-rule", false, false),
        ("egress", "service-allowed", true, false),
        ("egress", "service-denied", false, false),
        ("egress", "service-mixed", true, false),
        ("egress", "service-mixed", false, false),
        ("egress", "service-unknown-port", false, false),
        ("ingress", "own-node", true, false),
        ("ingress", "not-isolated", true, false),
        ("ingress", "not-isolated", true, true),
        ("ingress", "rule", true, false),
        ("ingress", "no-rule", false, false),
    ]);
    assert_eq!(sides, expected);
}

fn options() -> impl Strategy<Value = Options> {
    any::<(bool, bool)>().prop_map(|(node_plane, enforce_own_node_egress)| Options {
        node_plane,
        enforce_own_node_egress,
        ..Options::default()
    })
}

fn agrees(
    cluster: &Cluster,
    subjects: &BTreeSet<NamespacedName>,
    options: &Options,
    aims: &[Aim],
) -> TestCaseResult {
    let in_order: Vec<NamespacedName> = subjects.iter().cloned().collect();
    let bytes = compile_snapshot(cluster, &in_order, options);
    let snapshot = Snapshot::check(bytes)
        .map_err(|error| TestCaseError::fail(format!("the snapshot is refused: {error}")))?;
    let targets = Targets::of(cluster);
    for aim in aims {
        let flow = targets.flow(aim);
        verify(cluster, options, (&snapshot, subjects), &flow).map_err(|difference| {
            let opinion = reference::judge(cluster, options, &flow);
            let decision = snapshot.judge(&flow);
            let told = snapshot.explain(&flow, &decision);
            TestCaseError::fail(format!(
                "{difference}\n{flow:?}\nreference: {opinion:#?}\neval: {decision:#?}\n{told:#?}"
            ))
        })?;
    }
    Ok(())
}
