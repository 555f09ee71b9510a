//! The delta protocol of one stream, as a state machine without I/O or clock.
//!
//! ```text
//!  request ──read──▶ Session ◀──what is wanted── SnapshotSource
//!                       │
//!                      next ──▶ send this · the client has it already · nothing to do
//! ```
//!
//! At most one response is outstanding on a stream, and the next one carries whatever is latest by
//! then. The protocol would allow more, but an Envoy answers a push within milliseconds: queueing
//! would only hold large, already outdated snapshots in memory, and answers would be harder to
//! attribute. A client that never answers is visible (sent, not acknowledged) and gets nothing more.
//!
//! A refused snapshot is offered again, later and later, for what was in its way may pass: a filter
//! that was being written, memory that was short. The session says after which time; who has a clock
//! says when that is over, with [`Session::retry`].
//!
//! It never announces the removal of [`RESOURCE_NAME`]: an Envoy that hears that its filter was
//! removed closes every new connection. "No policy" is a snapshot that allows all.

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use sidewall_policy::snapshot::Revision;

/// The one resource there is: the name of the filter in the carrier's chain, the same in every
/// Envoy. Whose snapshot it is follows from who asks.
pub const RESOURCE_NAME: &str = "sidewall";

/// The time after which a snapshot is offered again that was refused once; doubled at each further
/// refusal ...
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// ... up to this. An attempt costs the client a configuration, and this side a whole push.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What one stream has asked for, been sent and answered.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Whether a request was read already: only the first may carry versions from an earlier stream.
    begun: bool,
    subscribed: bool,
    /// The client asked again, so it gets the resource even if the version has not changed:
    /// it may have dropped it in between.
    owed: bool,
    /// The version that the client brought along from an earlier stream.
    brought: Option<String>,
    /// The last revision that was sent, found there already, or withheld: not to be sent again
    /// before [`Session::retry`] says so.
    settled: Option<Revision>,
    /// What the client refused last, if it has taken nothing since.
    refused: Option<Refusals>,
    /// Names asked for that do not exist and have not been answered yet.
    unknown: BTreeSet<String>,
    outstanding: Option<Outstanding>,
    nonces: u64,
}

#[derive(Debug)]
struct Outstanding {
    nonce: String,
    /// `None` for a response that only said which names do not exist.
    revision: Option<Revision>,
}

/// One revision, refused one or more times in a row.
#[derive(Clone, Copy, Debug)]
struct Refusals {
    revision: Revision,
    times: u32,
}

/// How a client took a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is in force, as far as its main thread can tell.
    Acked(Revision),
    /// It keeps what it had before.
    Refused {
        revision: Revision,
        /// In its own words.
        reason: String,
        /// When to call [`Session::retry`], unless something was sent before.
        retry_after: Duration,
    },
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Send a response; it is outstanding from now on.
    Send(Plan),
    /// The client reconnected with this revision in force: nothing to send, but it counts as applied.
    Holds(Revision),
    /// Wait for a request or a change.
    Idle,
}

/// One response to be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) nonce: String,
    /// Whether the response carries the snapshot.
    pub(super) snapshot: bool,
    /// Names that do not exist.
    pub(super) unknown: Vec<String>,
}

impl Session {
    /// Takes a request in: subscriptions and, if it answers a snapshot, how that was taken.
    pub(super) fn read(&mut self, request: &DeltaDiscoveryRequest) -> Option<Answer> {
        let first = !std::mem::replace(&mut self.begun, true);
        if first {
            self.brought = request
                .initial_resource_versions
                .get(RESOURCE_NAME)
                .cloned();
        }
        for name in &request.resource_names_unsubscribe {
            if name == RESOURCE_NAME {
                self.subscribed = false;
                self.owed = false;
                self.brought = None;
            } else {
                self.unknown.remove(name);
            }
        }
        for name in &request.resource_names_subscribe {
            if name == RESOURCE_NAME {
                self.subscribed = true;
                self.owed |= !first;
            } else {
                self.unknown.insert(name.clone());
            }
        }
        self.answered(request)
    }

    fn answered(&mut self, request: &DeltaDiscoveryRequest) -> Option<Answer> {
        // Any other nonce is not ours, or was answered before.
        let Outstanding { revision, .. } = self
            .outstanding
            .take_if(|outstanding| outstanding.nonce == request.response_nonce)?;
        let revision = revision?;
        let Some(error) = &request.error_detail else {
            self.refused = None;
            return Some(Answer::Acked(revision));
        };
        let refusals = Refusals::another(self.refused, revision);
        self.refused = Some(refusals);
        Some(Answer::Refused {
            revision,
            reason: error.message.clone(),
            retry_after: refusals.retry_after(),
        })
    }

    /// The time is over: plans the refused revision once more, if it is still the wanted one and not
    /// on its way already.
    pub(super) fn retry(&mut self) {
        let waiting = self
            .outstanding
            .as_ref()
            .is_some_and(|outstanding| outstanding.revision.is_some());
        let refused = self.refused.map(|refusals| refusals.revision);
        if !waiting && self.settled == refused {
            self.settled = None;
        }
    }

    /// What follows from the state, given the revision that the pod should have.
    pub(super) fn next(&mut self, wanted: Option<Revision>) -> Next {
        if self.outstanding.is_some() {
            return Next::Idle;
        }
        let fresh = wanted
            .filter(|revision| self.subscribed && (self.owed || self.settled != Some(*revision)));
        if let Some(revision) = fresh {
            let brought = self.brought.take();
            if !self.owed && brought.is_some_and(|version| version == revision.to_string()) {
                self.settled = Some(revision);
                return Next::Holds(revision);
            }
        }
        if fresh.is_none() && self.unknown.is_empty() {
            return Next::Idle;
        }
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        self.outstanding = Some(Outstanding {
            nonce: nonce.clone(),
            revision: fresh,
        });
        if fresh.is_some() {
            self.settled = fresh;
            self.owed = false;
        }
        Next::Send(Plan {
            nonce,
            snapshot: fresh.is_some(),
            unknown: std::mem::take(&mut self.unknown).into_iter().collect(),
        })
    }

    /// Takes the snapshot out of a plan because it must not be sent, and says what is left to send.
    /// The same revision is not planned again.
    pub(super) fn withhold(&mut self, plan: Plan) -> Option<Plan> {
        if plan.unknown.is_empty() {
            self.outstanding = None;
            return None;
        }
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.revision = None;
        }
        Some(Plan {
            snapshot: false,
            ..plan
        })
    }
}

impl Refusals {
    /// Those of another revision do not count: what was wrong with that one need not be with this.
    fn another(before: Option<Self>, revision: Revision) -> Self {
        let before = before.filter(|before| before.revision == revision);
        Self {
            revision,
            times: before.map_or(1, |before| before.times.saturating_add(1)),
        }
    }

    fn retry_after(self) -> Duration {
        let doubled = self.times.saturating_sub(1);
        2_u32
            .checked_pow(doubled)
            .and_then(|factor| FIRST_RETRY.checked_mul(factor))
            .map_or(LONGEST_RETRY, |after| after.min(LONGEST_RETRY))
    }
}

#[cfg(test)]
mod tests;
