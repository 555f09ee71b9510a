//! Decision records: one line of JSON for every connection or packet that is denied, cut, or would
//! be denied by an audited policy. The proxy filter writes them to Envoy's log, the node agent to
//! its own; this module only words them.
//!
//! A line is [`PREFIX`], a space and an object with these fields, always in this order. New fields
//! may be added; these keep their names and meaning.
//!
//! | field | type | there when |
//! |---|---|---|
//! | `verdict` | `"deny"` or `"would-deny"` | always |
//! | `direction` | `"ingress"` or `"egress"`: the side that decided | a side was judged |
//! | `pod` | `"namespace/name"` whose side decided | a side was judged |
//! | `source`, `destination` | `"ip:port"`, or `"ip"` if the protocol has no ports, as the writer saw it: a sidecar before DNAT, the node after it | the writer saw one |
//! | `protocol` | `"TCP"`, `"UDP"`, `"SCTP"`, `"ICMP"`, `"ICMPv6"`, or the IANA number | always |
//! | `reason` | such as `"no-rule"`, or one of [`NO_SNAPSHOT`], [`NO_ADDRESS`], [`ALLOWED_BY_NOW`] | always |
//! | `policies` | `"namespace/name"` of every policy that isolates the pod | always, may be empty |
//! | `rule` | `"namespace/name ingress[0]"` that allowed it | a rule allowed |
//! | `nearest` | `{"rule": …, "missed": field}`: the rule that came nearest | a rule came near |
//! | `service` | `"namespace/name"` | the destination is a Service's address |
//! | `cut` | `true` | the connection was alive when the policy turned against it |
//! | `revision` | 16 hex digits of the snapshot that decided | there was a snapshot |

use std::borrow::Cow;

use crate::eval::Explanation;
use crate::model::Direction;
use crate::snapshot::Revision;
use serde::Serialize;

/// The first word of a record's log line.
pub const PREFIX: &str = "sidewall-decision";

/// The reason when no snapshot has arrived yet: closed.
pub const NO_SNAPSHOT: &str = "no-snapshot";

/// The reason when Envoy gave no IP address and port for both ends: closed.
pub const NO_ADDRESS: &str = "no-address";

/// The reason when the kernel dropped a packet by rules that have been replaced since: the snapshot
/// in force when the drop was read allows it.
pub const ALLOWED_BY_NOW: &str = "allowed-by-now";

/// One decision, as it is written.
#[derive(Debug, Serialize)]
pub struct Record {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    protocol: Cow<'static, str>,
    reason: &'static str,
    policies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<Nearest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
}

#[derive(Debug, Serialize)]
struct Nearest {
    rule: String,
    missed: &'static str,
}

impl Record {
    /// A decision made with a snapshot. `protocol` is the IANA number.
    pub fn new(
        source: String,
        destination: String,
        protocol: u8,
        explanation: Explanation,
        revision: Revision,
    ) -> Self {
        Self {
            verdict: explanation.verdict,
            direction: explanation.direction.map(Direction::as_str),
            pod: explanation.subject,
            source: Some(source),
            destination: Some(destination),
            protocol: protocol_name(protocol),
            reason: explanation.reason,
            policies: explanation.policies,
            rule: explanation.rule.map(|rule| rule.to_string()),
            nearest: explanation.nearest.map(|near| Nearest {
                rule: near.rule.to_string(),
                missed: near.missed,
            }),
            service: explanation.service,
            cut: false,
            revision: Some(revision.to_string()),
        }
    }

    /// A denial without judgement, for [`NO_SNAPSHOT`] or [`NO_ADDRESS`]. `protocol` is the IANA
    /// number.
    pub fn closed(
        source: Option<String>,
        destination: Option<String>,
        protocol: u8,
        reason: &'static str,
        revision: Option<Revision>,
    ) -> Self {
        Self {
            verdict: "deny",
            direction: None,
            pod: None,
            source,
            destination,
            protocol: protocol_name(protocol),
            reason,
            policies: Vec::new(),
            rule: None,
            nearest: None,
            service: None,
            cut: false,
            revision: revision.map(|revision| revision.to_string()),
        }
    }

    /// The same, of a connection that was alive.
    pub fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// The same, of a packet that was dropped by rules which `revision` has replaced: denied, though
    /// allowed by now.
    pub fn overtaken(self) -> Self {
        Self {
            verdict: "deny",
            reason: ALLOWED_BY_NOW,
            ..self
        }
    }

