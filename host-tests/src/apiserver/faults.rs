//! What goes wrong, because a test says so.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use super::answer::Refusal;

/// The faults in force. Shared by all connections; a restart does not end them.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failing: Option<(StatusCode, Option<u32>)>,
    /// A resource that nobody may read, as in paths.
    forbidden: Option<String>,
    writes: Writes,
    /// Whether no watch waits for anything.
    hasty: bool,
    delay: Duration,
    /// How many events of watches are cut in the middle from now on.
    cuts: u32,
    /// Whether a watch of forgotten history is refused instead of being told by an event.
    gone_by_status: bool,
    requests: u64,
}

/// What becomes of requests that would change something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// What they ask for.
    #[default]
    Done,
    /// They are refused with this status.
    Refused(u16),
    /// In this namespace they are refused with 500, as a webhook that is broken does it.
    RefusedIn(&'static str),
    /// They are never answered.
    Unanswered,
}

impl Faults {
    pub(super) fn set_writes(&self, writes: Writes) {
        self.lock().writes = writes;
    }

    /// Waits, if writes are not answered; a refusal, if they are refused.
    pub(super) async fn writing(&self, method: &Method, path: &str) -> Option<Refusal> {
        if method == Method::GET {
            return None;
        }
        let writes = self.lock().writes;
        match writes {
            Writes::Done => None,
            Writes::Refused(status) => {
                let code = StatusCode::from_u16(status).ok()?;
                Some(Refusal::failing(code, None))
            }
            Writes::RefusedIn(namespace) => {
                let is_there = path.split('/').any(|part| part == namespace);
                is_there.then(|| Refusal::failing(StatusCode::INTERNAL_SERVER_ERROR, None))
            }
            Writes::Unanswered => std::future::pending().await,
        }
    }

    pub(super) fn fail(&self, failing: Option<(StatusCode, Option<u32>)>) {
        self.lock().failing = failing;
    }

    pub(super) fn forbid(&self, resource: Option<&str>) {
        self.lock().forbidden = resource.map(str::to_owned);
    }

    pub(super) fn refusal(&self, path: &str) -> Option<Refusal> {
        let state = self.lock();
        if let Some(resource) = &state.forbidden
            && path.split('/').any(|part| part == resource)
        {
            return Some(Refusal::forbidden(resource));
        }
        let (code, retry_after) = state.failing?;
        Some(Refusal::failing(code, retry_after))
    }

    pub(super) fn set_hasty(&self, hasty: bool) {
        self.lock().hasty = hasty;
    }

    pub(super) fn is_hasty(&self) -> bool {
        self.lock().hasty
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    pub(super) fn delay(&self) -> Duration {
        self.lock().delay
    }

    pub(super) fn cut(&self, events: u32) {
        self.lock().cuts = events;
    }

    /// Whether the event that is about to be sent is to be cut.
    pub(super) fn take_cut(&self) -> bool {
        let cuts = &mut self.lock().cuts;
        let due = *cuts > 0;
        *cuts = cuts.saturating_sub(1);
        due
    }

    pub(super) fn set_gone_by_status(&self, by_status: bool) {
        self.lock().gone_by_status = by_status;
    }

    pub(super) fn gone_by_status(&self) -> bool {
        self.lock().gone_by_status
    }

    pub(super) fn count(&self) {
        self.lock().requests += 1;
    }

    pub(super) fn requests(&self) -> u64 {
        self.lock().requests
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
