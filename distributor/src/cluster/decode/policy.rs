//! A NetworkPolicy, piece by piece.
//!
//! What is not understood about a policy must not open anything. A field that nobody knows may be
//! a misspelt `except`, `ports` or `policyTypes`: without it the rest would allow more, or isolate
//! less, than its author meant. So an item of `from`, `to` or `ports` with such a field matches
//! nothing, a rule matches nothing, and a spec isolates and allows nothing.

use k8s_openapi::api::networking::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sidewall_policy::admit::{MODE_ANNOTATION, Surprise, admit, surprises};
use sidewall_policy::model::{Direction, Mode, NamespacedName, NetworkPolicy, Selector};
use sidewall_policy::spec;

use super::strict::{self, UNKNOWN, join};
use crate::cluster::convert::policy as convert;
use crate::cluster::report::Report;

/// What becomes of a policy that is understood in part.
pub(super) const CLOSED: &str = "the policy isolates its pods and allows nothing";
/// What becomes of a policy that is not understood at all.
pub(super) const SEALED: &str =
    "the policy isolates every pod of its namespace in both directions and allows nothing";
const CLOSED_PEER: &str = "this peer matches nothing";
const CLOSED_PORT: &str = "this port matches nothing";
const CLOSED_RULE: &str = "this rule matches nothing";

/// Reads a policy, and finds what may surprise its author: what is not understood is a problem and
/// no surprise.
pub(super) fn read(
    value: &Value,
    id: NamespacedName,
    report: &mut Report,
) -> (NetworkPolicy, Vec<Surprise>) {
    let mut reader = Reader::new(report);
    let mut raw = reader.policy(value);
    let mut surprising = Vec::new();
    match reader.doubt {
        Doubt::None => {
            surprising = surprises(&raw);
            surprising.retain(|surprise| !reader.stood_in(&surprise.field));
        }
        Doubt::Selector => close_rules(&mut raw),
        Doubt::Spec => close(&mut raw),
    }
    raw.namespace = Some(id.namespace.to_string());
    raw.name = id.name.to_string();
    if id.name.starts_with('(') {
        // It has no name, which has been said; this one is its place in the file.
        reader.replaced.push("metadata.name".to_owned());
    }
    let admitted = admit(&raw);
    for violation in admitted.violations {
        if !reader.stood_in(&violation.field) {
            reader
                .report
                .add(violation.field, violation.reason, violation.consequence);
        }
    }
    let policy = NetworkPolicy {
        id,
        ..admitted.policy
    };
    (policy, surprising)
}

/// Reads a policy of a version that is not ours: whom it isolates is taken from it, whom it allows
/// is not. Its problems are those of its version alone.
pub(super) fn closed(value: &Value, id: NamespacedName) -> NetworkPolicy {
    let mut ignored = Report::new("");
    let shut = |rules: &mut Option<_>| {
        if let Some(rules) = rules {
            *rules = Vec::new();
        }
    };
    let (mut policy, _) = read(value, id, &mut ignored);
    shut(&mut policy.ingress);
    shut(&mut policy.egress);
    policy
}

/// The policy that stands in for one of which only the name is known.
pub(super) fn sealed(id: NamespacedName) -> NetworkPolicy {
    NetworkPolicy {
        id,
        pod_selector: Selector::everything(),
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
        mode: Mode::Enforce,
    }
}

/// How much of a policy is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// At most single rules, peers or ports.
    None,
    /// Which pods it selects: those selected by what is readable, and nothing is allowed.
    Selector,
    /// Something else about the whole: also which directions it isolates, unless it says so.
    Spec,
}

/// Reads pieces, and puts ones that match nothing in the place of those with a flaw.
struct Reader<'a> {
    report: &'a mut Report,
    /// The fields where a stand-in is: what [`admit`] says of those has been said here already.
    replaced: Vec<String>,
    doubt: Doubt,
}

impl<'a> Reader<'a> {
    fn new(report: &'a mut Report) -> Self {
        Self {
            report,
            replaced: Vec::new(),
            doubt: Doubt::None,
        }
    }

