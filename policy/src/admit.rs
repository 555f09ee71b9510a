//! From raw manifests to the model: the API server's defaulting and validation, done again.
//!
//! A manifest folder has no API server in front of it, and stored objects may predate today's
//! checks (`semantics 1A`, `1K`, `D5`), so every policy enters through [`admit`]. It never fails:
//! each flaw becomes a [`Violation`], and the flawed *piece* fails closed while the rest of the
//! policy keeps its meaning:
//!
//! | flawed piece            | what becomes of it                                              |
//! |-------------------------|-----------------------------------------------------------------|
//! | peer, port              | matches nothing; rules keep their indexes                       |
//! | `spec.podSelector`      | the policy isolates its whole namespace and allows nothing      |
//! | `spec.policyTypes`      | both directions are isolated, the unnamed one allows nothing    |
//! | mode annotation         | the policy is enforced                                          |
//! | name, namespace         | reported only: nothing is opened by a name                      |

mod cidr;
mod field;
mod names;
mod peer;
mod policy;
mod port;
mod selector;
mod surprises;
#[cfg(test)]
mod tests;

use std::fmt;

pub use policy::admit;
pub use selector::selector;
pub use surprises::{Surprise, surprises};

use crate::model::{Mode, NetworkPolicy};
use field::Path;

/// The annotation on a NetworkPolicy or a Namespace that says `enforce` or `audit`.
pub const MODE_ANNOTATION: &str = "sidewall.dev/mode";

/// A policy in effect, and what was wrong with the manifest it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The policy, every default filled in and every flawed piece closed.
    pub policy: NetworkPolicy,
    /// Everything that was wrong, in the order of the fields; empty for a flawless manifest.
    pub violations: Vec<Violation>,
}

/// One flaw of an object: where it is, what is wrong and what it leads to.
///
/// Printed as `field: reason; consequence`. The object's own name is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field as the API server spells paths: `spec.ingress[0].from[1].ipBlock.except[0]`.
    pub field: String,
    /// Why the field is not acceptable, close to the API server's wording.
    pub reason: String,
    /// What enforcement makes of it.
    pub consequence: String,
    /// Whether this could have been stored by an API server.
    pub severity: Severity,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            reason,
            consequence,
            severity: _,
        } = self;
        write!(f, "{field}: {reason}; {consequence}")
    }
}

/// How bad a [`Violation`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// An API server would refuse the object; the piece matches nothing.
    Refused,
    /// Stored objects may carry it (`semantics D5`) and its meaning is known and kept.
    Legacy,
    /// The API server does not look at it, but Sidewall cannot make sense of it.
    Unsupported,
}

/// Reads the value of [`MODE_ANNOTATION`] on a NetworkPolicy or a Namespace.
///
/// No annotation means [`Mode::Enforce`], and so does one that is not understood: a typing error
/// must not switch enforcement off.
pub fn mode(annotation: Option<&str>) -> (Mode, Option<Violation>) {
    match annotation {
        None | Some("enforce") => (Mode::Enforce, None),
        Some("audit") => (Mode::Audit, None),
        Some(other) => (
            Mode::Enforce,
            Some(Violation {
                field: format!("metadata.annotations[{MODE_ANNOTATION}]"),
                reason: invalid(other, "supported values: \"enforce\", \"audit\""),
                consequence: "policies are enforced".to_owned(),
                severity: Severity::Unsupported,
            }),
        ),
    }
}

/// Collects violations while a manifest is read.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    /// Something the API server refuses.
    fn refuse(&mut self, path: Path<'_>, reason: impl Into<String>, consequence: &str) {
        self.0.push(Violation {
            field: path.to_string(),
            reason: reason.into(),
            consequence: consequence.to_owned(),
            severity: Severity::Refused,
        });
    }

    /// Something older API servers stored, with the meaning that is kept.
    fn legacy(&mut self, path: Path<'_>, reason: impl Into<String>, consequence: String) {
        self.0.push(Violation {
            field: path.to_string(),
            reason: reason.into(),
            consequence,
            severity: Severity::Legacy,
        });
    }
}

/// The API server's phrase for a value that is present but wrong.
fn invalid(value: impl fmt::Debug, why: impl fmt::Display) -> String {
    /// Longest value quoted in full: a hostile manifest must not flood the log.
    const QUOTED: usize = 80;
    let quoted = format!("{value:?}");
    match quoted.char_indices().nth(QUOTED) {
        None => format!("Invalid value: {quoted}: {why}"),
        Some((cut, _)) => format!("Invalid value: {}…: {why}", &quoted[..cut]),
    }
}
