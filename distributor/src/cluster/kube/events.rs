//! Events on NetworkPolicies that are not understood, or only in part, for whoever looks for them where the
//! policy is: `kubectl events --for networkpolicy/NAME`.
//!
//! ```text
//!  watch ──problems of a policy──▶ EventWatch: which are new ──a bounded queue──▶ send ──▶ API server
//! ```
//!
//! An event is named by what it says: by the policy's uid and generation, and by the problem. Who creates it
//! first has told it, and a second replica, a restart or another list finds it there already. That is why
//! kube's own `Recorder` is not used: it gives each event a name of chance, so each replica and each restart
//! would tell the same anew. An event is told once for each generation that has the problem, and lives as
//! long as the API server keeps events, an hour by default; problems stay on `/status` for as long as they last.

mod send;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use sidewall_policy::model::NamespacedName;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::Xxh3Default;

use crate::cluster::decode;
use crate::cluster::event::{Batch, Event as Step, ObjectRef, Origin};
use crate::metrics::{KubeMetrics, Written};
use crate::problem::Problem;
pub(super) use send::send;

/// How many events may wait to be sent. What does not fit is told when the policy is read again.
pub(super) const QUEUE: usize = 1024;

/// The longest note that an API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// How much of a policy's name goes into that of an event, in bytes: names end at 253.
const LONGEST_NAME: usize = 200;

/// What to do about any of them.
const REMEDY: &str = "mend the policy and apply it again (`sidewall lint` checks manifests before)";

/// Something to be told about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The name of the event: equal if it says the same.
    name: String,
    policy: NamespacedName,
    uid: String,
    reason: &'static str,
    note: String,
}

/// Finds what is new about policies as a watch tells of them.
pub(super) struct EventWatch {
    queue: mpsc::Sender<Told>,
    policies: BTreeMap<ObjectRef, Policy>,
    metrics: KubeMetrics,
}

/// A policy that is there.
#[derive(Debug, Default)]
struct Policy {
    uid: String,
    generation: i64,
    /// The names of the events about the problems that it has.
    told: BTreeSet<String>,
}

impl EventWatch {
    pub(super) fn new(queue: mpsc::Sender<Told>, metrics: KubeMetrics) -> Self {
        Self {
            queue,
            policies: BTreeMap::new(),
            metrics,
        }
    }

    /// Learns which policy stands under a name.
    pub(super) fn see(&mut self, event: &Event<DynamicObject>) {
        let (Event::Apply(object) | Event::InitApply(object)) = event else {
            return;
        };
        let metadata = &object.metadata;
        let policy = self.policies.entry(reference(object)).or_default();
        policy.uid = metadata.uid.clone().unwrap_or_default();
        policy.generation = metadata.generation.unwrap_or_default();
    }

    /// Puts what is new in a batch into the queue. Never waits.
    pub(super) fn tell(&mut self, batch: &Batch) {
        for step in batch {
            match step {
                Step::Delete(reference) => {
                    self.policies.remove(reference);
                }
                Step::Report(Origin::Object(reference), problems) => {
                    self.report(reference, problems);
                }
                _ => {}
            }
        }
    }

    fn report(&mut self, reference: &ObjectRef, problems: &[Problem]) {
        let Some(policy) = self.policies.get_mut(reference) else {
            return;
        };
        let mut told = BTreeSet::new();
        for problem in problems {
            let event = policy.event(&reference.id, problem);
            let name = event.name.clone();
            let is_known = policy.told.contains(&name) || told.contains(&name);
            if is_known || self.queue.try_send(event).is_ok() {
                told.insert(name);
            } else {
                self.metrics.count(Written::Event, false);
            }
        }
        policy.told = told;
    }
}

impl Policy {
    fn event(&self, policy: &NamespacedName, problem: &Problem) -> Told {
        let mut hash = Xxh3Default::new();
        hash.update(&self.generation.to_le_bytes());
        for text in [
            &self.uid,
            &problem.field,
            &problem.reason,
            &problem.consequence,
        ] {
            hash.update(text.as_bytes());
            hash.update(&[0]);
        }
        // A name must not end in a dot or a dash, nor may any part of it.
        let stem = shortened(&policy.name, LONGEST_NAME).trim_end_matches(['.', '-']);
        let reason = if decode::closes_policy(problem) {
            "PolicyNotUnderstood"
        } else {
            "PolicyPartlyUnderstood"
        };
        let field = match problem.field.as_str() {
            "" => String::new(),
            field => format!("{field}: "),
        };
        let what = format!("{field}{}; {}", problem.reason, problem.consequence);
        let room = LONGEST_NOTE - REMEDY.len() - "; ".len();
        Told {
            name: format!("{stem}.{:016x}", hash.digest()),
            policy: policy.clone(),
            uid: self.uid.clone(),
            reason,
            note: format!("{}; {REMEDY}", shortened(&what, room)),
        }
    }
}

fn reference(object: &DynamicObject) -> ObjectRef {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let metadata = &object.metadata;
    let id = NamespacedName::new(text(&metadata.namespace), text(&metadata.name));
    ObjectRef::new(crate::cluster::Kind::NetworkPolicy, id)
}

/// As much of a text as fits.
fn shortened(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}
