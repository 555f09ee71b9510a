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
use sidewall_policy::eval::{Decision, Explanation, Flow, Reason, Side, Verdict};
use sidewall_policy::model::{Cluster, Direction, NamespacedName};
use sidewall_policy::reference::{self, Opinion, SideOpinion, Why};
use sidewall_policy::snapshot::Snapshot;
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
        let opinion = reference::judge(cluster, options, &flow);
        let decision = snapshot.judge(&flow);
        let told = snapshot.explain(&flow, &decision);
        same(&opinion, &decision, &told, subjects, &flow).map_err(|difference| {
            TestCaseError::fail(format!(
                "{difference}\n{flow:?}\nreference: {opinion:#?}\neval: {decision:#?}\n{told:#?}"
            ))
        })?;
    }
    Ok(())
}

/// Compares as far as the snapshot can know: only its subjects' sides are judged.
fn same(
    opinion: &Opinion,
    decision: &Decision,
    told: &Explanation,
    subjects: &BTreeSet<NamespacedName>,
    flow: &Flow,
) -> Result<(), String> {
    let known =
        |side: &Option<SideOpinion>| side.clone().filter(|side| subjects.contains(&side.subject));
    let (egress, ingress) = (known(&opinion.egress), known(&opinion.ingress));
    same_side("egress", egress.as_ref(), decision.egress)?;
    same_side("ingress", ingress.as_ref(), decision.ingress)?;

    let sides = [&egress, &ingress];
    let judged = sides.iter().any(|side| side.is_some());
    // Traffic of a pod with itself is known only to a snapshot that has the pod.
    let stranger =
        opinion.whole == Some(Why::SelfTraffic) && decision.whole == Some(Reason::UnknownAddress);
    let (allowed, would_deny, whole) = if judged {
        let allowed = sides
            .iter()
            .all(|side| side.as_ref().is_none_or(|s| s.allowed));
        let audited = sides
            .iter()
            .any(|side| side.as_ref().is_some_and(|s| s.would_deny));
        (allowed, allowed && audited, None)
    } else {
        match opinion.whole {
            Some(Why::SelfTraffic) if stranger => (false, false, Some(Why::UnknownAddress)),
            Some(why) => (opinion.allowed, false, Some(why)),
            None => (false, false, Some(Why::UnknownAddress)),
        }
    };
    expect("verdict", &allowed, &(decision.verdict == Verdict::Allow))?;
    expect("would deny", &would_deny, &decision.would_deny())?;
    expect(
        "reason",
        &whole.map(Why::as_str),
        &decision.whole.map(Reason::as_str),
    )?;
    let deciding = match decision.direction() {
        Some(Direction::Egress) => egress,
        Some(Direction::Ingress) => ingress,
        None => None,
    };
    deciding.map_or(Ok(()), |side| same_story(&side, decision, told, flow))
}

fn same_side(name: &str, opinion: Option<&SideOpinion>, side: Option<Side>) -> Result<(), String> {
    let (opinion, side) = match (opinion, side) {
        (None, None) => return Ok(()),
        (Some(opinion), Some(side)) => (opinion, side),
        (opinion, side) => return Err(format!("{name}: {opinion:?}, but {side:?}")),
    };
    expect(name, &opinion.allowed, &(side.verdict == Verdict::Allow))?;
    expect(name, &opinion.would_deny, &side.would_deny)?;
    // A snapshot leaves out services that it denies anyway, and then knows no more than that.
    let left_out = matches!(opinion.why, Why::ServiceDenied | Why::ServiceUnknownPort)
        && side.reason == Reason::NoRule;
    // Two good reasons to allow it.
    let both = opinion.why == Why::NotIsolated && side.reason == Reason::OwnNode;
    if left_out || both {
        return Ok(());
    }
    expect(name, &opinion.why.as_str(), &side.reason.as_str())
}

/// What is told of the deciding side.
fn same_story(
    side: &SideOpinion,
    decision: &Decision,
    told: &Explanation,
    flow: &Flow,
) -> Result<(), String> {
    let direction = decision.direction();
    expect("direction told", &direction, &told.direction)?;
    expect(
        "subject told",
        &Some(side.subject.to_string()),
        &told.subject,
    )?;

    let denied = decision.verdict == Verdict::Deny;
    if denied || decision.would_deny() {
        let isolating = if denied {
            &side.isolated_by
        } else {
            &side.isolated_by_all
        };
        let names: Vec<String> = isolating.iter().map(ToString::to_string).collect();
        expect("policies told", &names, &told.policies)?;
        if let Some(near) = &told.nearest {
            expect(
                "nearest rule of an isolating policy",
                &true,
                &names.contains(&near.rule.policy),
            )?;
        }
        return expect("rule told", &None, &told.rule);
    }

    let matching: Vec<String> = side
        .rules
        .iter()
        .map(|rule| match direction {
            Some(direction) => format!("{} {direction}[{}]", rule.policy, rule.index),
            None => String::new(),
        })
        .collect();
    let rule = told.rule.as_ref().map(ToString::to_string);
    match side.why {
        Why::Rule => expect("rule told", &matching.first(), &rule.as_ref()),
        // Any rule that allows a backend may be named.
        Why::ServiceAllowed | Why::ServiceMixed => {
            let named = rule.is_none_or(|rule| matching.contains(&rule));
            expect("rule told is one that matches", &true, &named)
        }
        _ => expect("rule told", &None, &rule),
    }
    .map_err(|difference| format!("{difference} ({flow:?})"))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, found: &T) -> Result<(), String> {
    if wanted == found {
        Ok(())
    } else {
        Err(format!(
            "{what}: the reference says {wanted:?}, eval {found:?}"
        ))
    }
}
