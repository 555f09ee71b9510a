//! What can be said of a policy by looking at nothing but its text.

use sidewall_policy::admit::Surprise;

use super::{Finding, Level};
use crate::cluster::ObjectRef;
use crate::problem::Problem;

/// A trap of the API's defaulting (`semantics` A1, A4, A5, A6, A13).
pub(super) fn surprise(object: &ObjectRef, surprise: Surprise) -> Finding {
    let Surprise {
        row,
        field,
        finding,
        consequence,
        remedy,
    } = surprise;
    let check = match row {
        "A1" => "empty-spec",
        "A4" => "empty-egress",
        "A5" => "ignored-ingress",
        "A6" => "ignored-egress",
        _ => "empty-port",
    };
    Finding {
        object: object.to_string(),
        level: Level::Warning,
        check,
        field,
        finding: finding.to_owned(),
        consequence: consequence.to_owned(),
        remedy: remedy.to_owned(),
    }
}

/// What the reader of the manifests has to say.
pub(super) fn problems(problems: &[Problem]) -> impl Iterator<Item = Finding> {
    problems.iter().map(|problem| {
        let Problem {
            object,
            field,
            reason,
            consequence,
        } = problem;
        // A pod without an address, or an object that others only refer to, is no mistake of
        // whoever wrote the policies.
        let level = if object.starts_with("NetworkPolicy ") || object.starts_with("file ") {
            Level::Error
        } else {
            Level::Note
        };
        Finding {
            object: object.clone(),
            level,
            check: "not-understood",
            field: field.clone(),
            finding: reason.clone(),
            consequence: consequence.clone(),
            remedy: String::new(),
        }
    })
}
