//! A decision in words, for records, access logs and people. Allocates; not on the path of what
//! is simply allowed.

use std::fmt;

use super::{Decision, Flow, Reason, Side, Verdict};
use crate::compile::protocol_code;
use crate::model::Direction;
use crate::snapshot::layout::{Entry, NONE, Subject};
use crate::snapshot::{Snapshot, TableView, View, slice};

/// Why a flow was decided as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `allow`, `deny`, or `would-deny` when only audited policies object.
    pub verdict: &'static str,
    /// The side that decided.
    pub direction: Option<Direction>,
    /// The pod whose side that is, as `namespace/name`.
    pub subject: Option<String>,
    /// The kind of reason: `loopback`, `self`, `unknown-address`, `own-node`, `not-isolated`,
    /// `rule`, `no-rule`, `service-allowed`, `service-denied`, `service-mixed` or
    /// `service-unknown-port`.
    pub reason: &'static str,
    /// On an allow by rule, the rule's policy; on a deny, every policy that isolates the subject
    /// in this direction. As `namespace/name`.
    pub policies: Vec<String>,
    /// The rule that allows.
    pub rule: Option<RuleName>,
    /// On a deny, the rule that came nearest.
    pub nearest: Option<NearMiss>,
    /// The service that the destination stands for, as `namespace/name`.
    pub service: Option<String>,
}

/// A rule by its policy and place, printed as `namespace/name ingress[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The policy, as `namespace/name`.
    pub policy: String,
    /// Which of its lists.
    pub direction: Direction,
    /// The place in that list.
    pub index: u32,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)
    }
}

/// The rule that came nearest to allowing a flow, and the field that did not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleName,
    /// `from` or `to` when only the peer differs; `ports` or `ports.protocol` when the peer
    /// matches but its port or protocol does not; `from and ports`, `to and ports` when neither
    /// does.
    pub missed: &'static str,
}

impl Snapshot {
    /// Puts a decision on a flow into words. Both must belong to this snapshot.
    pub fn explain(&self, flow: &Flow, decision: &Decision) -> Explanation {
        decision
            .direction()
            .and_then(|direction| self.explain_side(flow, decision, direction))
            .unwrap_or_else(|| {
                let reason = decision.whole.unwrap_or(Reason::UnknownAddress);
                Explanation::bare(verdict(decision.verdict, false), reason)
            })
    }

    /// The policies, as namespace and name, whose rules allow a flow: at most one for each side that
    /// was judged, egress first. None where no rule was needed. Never allocates.
    pub fn allowed_by(&self, decision: &Decision) -> impl Iterator<Item = (&str, &str)> {
        let side = |side: Option<Side>| {
            let view = self.view();
            let rule = view.rules.get(side?.reason.rule()? as usize)?;
            let policy = view.policies.get(rule.policy.get() as usize)?;
            Some((view.text(policy.namespace), view.text(policy.name)))
        };
        let (egress, ingress) = (side(decision.egress), side(decision.ingress));
        egress
            .into_iter()
            .chain(ingress.filter(|_| egress != ingress))
    }

    /// Puts one side of a decision into words, whether or not it was the one that decided. `None`
    /// if that side was not judged.
    pub fn explain_side(
        &self,
        flow: &Flow,
        decision: &Decision,
        direction: Direction,
    ) -> Option<Explanation> {
        let side = decision.side(direction)?;
        let mut explanation =
            Explanation::bare(verdict(side.verdict, side.would_deny), side.reason);
        self.view()
            .explain_side(direction, &side, &flow.normalised(), &mut explanation);
        Some(explanation)
    }
}

/// A verdict's name in records.
const fn verdict(verdict: Verdict, would_deny: bool) -> &'static str {
    match verdict {
        Verdict::Deny => "deny",
        Verdict::Allow if would_deny => "would-deny",
        Verdict::Allow => "allow",
    }
}

impl Explanation {
    /// A verdict of which nothing more is known yet.
    const fn bare(verdict: &'static str, reason: Reason) -> Self {
        Self {
            verdict,
            direction: None,
            subject: None,
            reason: reason.as_str(),
            policies: Vec::new(),
            rule: None,
            nearest: None,
            service: None,
        }
    }
}

impl Reason {
    /// Its name in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::SelfTraffic => "self",
            Self::UnknownAddress => "unknown-address",
            Self::OwnNode => "own-node",
            Self::NotIsolated => "not-isolated",
            Self::Rule(_) => "rule",
            Self::NoRule => "no-rule",
            Self::ServiceAllowed { .. } => "service-allowed",
            Self::ServiceDenied { .. } => "service-denied",
            Self::ServiceMixed { .. } => "service-mixed",
            Self::ServiceUnknownPort { .. } => "service-unknown-port",
        }
    }

    const fn rule(self) -> Option<u32> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::ServiceAllowed { rule, .. } => rule,
            _ => None,
        }
    }

    const fn service_port(self) -> Option<u32> {
        match self {
            Self::ServiceAllowed { service_port, .. }
            | Self::ServiceDenied { service_port }
            | Self::ServiceMixed { service_port }
            | Self::ServiceUnknownPort { service_port } => Some(service_port),
            _ => None,
        }
    }
}

