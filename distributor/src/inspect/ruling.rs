//! The answer on one connection, in the words that records use.

use serde::Serialize;
use sidewall_policy::eval::{Decision, Explanation, Flow, Verdict};
use sidewall_policy::model::Direction;
use sidewall_policy::snapshot::Snapshot;

/// Both sides of a connection. A side is missing where the other end is no pod, and both are where
/// nothing had to be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Ruling {
    /// Whether it may pass: no side denies it.
    pub(super) allowed: bool,
    /// Why no side was judged: `self`, `loopback` or `unknown-address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// The source's side.
    pub(super) egress: Option<Side>,
    /// The destination's side.
    pub(super) ingress: Option<Side>,
}

/// One side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Side {
    /// The pod that is judged, `namespace/name`.
    pub(super) pod: String,
    /// `allow`, `deny`, or `would-deny` when only audited policies object.
    pub(super) verdict: &'static str,
    /// Why, as in decision records: `not-isolated`, `rule`, `no-rule`, …
    pub(super) reason: &'static str,
    /// The policy whose rule allows, or every policy that isolates.
    pub(super) policies: Vec<String>,
    /// The rule that allows: `namespace/name ingress[0]`.
    pub(super) rule: Option<String>,
    /// On a deny, the rule that came nearest.
    pub(super) nearest: Option<Near>,
}

/// A rule that did not match, and the field that missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Near {
    pub(super) rule: String,
    pub(super) missed: &'static str,
}

impl Ruling {
    pub(super) fn new(snapshot: &Snapshot, flow: &Flow, decision: Decision) -> Self {
        let side = |direction| {
            snapshot
                .explain_side(flow, &decision, direction)
                .map(Side::new)
        };
        Self {
            allowed: decision.verdict == Verdict::Allow,
            reason: decision.whole.map(sidewall_policy::eval::Reason::as_str),
            egress: side(Direction::Egress),
            ingress: side(Direction::Ingress),
        }
    }

    /// Judged sides with their direction.
    pub(super) fn sides(&self) -> impl Iterator<Item = (Direction, &Side)> {
        [
            (Direction::Egress, &self.egress),
            (Direction::Ingress, &self.ingress),
        ]
        .into_iter()
        .filter_map(|(direction, side)| Some((direction, side.as_ref()?)))
    }

    /// Whether this side denies.
    pub(super) fn denied_by(&self, direction: Direction) -> bool {
        self.sides()
            .any(|(each, side)| each == direction && side.is_denied())
    }
}

impl Side {
    fn new(explanation: Explanation) -> Self {
        Self {
            pod: explanation.subject.unwrap_or_default(),
            verdict: explanation.verdict,
            reason: explanation.reason,
            policies: explanation.policies,
            rule: explanation.rule.map(|rule| rule.to_string()),
            nearest: explanation.nearest.map(|near| Near {
                rule: near.rule.to_string(),
                missed: near.missed,
            }),
        }
    }

    pub(super) fn is_denied(&self) -> bool {
        self.verdict == "deny"
    }

    /// Why, for people.
    pub(super) fn in_words(&self) -> String {
        let by = self.policies.join(", ");
        match (self.reason, &self.rule, &self.nearest) {
            ("not-isolated", ..) => "no policy isolates it in this direction".to_owned(),
            ("own-node", ..) => "its own node always passes".to_owned(),
            (_, Some(rule), _) => format!("by {rule}"),
            (_, None, Some(near)) => format!(
                "isolated by {by}; nearest is {}, whose `{}` does not match",
                near.rule, near.missed
            ),
            ("no-rule", None, None) => {
                format!("isolated by {by}, without any rule that could match")
            }
            (reason, ..) => reason.to_owned(),
        }
    }
}
