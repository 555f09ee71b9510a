//! Whether a compiled snapshot says what the reference evaluator says.
//!
//! The two share their input types and nothing else, so that a mistake would have to be made twice
//! to stay unseen. Property tests, the fuzzer and `sidewall explain --verify` compare them here.

use std::collections::BTreeSet;

use crate::compile::Options;
use crate::eval::{Decision, Explanation, Flow, Reason, Side, Verdict};
use crate::model::{Cluster, Direction, NamespacedName};
use crate::reference::{self, SideOpinion, Why};
use crate::snapshot::Snapshot;

/// The two do not agree: one of them is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: the reference evaluator says {reference}, the snapshot {snapshot}")]
pub struct Disagreement {
    /// What they disagree about, such as `verdict`.
    pub what: String,
    /// The reference's word.
    pub reference: String,
    /// The snapshot's.
    pub snapshot: String,
}

/// Judges a flow by both, and holds the decision and what is told of it to the reference's opinion,
/// as far as the snapshot can know: only the sides of its `subjects` are judged.
///
/// # Errors
/// The first thing that differs: verdict, audit verdict, reason, policies or rule.
pub fn verify(
    cluster: &Cluster,
    options: &Options,
    (snapshot, subjects): (&Snapshot, &BTreeSet<NamespacedName>),
    flow: &Flow,
) -> Result<(), Disagreement> {
    let opinion = reference::judge(cluster, options, flow);
    let decision = snapshot.judge(flow);
    let known = |side: Option<SideOpinion>| side.filter(|side| subjects.contains(&side.subject));
    let sides = [
        (Direction::Egress, known(opinion.egress)),
        (Direction::Ingress, known(opinion.ingress)),
    ];
    for (direction, side) in &sides {
        compare_side(*direction, side.as_ref(), decision.side(*direction))?;
    }
    let sides: Vec<(Direction, SideOpinion)> = sides
        .into_iter()
        .filter_map(|(direction, side)| Some((direction, side?)))
        .collect();
    compare_whole((opinion.allowed, opinion.whole), &sides, &decision)?;
    for (direction, side) in &sides {
        if let Some(told) = snapshot.explain_side(flow, &decision, *direction) {
            compare_story(*direction, side, &told)?;
        }
    }
    compare_allowed_by(&sides, snapshot, &decision)?;
    same(
        "side that is told",
        &deciding(&sides),
        &snapshot.explain(flow, &decision).direction,
    )
}

/// The side that decides: one that denies, else one that audited policies would deny, else the first.
fn deciding(sides: &[(Direction, SideOpinion)]) -> Option<Direction> {
    sides
        .iter()
        .find(|(_, side)| !side.allowed)
        .or_else(|| sides.iter().find(|(_, side)| side.would_deny))
        .or_else(|| sides.first())
        .map(|(direction, _)| *direction)
}

/// The policies that access logs name on an allow.
fn compare_allowed_by(
    sides: &[(Direction, SideOpinion)],
    snapshot: &Snapshot,
    decision: &Decision,
) -> Result<(), Disagreement> {
    let named: Vec<String> = snapshot
        .allowed_by(decision)
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect();
    let mut needed: Vec<String> = Vec::new();
    let mut possible: BTreeSet<String> = BTreeSet::new();
    for (_, side) in sides {
        let policies = side.rules.iter().map(|rule| rule.policy.to_string());
        match side.why {
            Why::Rule => needed.extend(policies.take(1)),
            Why::ServiceAllowed => possible.extend(policies),
            _ => {}
        }
    }
    needed.dedup();
    if possible.is_empty() {
        return same("policies that allow", &needed, &named);
    }
    let are_possible = named
        .iter()
        .all(|policy| needed.contains(policy) || possible.contains(policy));
    same("policies that allow are some that do", &true, &are_possible)?;
    let are_all = !named.is_empty() && needed.iter().all(|policy| named.contains(policy));
    same("policies that allow are all that do", &true, &are_all)
}

