//! All that is wrong at the moment, by origin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::Origin;
use crate::problem::Problem;

/// Collects the problems of every origin and publishes them as one sorted list.
#[derive(Debug)]
pub(super) struct Problems {
    by_origin: BTreeMap<Origin, Vec<Problem>>,
    published: watch::Sender<Arc<Vec<Problem>>>,
}

impl Problems {
    pub(super) fn new(published: watch::Sender<Arc<Vec<Problem>>>) -> Self {
        Self {
            by_origin: BTreeMap::new(),
            published,
        }
    }

    /// Replaces what is known to be wrong with an origin.
    pub(super) fn report(&mut self, origin: Origin, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.by_origin.remove(&origin);
        } else {
            self.by_origin.insert(origin, problems);
        }
    }

    /// Publishes the list if it changed, and logs what is new in it, once.
    pub(super) fn publish(&self) {
        let all: BTreeSet<&Problem> = self.by_origin.values().flatten().collect();
        let before = Arc::clone(&self.published.borrow());
        if all.iter().copied().eq(before.iter()) {
            return;
        }
        for problem in &all {
            if before.binary_search(problem).is_err() {
                tracing::warn!(
                    object = %problem.object,
                    field = %problem.field,
                    consequence = %problem.consequence,
                    "{}",
                    problem.reason,
                );
            }
        }
        for problem in before.iter().filter(|problem| !all.contains(problem)) {
            tracing::info!(object = %problem.object, field = %problem.field, "problem is gone");
        }
        let all: Vec<Problem> = all.into_iter().cloned().collect();
        self.published.send_replace(Arc::new(all));
    }
}
