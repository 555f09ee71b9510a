//! Collects what is wrong with one object while it is read.

use std::fmt::Display;

use crate::problem::Problem;

/// The problems of one object, or of a file when no object could be made out.
#[derive(Debug)]
pub(super) struct Report {
    object: String,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(object: impl Display) -> Self {
        Self {
            object: object.to_string(),
            problems: Vec::new(),
        }
    }

    /// Adds a problem with a field; an empty one means the whole object.
    pub(super) fn add(
        &mut self,
        field: impl Into<String>,
        reason: impl Into<String>,
        consequence: impl Into<String>,
    ) {
        self.problems.push(Problem {
            object: self.object.clone(),
            field: field.into(),
            reason: reason.into(),
            consequence: consequence.into(),
        });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