    fn policy(&mut self, value: &Value) -> spec::NetworkPolicy {
        for key in value.as_object().into_iter().flat_map(Map::keys) {
            match key.as_str() {
                "apiVersion" | "kind" | "metadata" | "spec" => {}
                // API servers from 1.24 to 1.27 wrote one; it says nothing.
                "status" => {}
                unknown => self.doubt(Doubt::Spec, unknown, UNKNOWN),
            }
        }
        self.metadata(value.get("metadata"));
        let mode = value
            .get("metadata")
            .and_then(|metadata| metadata.get("annotations")?.get(MODE_ANNOTATION)?.as_str());
        let mut raw = spec::NetworkPolicy {
            mode: mode.map(str::to_owned),
            ..spec::NetworkPolicy::default()
        };
        match value.get("spec") {
            None | Some(Value::Null) => {}
            Some(Value::Object(fields)) => self.spec(fields, &mut raw),
            Some(other) => self.doubt(Doubt::Spec, "spec", &wrong_type(other, "an object")),
        }
        raw
    }

    /// Name and namespace have been read already; the rest only has to make sense.
    fn metadata(&mut self, value: Option<&Value>) {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return;
        };
        match strict::decode::<ObjectMeta>(value, "metadata") {
            Ok((metadata, unknown)) => {
                for field in unknown {
                    // A misspelt `namespace` leaves the policy in one that it was not meant for.
                    if metadata.namespace.is_none() {
                        self.doubt(Doubt::Spec, &field, UNKNOWN);
                    } else {
                        let consequence = "the policy is in force without this field";
                        self.report.add(field, UNKNOWN, consequence);
                    }
                }
            }
            Err(flaw) => self.report.add(
                flaw.field,
                flaw.reason,
                "the policy is in force under the name that can be made out",
            ),
        }
    }

    fn spec(&mut self, fields: &Map<String, Value>, raw: &mut spec::NetworkPolicy) {
        for key in fields.keys() {
            if !matches!(
                key.as_str(),
                "podSelector" | "policyTypes" | "ingress" | "egress"
            ) {
                self.doubt(Doubt::Spec, &join("spec", key), UNKNOWN);
            }
        }
        raw.pod_selector = self.pod_selector(fields.get("podSelector"));
        raw.policy_types = self.policy_types(fields.get("policyTypes"));
        raw.ingress = self.rules(Direction::Ingress, fields.get("ingress"));
        raw.egress = self.rules(Direction::Egress, fields.get("egress"));
    }

    /// What is readable of a selector selects at least what the whole would.
    fn pod_selector(&mut self, value: Option<&Value>) -> Option<spec::LabelSelector> {
        let value = value.filter(|value| !value.is_null())?;
        match strict::decode::<LabelSelector>(value, "spec.podSelector") {
            Ok((selector, unknown)) => {
                for field in unknown {
                    self.doubt(Doubt::Selector, &field, UNKNOWN);
                }
                Some(convert::selector(selector))
            }
            Err(flaw) => {
                self.doubt(Doubt::Selector, &flaw.field, &flaw.reason);
                None
            }
        }
    }

    fn policy_types(&mut self, value: Option<&Value>) -> Option<Vec<String>> {
        let value = value.filter(|value| !value.is_null())?;
        match strict::decode::<Vec<String>>(value, "spec.policyTypes") {
            Ok((types, _)) => Some(types),
            Err(flaw) => {
                self.doubt(Doubt::Spec, &flaw.field, &flaw.reason);
                None
            }
        }
    }

    fn rules(&mut self, direction: Direction, value: Option<&Value>) -> Option<Vec<spec::Rule>> {
        let path = format!("spec.{direction}");
        match value {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => {
                let read = |(i, item)| self.rule(direction, item, &format!("{path}[{i}]"));
                Some(items.iter().enumerate().map(read).collect())
            }
            Some(other) => {
                let reason = wrong_type(other, "a list of rules");
                let consequence = format!("{direction} is isolated and nothing is allowed");
                self.replace(&path, &path, &reason, &consequence);
                Some(vec![nothing()])
            }
        }
    }

    fn rule(&mut self, direction: Direction, value: &Value, path: &str) -> spec::Rule {
        let Value::Object(fields) = value else {
            let reason = wrong_type(value, "an object; an empty one, {}, allows everything");
            self.replace(path, path, &reason, CLOSED_RULE);
            return nothing();
        };
        let before = self.replaced.len();
        for key in fields.keys() {
            if key != direction.peers_field() && key != "ports" {
                self.replace(path, &join(path, key), UNKNOWN, CLOSED_RULE);
            }
        }
        let closed = self.replaced.len() > before;
        let peers = join(path, direction.peers_field());
        let peers = self.list(
            fields.get(direction.peers_field()),
            path,
            &peers,
            Self::peer,
        );
        let ports = self.list(fields.get("ports"), path, &join(path, "ports"), Self::port);
        match (peers, ports) {
            (Some(peers), Some(ports)) if !closed => spec::Rule { peers, ports },
            _ => nothing(),
        }
    }

    /// Reads the items of `from`, `to` or `ports`. `None` when it is not a list, so that the rule
    /// must match nothing: a list left out would match everything.
    fn list<T>(
        &mut self,
        value: Option<&Value>,
        rule: &str,
        path: &str,
        read: fn(&mut Self, &Value, &str) -> T,
    ) -> Option<Option<Vec<T>>> {
        match value {
            None | Some(Value::Null) => Some(None),
            Some(Value::Array(items)) => {
                let items = items.iter().enumerate();
                let read = |(i, item)| read(self, item, &format!("{path}[{i}]"));
                Some(Some(items.map(read).collect()))
            }
            Some(other) => {
                self.replace(rule, path, &wrong_type(other, "a list"), CLOSED_RULE);
                None
            }
        }
    }

    fn peer(&mut self, value: &Value, path: &str) -> spec::Peer {
        self.piece::<k8s::NetworkPolicyPeer>(value, path, CLOSED_PEER)
            .map(convert::peer)
            .unwrap_or_default()
    }

    fn port(&mut self, value: &Value, path: &str) -> spec::Port {
        self.piece::<k8s::NetworkPolicyPort>(value, path, CLOSED_PORT)
            .map_or_else(closed_port, convert::port)
    }

    /// Reads an item that is either understood completely or matches nothing.
    fn piece<T: DeserializeOwned>(
        &mut self,
        value: &Value,
        path: &str,
        consequence: &str,
    ) -> Option<T> {
        match strict::decode::<T>(value, path) {
            Ok((item, unknown)) if unknown.is_empty() => Some(item),
            Ok((_, unknown)) => {
                for field in unknown {
                    self.replace(path, &field, UNKNOWN, consequence);
                }
                None
            }
            Err(flaw) => {
                self.replace(path, &flaw.field, &flaw.reason, consequence);
                None
            }
        }
    }

    fn replace(&mut self, piece: &str, field: &str, reason: &str, consequence: &str) {
        self.replaced.push(piece.to_owned());
        self.report.add(field, reason, consequence);
    }

    fn doubt(&mut self, doubt: Doubt, field: &str, reason: &str) {
        self.doubt = self.doubt.max(doubt);
        self.report.add(field, reason, CLOSED);
    }

    /// Whether a field belongs to a piece that was replaced.
    fn stood_in(&self, field: &str) -> bool {
        self.replaced.iter().any(|piece| {
            field
                .strip_prefix(piece.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }
}

/// A rule that matches nothing: its one peer is refused.
fn nothing() -> spec::Rule {
    spec::Rule {
        peers: Some(vec![spec::Peer::default()]),
        ports: None,
    }
}

/// A port that matches nothing: there is no such protocol.
fn closed_port() -> spec::Port {
    spec::Port {
        protocol: Some(String::new()),
        ..spec::Port::default()
    }
}

/// Takes away what a policy allows; the directions it isolates stay what they are.
fn close_rules(raw: &mut spec::NetworkPolicy) {
    if raw.policy_types.as_ref().is_none_or(Vec::is_empty) {
        let mut types = vec!["Ingress".to_owned()];
        // `semantics A3`
        if raw.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
            types.push("Egress".to_owned());
        }
        raw.policy_types = Some(types);
    }
    raw.ingress = None;
    raw.egress = None;
}

/// Takes away what a policy allows; it isolates in both directions unless it names them.
fn close(raw: &mut spec::NetworkPolicy) {
    if raw.policy_types.as_ref().is_none_or(Vec::is_empty) {
        raw.policy_types = Some(vec!["Ingress".to_owned(), "Egress".to_owned()]);
    }
    raw.ingress = None;
    raw.egress = None;
}

fn wrong_type(value: &Value, expected: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("invalid type: {found}, expected {expected}")
}