impl View<'_> {
    fn explain_side(
        &self,
        direction: Direction,
        side: &Side,
        flow: &Flow,
        explanation: &mut Explanation,
    ) {
        explanation.direction = Some(direction);
        let Some(subject) = self.subjects.get(side.subject as usize) else {
            return;
        };
        explanation.subject = Some(self.qualified(subject.namespace, subject.name));

        let denied = side.verdict == Verdict::Deny;
        let table = self.table_of(subject, direction, side.would_deny);
        let reason = if side.would_deny {
            // The audited table objects; its reason is the one to tell.
            self.audit_reason(direction, subject, flow)
        } else {
            side.reason
        };
        explanation.reason = reason.as_str();
        explanation.service = reason
            .service_port()
            .and_then(|port| self.service_ports.get(port as usize))
            .map(|service| self.qualified(service.namespace, service.name));
        if denied || side.would_deny {
            if let Some(table) = table {
                explanation.policies = self.policy_names(&table);
                explanation.nearest = self.nearest(direction, &table, flow, reason);
            }
        } else if let Some(rule) = reason.rule() {
            explanation.rule = self.rule_name(direction, rule);
            explanation.policies = explanation
                .rule
                .iter()
                .map(|rule| rule.policy.clone())
                .collect();
        }
    }

    fn table_of(
        &self,
        subject: &Subject,
        direction: Direction,
        audited: bool,
    ) -> Option<TableView<'_>> {
        self.table(self.table_index(subject, direction, audited)?)
    }

    fn table_index(&self, subject: &Subject, direction: Direction, audited: bool) -> Option<u32> {
        let group = self.groups.get(subject.group.get() as usize)?;
        let index = match (direction, audited) {
            (Direction::Ingress, false) => group.ingress,
            (Direction::Ingress, true) => group.audit_ingress,
            (Direction::Egress, false) => group.egress,
            (Direction::Egress, true) => group.audit_egress,
        };
        (index.get() != NONE).then(|| index.get())
    }

    fn audit_reason(&self, direction: Direction, subject: &Subject, flow: &Flow) -> Reason {
        let on_own_node = self
            .is_own_node(subject, flow.peer(direction))
            .then(|| self.service_on_own_node(flow))
            .flatten();
        self.table_index(subject, direction, true)
            .map_or(Reason::NoRule, |table| {
                self.judge_table(table, direction, subject, flow, on_own_node)
                    .1
            })
    }

    fn policy_names(&self, table: &TableView<'_>) -> Vec<String> {
        slice(self.policy_refs, table.table.policies)
            .unwrap_or_default()
            .iter()
            .filter_map(|policy| self.policies.get(policy.get() as usize))
            .map(|policy| self.qualified(policy.namespace, policy.name))
            .collect()
    }

    fn rule_name(&self, direction: Direction, rule: u32) -> Option<RuleName> {
        let rule = self.rules.get(rule as usize)?;
        let policy = self.policies.get(rule.policy.get() as usize)?;
        Some(RuleName {
            policy: self.qualified(policy.namespace, policy.name),
            direction,
            index: rule.index.get(),
        })
    }

    /// The rule that came nearest: one that knows the peer but not the port, else one that knows
    /// the port but not the peer, else the first. A service is compared by its peer only, for its
    /// backends' ports are not kept.
    fn nearest(
        &self,
        direction: Direction,
        table: &TableView<'_>,
        flow: &Flow,
        reason: Reason,
    ) -> Option<NearMiss> {
        let miss = |rule, missed| {
            Some(NearMiss {
                rule: self.rule_name(direction, rule)?,
                missed,
            })
        };
        let (peers, both) = match direction {
            Direction::Ingress => ("from", "from and ports"),
            Direction::Egress => ("to", "to and ports"),
        };
        let rules = slice(self.table_rules, table.table.rules)?;
        let first = rules.first()?;
        if reason.service_port().is_some() {
            return miss(first.rule.get(), peers);
        }

        let known = self
            .entries_at(table, flow.peer(direction))
            .unwrap_or_default();
        let code = protocol_code(flow.protocol);
        let distance = |entry: &&Entry| {
            let below = entry.low.get().saturating_sub(flow.port);
            let above = flow.port.saturating_sub(entry.high.get());
            below.max(above)
        };
        let same_protocol = known.iter().filter(|entry| entry.protocol == code);
        if let Some(entry) = same_protocol.min_by_key(distance) {
            return miss(entry.rule.get(), "ports");
        }
        if let Some(entry) = known.iter().min_by_key(distance) {
            return miss(entry.rule.get(), "ports.protocol");
        }
        let knows_port = rules.iter().find(|rule| {
            self.entries_of(table, rule.class.get())
                .unwrap_or_default()
                .iter()
                .any(|entry| entry.protocol == code && distance(&entry) == 0)
        });
        match knows_port {
            Some(rule) => miss(rule.rule.get(), peers),
            None => miss(first.rule.get(), both),
        }
    }
}