/// The verdict that is made of the sides, or that needs none.
fn compare_whole(
    (allowed, whole): (bool, Option<Why>),
    sides: &[(Direction, SideOpinion)],
    decision: &Decision,
) -> Result<(), Disagreement> {
    let (allowed, would_deny, whole) = if sides.is_empty() {
        // Traffic of a pod with itself is known only to a snapshot that has the pod.
        let stranger =
            whole == Some(Why::SelfTraffic) && decision.whole == Some(Reason::UnknownAddress);
        match whole {
            Some(why) if !stranger => (allowed, false, Some(why)),
            _ => (false, false, Some(Why::UnknownAddress)),
        }
    } else {
        let allowed = sides.iter().all(|(_, side)| side.allowed);
        let audited = sides.iter().any(|(_, side)| side.would_deny);
        (allowed, allowed && audited, None)
    };
    same("verdict", &allowed, &(decision.verdict == Verdict::Allow))?;
    same("would deny", &would_deny, &decision.would_deny())?;
    same(
        "reason",
        &whole.map(Why::as_str),
        &decision.whole.map(Reason::as_str),
    )
}

fn compare_side(
    name: Direction,
    opinion: Option<&SideOpinion>,
    side: Option<Side>,
) -> Result<(), Disagreement> {
    same(
        &format!("{name} is judged"),
        &opinion.is_some(),
        &side.is_some(),
    )?;
    let Some((opinion, side)) = opinion.zip(side) else {
        return Ok(());
    };
    same(
        &format!("verdict of {name}"),
        &opinion.allowed,
        &(side.verdict == Verdict::Allow),
    )?;
    same(
        &format!("{name} would deny"),
        &opinion.would_deny,
        &side.would_deny,
    )?;
    // A snapshot leaves out services that it denies anyway, and then knows no more than that.
    let left_out = matches!(opinion.why, Why::ServiceDenied | Why::ServiceUnknownPort)
        && side.reason == Reason::NoRule;
    // Two good reasons to allow it.
    let both = opinion.why == Why::NotIsolated && side.reason == Reason::OwnNode;
    if left_out || both {
        return Ok(());
    }
    same(
        &format!("reason of {name}"),
        &opinion.why.as_str(),
        &side.reason.as_str(),
    )
}

/// What is told of a side.
fn compare_story(
    direction: Direction,
    side: &SideOpinion,
    told: &Explanation,
) -> Result<(), Disagreement> {
    same("direction told", &Some(direction), &told.direction)?;
    same(
        "subject told",
        &Some(side.subject.to_string()),
        &told.subject,
    )?;
    let verdict = match (side.allowed, side.would_deny) {
        (false, _) => "deny",
        (true, true) => "would-deny",
        (true, false) => "allow",
    };
    same("verdict told", &verdict, &told.verdict)?;
    if verdict != "allow" {
        let isolating = if side.allowed {
            &side.isolated_by_all
        } else {
            &side.isolated_by
        };
        let names: Vec<String> = isolating.iter().map(ToString::to_string).collect();
        same("policies told", &names, &told.policies)?;
        if let Some(near) = &told.nearest {
            let isolates = names.contains(&near.rule.policy);
            same("nearest rule is an isolating policy's", &true, &isolates)?;
        }
        return same("rule told", &None, &told.rule);
    }

    let matching: Vec<String> = side
        .rules
        .iter()
        .map(|rule| format!("{} {direction}[{}]", rule.policy, rule.index))
        .collect();
    let rule = told.rule.as_ref().map(ToString::to_string);
    match side.why {
        Why::Rule => same("rule told", &matching.first(), &rule.as_ref()),
        // Any rule that allows a backend may be named; without one, all are allowed otherwise.
        Why::ServiceAllowed => {
            let named = rule.map_or(matching.is_empty(), |rule| matching.contains(&rule));
            same("rule told is one that matches", &true, &named)
        }
        _ => same("rule told", &None, &rule),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    reference: &T,
    snapshot: &T,
) -> Result<(), Disagreement> {
    if reference == snapshot {
        return Ok(());
    }
    Err(Disagreement {
        what: what.to_owned(),
        reference: format!("{reference:?}"),
        snapshot: format!("{snapshot:?}"),
    })
}
