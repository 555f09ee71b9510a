//! Label selectors (`semantics 1B`, `1K`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::field::Path;
use super::{Findings, Violation, invalid, names};
use crate::model::{Requirement, Selector, Test};
use crate::spec::{LabelSelector, LabelSelectorRequirement};

/// Reads a label selector found in `field`.
///
/// # Errors
///
/// All its flaws. A selector with any flaw is not used in part: leaving out a requirement widens
/// what is matched, so the caller decides what "unreadable" has to mean to fail closed.
pub fn selector(raw: &LabelSelector, field: &str) -> Result<Selector, Vec<Violation>> {
    let mut findings = Findings::default();
    let read = read(
        raw,
        Path::root(field),
        "the selector is not used",
        &mut findings,
    );
    read.ok_or(findings.0)
}

/// Reads a label selector; `None` when anything in it was refused.
pub(super) fn read(
    raw: &LabelSelector,
    path: Path<'_>,
    consequence: &str,
    findings: &mut Findings,
) -> Option<Selector> {
    let before = findings.0.len();
    let mut requirements = Vec::with_capacity(raw.match_labels.len() + raw.match_expressions.len());

    let labels = path.field("matchLabels");
    let mut seen = BTreeSet::new();
    for (key, value) in &raw.match_labels {
        if let Err(why) = names::qualified_name(key) {
            findings.refuse(labels, invalid(key, why), consequence);
        }
        if let Err(why) = names::label_value(value) {
            findings.refuse(labels.key(key), invalid(value, why), consequence);
        }
        if !seen.insert(key) {
            findings.refuse(labels.key(key), "Duplicate value", consequence);
        }
        requirements.push(Requirement {
            key: key.as_str().into(),
            test: Test::In(vec![value.as_str().into()]),
        });
    }

    let expressions = path.field("matchExpressions");
    for (index, expression) in raw.match_expressions.iter().enumerate() {
        let path = expressions.index(index);
        requirements.extend(requirement(expression, path, consequence, findings));
    }

    (findings.0.len() == before).then(|| Selector::new(requirements))
}

fn requirement(
    raw: &LabelSelectorRequirement,
    path: Path<'_>,
    consequence: &str,
    findings: &mut Findings,
) -> Option<Requirement> {
    let LabelSelectorRequirement {
        key,
        operator,
        values,
    } = raw;
    if let Err(why) = names::qualified_name(key) {
        findings.refuse(path.field("key"), invalid(key, why), consequence);
    }

    let list = path.field("values");
    for (index, value) in values.iter().enumerate() {
        // No label can have such a value, so `NotIn` would match everything: refused in every
        // operator (an old stored object may carry one).
        if let Err(why) = names::label_value(value) {
            findings.refuse(list.index(index), invalid(value, why), consequence);
        }
    }
    let needs_values = || values.iter().map(|v| Arc::from(v.as_str())).collect();
    let test = match operator.as_str() {
        "In" => Test::In(needs_values()),
        "NotIn" => Test::NotIn(needs_values()),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        other => {
            let reason = invalid(other, "not a valid selector operator");
            findings.refuse(path.field("operator"), reason, consequence);
            return None;
        }
    };
    match &test {
        Test::In(_) | Test::NotIn(_) if values.is_empty() => {
            let reason = "Required value: must be specified when operator is In or NotIn";
            findings.refuse(list, reason, consequence);
        }
        Test::Exists | Test::DoesNotExist if !values.is_empty() => {
            let reason = "Forbidden: may not be specified when operator is Exists or DoesNotExist";
            findings.refuse(list, reason, consequence);
        }
        _ => {}
    }
    Some(Requirement {
        key: key.as_str().into(),
        test,
    })
}
