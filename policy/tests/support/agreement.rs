//! What it means that a snapshot and the reference evaluator agree.

use std::collections::BTreeSet;

use sidewall_policy::eval::{Decision, Explanation, Flow, Reason, Side, Verdict};
use sidewall_policy::model::{Direction, NamespacedName};
use sidewall_policy::reference::{Opinion, SideOpinion, Why};

/// Holds a decision and what is told of it to the reference's opinion, as far as the snapshot can know:
/// only its subjects' sides are judged.
pub fn same(
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
