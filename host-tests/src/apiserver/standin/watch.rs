//! Watches: what has changed since a revision, and what changes from then on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::StandIn;
use super::store::{Scope, Verb};
use crate::apiserver::answer::{Answer, Refusal};

/// How often a client that wants bookmarks gets one. An API server takes a minute.
const BOOKMARKS: Duration = Duration::from_secs(5);

/// How long a watch lasts that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// What a watch asks for besides its objects.
#[derive(Debug)]
pub(super) struct Wish {
    /// The revision after which it begins; empty or 0: with what there is now.
    pub(super) since: String,
    pub(super) bookmarks: bool,
    /// Wants a bookmark behind what there is now.
    pub(super) initial_events: bool,
    pub(super) timeout: Option<Duration>,
}

/// Where a watch is.
struct Watch {
    shared: Arc<StandIn>,
    scope: Scope,
    bookmarks: bool,
    /// The revision up to which everything is in `lines` or has been sent.
    position: u64,
    lines: VecDeque<String>,
    changed: watch::Receiver<u64>,
    ends: Instant,
    next_bookmark: Instant,
    ending: Ending,
}

/// What comes after the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Nothing yet: more lines.
    Open,
    /// The end, as it should be.
    Clean,
    /// The connection breaks.
    Cut,
}

/// Answers a watch with a stream of events.
pub(super) fn answer(shared: &Arc<StandIn>, scope: Scope, wish: &Wish) -> Answer<Response> {
    // Before the store is looked at, so that no change falls in between.
    let changed = shared.changed.subscribe();
    let (position, lines) = begin(shared, &scope, wish)?;
    let now = Instant::now();
    let lasts = if shared.faults.is_hasty() {
        Duration::ZERO
    } else {
        wish.timeout.unwrap_or(DEFAULT_TIMEOUT)
    };
    let state = Watch {
        shared: Arc::clone(shared),
        scope,
        bookmarks: wish.bookmarks,
        position,
        lines,
        changed,
        ends: now + lasts,
        next_bookmark: now + BOOKMARKS,
        ending: Ending::Open,
    };
    let lines = stream::unfold(state, |mut state| async move {
        let line = state.next().await?;
        Some((line, state))
    });
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Where a watch begins, and what it is told first.
fn begin(shared: &StandIn, scope: &Scope, wish: &Wish) -> Answer<(u64, VecDeque<String>)> {
    let store = shared.store();
    let current = store.revision();
    if matches!(wish.since.as_str(), "" | "0") {
        let objects = store.all(scope);
        let mut lines: VecDeque<String> =
            objects.map(|(_, object)| line("ADDED", object)).collect();
        if wish.initial_events {
            let mut end = bookmark(scope, current);
            end["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
            lines.push_back(line("BOOKMARK", &end));
        }
        return Ok((current, lines));
    }
    let since = wish.since.parse().map_err(|_| {
        Refusal::bad_request(format!("resourceVersion: Invalid value: {:?}", wish.since))
    })?;
    // A revision that has not been yet is granted, as by the real one, and waited for in silence.
    if shared.faults.gone_by_status() {
        store.since(since).map(drop)?;
    }
    Ok((since, VecDeque::new()))
}

impl Watch {
    /// The next piece of the answer; an error breaks the connection.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(self.send(line)));
            }
            match self.ending {
                Ending::Open => {}
                Ending::Clean => return None,
                Ending::Cut => {
                    self.ending = Ending::Clean;
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
            self.catch_up();
            if self.lines.is_empty() {
                self.wait().await;
            }
        }
    }

    /// A line as it goes out: half of it, if it is to be cut.
    fn send(&mut self, mut line: String) -> Bytes {
        if self.shared.faults.take_cut() {
            self.lines.clear();
            self.ending = Ending::Cut;
            let half = line.floor_char_boundary(line.len() / 2);
            line.truncate(half);
        }
        Bytes::from(line)
    }

    fn catch_up(&mut self) {
        let store = self.shared.store();
        match store.since(self.position) {
            Ok(changes) => {
                for change in changes {
                    self.position = change.revision;
                    if let Some((verb, object)) = change.seen_by(&self.scope) {
                        self.lines.push_back(line(verb.as_str(), object));
                    }
                }
            }
            Err(expired) => {
                self.lines.push_back(line("ERROR", &expired.status()));
                self.ending = Ending::Clean;
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            // Fails when the server goes down, which ends everything.
            _ = self.changed.changed() => {}
            () = sleep_until(self.ends) => self.ending = Ending::Clean,
            () = sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + BOOKMARKS;
                self.lines.push_back(line("BOOKMARK", &bookmark(&self.scope, self.position)));
            }
        }
    }
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn bookmark(scope: &Scope, revision: u64) -> Value {
    json!({
        "kind": scope.resource.kind,
        "apiVersion": scope.resource.api_version(),
        "metadata": { "resourceVersion": revision.to_string() },
    })
}
