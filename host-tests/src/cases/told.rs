//! What an engine tells of one side of a connection, in words that all engines share.

use serde_json::Value;
use sidewall_policy::eval::{Decision, Explanation, Flow};
use sidewall_policy::model::{Direction, NamespacedName};
use sidewall_policy::reference::{Opinion, SideOpinion, Why};
use sidewall_policy::snapshot::Snapshot;

/// One side's verdict and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// The pod whose side it is.
    pub pod: String,
    /// `allow`, `deny` or `would-deny`.
    pub verdict: String,
    /// The kind of reason.
    pub reason: String,
    /// Of a denial, the policies that isolate.
    pub policies: Vec<String>,
    /// The rule that allows.
    pub rule: Option<String>,
}

const SIDES: [Direction; 2] = [Direction::Egress, Direction::Ingress];

impl Told {
    /// The sides that a snapshot judges.
    pub(super) fn by(snapshot: &Snapshot, flow: &Flow, decision: &Decision) -> Vec<Self> {
        let side = |direction| snapshot.explain_side(flow, decision, direction);
        SIDES
            .into_iter()
            .filter_map(|direction| Some(Self::new(direction, side(direction)?)))
            .collect()
    }

    fn new(direction: Direction, explanation: Explanation) -> Self {
        let denies = explanation.verdict != "allow";
        Self {
            direction: direction.as_str(),
            pod: explanation.subject.unwrap_or_default(),
            verdict: explanation.verdict.to_owned(),
            reason: explanation.reason.to_owned(),
            policies: if denies {
                explanation.policies
            } else {
                Vec::new()
            },
            rule: explanation.rule.map(|rule| rule.to_string()),
        }
    }

    /// The sides that the reference judges.
    pub(super) fn by_reference(opinion: &Opinion) -> Vec<Self> {
        let sides = [&opinion.egress, &opinion.ingress];
        SIDES
            .into_iter()
            .zip(sides)
            .filter_map(|(direction, side)| Some(Self::of_opinion(direction, side.as_ref()?)))
            .collect()
    }

    fn of_opinion(direction: Direction, side: &SideOpinion) -> Self {
        let names = |names: &[NamespacedName]| names.iter().map(ToString::to_string).collect();
        let (verdict, policies) = match (side.allowed, side.would_deny) {
            (false, _) => ("deny", names(&side.isolated_by)),
            (true, true) => ("would-deny", names(&side.isolated_by_all)),
            (true, false) => ("allow", Vec::new()),
        };
        let first = side.rules.first().filter(|_| side.why == Why::Rule);
        Self {
            direction: direction.as_str(),
            pod: side.subject.to_string(),
            verdict: verdict.to_owned(),
            reason: side.why.as_str().to_owned(),
            policies,
            rule: first.map(|rule| format!("{} {direction}[{}]", rule.policy, rule.index)),
        }
    }

    /// What a decision record tells.
    pub fn by_record(record: &Value) -> Option<Self> {
        let text = |field: &str| record[field].as_str().map(str::to_owned);
        let names = record["policies"].as_array()?.iter();
        Some(Self {
            direction: SIDES
                .map(Direction::as_str)
                .into_iter()
                .find(|direction| record["direction"] == *direction)?,
            pod: text("pod")?,
            verdict: text("verdict")?,
            reason: text("reason")?,
            policies: names
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            rule: text("rule"),
        })
    }

    /// Whether it lets pass.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.verdict != "deny"
    }

    /// Whether two engines tell the same. Where they may differ is in words only: a snapshot leaves out
    /// Services that it denies anyway and then knows no more than that; and of several good reasons, or
    /// of rules for the backends of a Service, any may be named.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let same = |told: &Self| {
            (
                told.direction,
                told.pod.clone(),
                told.verdict.clone(),
                told.policies.clone(),
            )
        };
        let reasons = [self.reason.as_str(), other.reason.as_str()];
        let is = |words: [&str; 2]| reasons == words || reasons == [words[1], words[0]];
        let left_out = is(["service-denied", "no-rule"]) || is(["service-unknown-port", "no-rule"]);
        let both = is(["not-isolated", "own-node"]);
        let of_service = self.reason.starts_with("service") && reasons[0] == reasons[1];
        same(self) == same(other)
            && (reasons[0] == reasons[1] || left_out || both)
            && (self.rule == other.rule || of_service)
    }
}