    /// The verdict and, after a space, the policies by name, comma-separated; for the access log.
    pub fn summary(&self) -> String {
        if self.policies.is_empty() {
            self.verdict.to_owned()
        } else {
            format!("{} {}", self.verdict, self.policies.join(","))
        }
    }

    /// The whole log line.
    pub fn line(&self) -> String {
        match serde_json::to_string(self) {
            Ok(json) => format!("{PREFIX} {json}"),
            // Strings and lists of them cannot fail to serialise; were it so, the fact is what counts.
            Err(error) => format!("{PREFIX} {{\"verdict\":\"{}\"}} ({error})", self.verdict),
        }
    }
}

/// The name of an IANA protocol number, or the number itself.
fn protocol_name(number: u8) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        1 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPv6",
        132 => "SCTP",
        other => return Cow::Owned(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use crate::eval::{NearMiss, RuleName};

    use super::*;

    fn explanation() -> Explanation {
        Explanation {
            verdict: "deny",
            direction: Some(Direction::Ingress),
            subject: Some("shop/db-0".to_owned()),
            reason: "no-rule",
            policies: vec!["shop/db".to_owned(), "shop/default-deny".to_owned()],
            rule: None,
            nearest: Some(NearMiss {
                rule: RuleName {
                    policy: "shop/db".to_owned(),
                    direction: Direction::Ingress,
                    index: 1,
                },
                missed: "ports",
            }),
            service: None,
        }
    }

    fn record() -> Record {
        Record::new(
            "10.0.1.2:40000".to_owned(),
            "10.0.2.3:5432".to_owned(),
            6,
            explanation(),
            Revision(0xabc),
        )
    }

    #[test]
    fn a_denial_in_full() {
        assert_eq!(
            record().line(),
            concat!(
                r#"sidewall-decision {"verdict":"deny","direction":"ingress","pod":"shop/db-0","#,
                r#""source":"10.0.1.2:40000","destination":"10.0.2.3:5432","protocol":"TCP","#,
                r#""reason":"no-rule","policies":["shop/db","shop/default-deny"],"#,
                r#""nearest":{"rule":"shop/db ingress[1]","missed":"ports"},"#,
                r#""revision":"0000000000000abc"}"#
            )
        );
    }

    #[test]
    fn a_cut_says_so() {
        assert!(record().cut().line().contains(r#""cut":true,"revision""#));
    }

    #[test]
    fn a_denial_without_a_snapshot_has_no_revision() {
        assert_eq!(
            Record::closed(
                Some("10.0.1.2:40000".to_owned()),
                None,
                6,
                NO_SNAPSHOT,
                None
            )
            .line(),
            concat!(
                r#"sidewall-decision {"verdict":"deny","source":"10.0.1.2:40000","#,
                r#""protocol":"TCP","reason":"no-snapshot","policies":[]}"#
            )
        );
    }

    #[test]
    fn a_drop_that_would_be_allowed_by_now_stays_a_denial() {
        let allowed = Explanation {
            verdict: "allow",
            reason: "rule",
            policies: vec!["shop/db".to_owned()],
            nearest: None,
            ..explanation()
        };
        let (source, destination) = ("10.0.1.2".to_owned(), "10.0.2.3".to_owned());
        let record = Record::new(source, destination, 1, allowed, Revision(0xabc));
        assert_eq!(
            record.overtaken().line(),
            concat!(
                r#"sidewall-decision {"verdict":"deny","direction":"ingress","pod":"shop/db-0","#,
                r#""source":"10.0.1.2","destination":"10.0.2.3","protocol":"ICMP","#,
                r#""reason":"allowed-by-now","policies":["shop/db"],"#,
                r#""revision":"0000000000000abc"}"#
            )
        );
    }

    #[test]
    fn protocols_without_a_name_keep_their_number() {
        let name = |number| protocol_name(number).into_owned();
        assert_eq!(
            [1, 6, 17, 58, 132, 47].map(name),
            ["ICMP", "TCP", "UDP", "ICMPv6", "SCTP", "47"]
        );
    }

    #[test]
    fn the_access_log_gets_verdict_and_policies_in_one_line() {
        assert_eq!(record().summary(), "deny shop/db,shop/default-deny");
        assert_eq!(
            Record::closed(None, None, 6, NO_ADDRESS, None).summary(),
            "deny"
        );
    }

    #[test]
    fn a_line_stays_a_line_whatever_the_address_holds() {
        let odd = "/run/a\nb\"c\u{7f}.sock".to_owned();
        let line = Record::closed(Some(odd), None, 6, NO_ADDRESS, None).line();
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}
