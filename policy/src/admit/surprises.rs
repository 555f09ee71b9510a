//! Manifests that say less, or more, than they look like: legal, and often not meant.
//!
//! These are traps of the API's own defaulting (`semantics` A1, A4, A5, A6, A13). What is enforced
//! is what the API says; a [`Surprise`] only tells the author.

use super::field::Path;
use crate::model::Direction;
use crate::spec;

/// A field whose meaning is easily mistaken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surprise {
    /// Its row in `docs/semantics.md`: `A1`, `A4`, `A5`, `A6` or `A13`.
    pub row: &'static str,
    /// The field as the API server spells paths: `spec.ingress[0].ports[0]`.
    pub field: String,
    /// What is written there.
    pub finding: &'static str,
    /// What it means.
    pub consequence: &'static str,
    /// What to write instead if that was not meant.
    pub remedy: &'static str,
}

/// Finds what may surprise the author of a policy, in the order of its fields.
pub fn surprises(raw: &spec::NetworkPolicy) -> Vec<Surprise> {
    let spec = Path::root("spec");
    let spec::NetworkPolicy {
        namespace: _,
        name: _,
        mode: _,
        pod_selector,
        policy_types,
        ingress,
        egress,
    } = raw;
    let types = policy_types.as_deref().unwrap_or_default();
    let defaulted = types.is_empty();
    let mut found = Vec::new();
    if pod_selector.is_none() && defaulted && ingress.is_none() && egress.is_none() {
        found.push(Surprise {
            row: "A1",
            field: spec.to_string(),
            finding: "it is empty",
            consequence: "every pod of the namespace is isolated for ingress, and nothing may connect to them",
            remedy: "write podSelector: {} and policyTypes: [Ingress] if this is meant, else delete the policy",
        });
    }
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        let Some(rules) = rules.as_deref() else {
            continue;
        };
        let path = spec.field(direction.as_str());
        found.extend(ignored(direction, rules, types, path));
        for (index, rule) in rules.iter().enumerate() {
            let rule_path = path.index(index);
            let ports = rule_path.field("ports");
            let items = rule.ports.iter().flatten().enumerate();
            found.extend(
                items
                    .filter(|(_, port)| **port == spec::Port::default())
                    .map(|(index, _)| Surprise {
                        row: "A13",
                        field: ports.index(index).to_string(),
                        finding: "it names neither a protocol nor a port",
                        consequence: "it allows every port of TCP, and nothing of UDP and SCTP",
                        remedy: "leave ports out to allow every protocol, or name protocol: TCP",
                    }),
            );
        }
    }
    found
}

/// Rules of a direction that the policy does not isolate in.
fn ignored(
    direction: Direction,
    rules: &[spec::Rule],
    types: &[String],
    path: Path<'_>,
) -> Option<Surprise> {
    let (row, finding, consequence, remedy) = match direction {
        Direction::Egress if types.is_empty() && rules.is_empty() => (
            "A4",
            "it is an empty list, and policyTypes is not given",
            "egress is not restricted; the pods are isolated for ingress instead",
            "write policyTypes: [Egress] to deny egress",
        ),
        Direction::Ingress if !types.is_empty() && !names(types, "Ingress") => (
            "A5",
            "policyTypes does not name Ingress",
            "it is ignored: the policy does not restrict ingress",
            "add Ingress to policyTypes, or delete the field",
        ),
        Direction::Egress if !types.is_empty() && !names(types, "Egress") => (
            "A6",
            "policyTypes does not name Egress",
            "it is ignored: the policy does not restrict egress",
            "add Egress to policyTypes, or delete the field",
        ),
        Direction::Ingress | Direction::Egress => return None,
    };
    Some(Surprise {
        row,
        field: path.to_string(),
        finding,
        consequence,
        remedy,
    })
}

fn names(types: &[String], wanted: &str) -> bool {
    types.iter().any(|name| name == wanted)
}
