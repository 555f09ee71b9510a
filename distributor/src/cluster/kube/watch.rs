//! Follows one kind for as long as it takes, whatever the server does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt as _;
use futures::future::{Fuse, FusedFuture as _, FutureExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::Status;
use kube::runtime::watcher::{self, watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::events::EventWatch;
use super::exchange::Exchange;
use super::gates::GateWatch;
use super::mirror::Mirror;
use crate::cluster::event::{Batch, Event, Kind, Origin};
use crate::problem::Problem;

/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause is between this and twice as much: the server's return must be noticed within two
/// seconds, also when it fails once more on the way up.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The longest that a server's own `Retry-After` is obeyed.
const LONGEST_REQUESTED: Duration = Duration::from_secs(10);

/// A server that has not failed for so long gets the first pause again.
const FORGIVEN: Duration = Duration::from_secs(10);

/// How long a watch lasts, in seconds; then another one goes on where it ended. A connection that died
/// without a word is noticed 5 s after that.
const WATCH_SECONDS: u32 = 25;

/// The objects of a page. Pods of several KiB, of which two pages may be in memory.
const PAGE: u32 = 500;

/// One kind of objects on an API server.
pub(super) struct Watch {
    kind: Kind,
    api: Api<DynamicObject>,
    /// For questions of our own, which the exchange does not see.
    plain: Api<DynamicObject>,
    exchange: Arc<Exchange>,
    mirror: Mirror,
    onlooker: Onlooker,
    pace: Pace,
    /// What has been said about the server's failures.
    trouble: Trouble,
}

/// Who else wants to know what happens to a kind. Takes no time, and never fails.
pub(super) enum Onlooker {
    /// Nobody.
    Nobody,
    /// Of pods: whose readiness gate is closed.
    Gates(GateWatch),
    /// Of policies: what is wrong with them.
    Events(EventWatch),
}

impl Onlooker {
    fn see(&mut self, event: &watcher::Event<DynamicObject>) {
        match self {
            Self::Nobody => {}
            Self::Gates(gates) => gates.see(event),
            Self::Events(events) => events.see(event),
        }
    }

    fn tell(&mut self, batch: &Batch) {
        if let Self::Events(events) = self {
            events.tell(batch);
        }
    }
}

/// What people know about a failing server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// It failed once, which nobody needs to hear of.
    Suspected,
    Reported,
}

impl Watch {
    pub(super) fn new(
        kind: Kind,
        client: kube::Client,
        plain: kube::Client,
        exchange: Arc<Exchange>,
        onlooker: Onlooker,
    ) -> Self {
        Self {
            kind,
            api: Api::all_with(client, &resource(kind)),
            plain: Api::all_with(plain, &resource(kind)),
            exchange,
            mirror: Mirror::new(kind),
            onlooker,
            pace: Pace::new(),
            trouble: Trouble::None,
        }
    }

    /// Runs until nobody listens any more.
    pub(super) async fn run(mut self, batches: &mpsc::Sender<Batch>) {
        while self.follow(batches).await.is_ok() {
            tracing::debug!(kind = %self.kind, "listing anew");
        }
    }

    /// Follows the kind from a list on, until only another list can help.
    async fn follow(&mut self, batches: &mpsc::Sender<Batch>) -> Result<(), Closed> {
        let config = watcher::Config::default()
            .timeout(WATCH_SECONDS)
            .page_size(PAGE);
        let mut events = pin!(watcher(self.api.clone(), config));
        // Beside the events: no change waits for its answer.
        let mut question = pin!(Fuse::terminated());
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                has_gone_back = &mut question, if !question.is_terminated() => {
                    if has_gone_back {
                        return Ok(());
                    }
                    continue;
                }
                () = self.exchange.granted() => {
                    self.send(self.recovered(), batches).await?;
                    self.trouble = Trouble::None;
                    if let Some(since) = self.exchange.since() {
                        question.set(has_gone_back(self.plain.clone(), self.kind, since).fuse());
                    }
                    continue;
                }
            };
            match event {
                None => return Ok(()),
                Some(Ok(event)) => {
                    self.onlooker.see(&event);
                    let batch = self.mirror.take(event);
                    self.onlooker.tell(&batch);
                    self.send(batch, batches).await?;
                }
                Some(Err(error)) => {
                    let batch = self.failed(&error);
                    self.send(batch, batches).await?;
                    sleep(self.pace.pause(&error)).await;
                    if needs_list(&error) {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn send(&self, batch: Batch, batches: &mpsc::Sender<Batch>) -> Result<(), Closed> {
        if batch.is_empty() {
            return Ok(());
        }
        batches.send(batch).await.map_err(|_| Closed)
    }

    fn failed(&mut self, error: &watcher::Error) -> Batch {
        tracing::debug!(kind = %self.kind, %error, "the API server failed");
        match self.trouble {
            Trouble::None => {
                self.trouble = Trouble::Suspected;
                Batch::new()
            }
            Trouble::Suspected | Trouble::Reported => {
                self.trouble = Trouble::Reported;
                let consequence = if self.mirror.is_synced() {
                    "what is known stays in force; changes are picked up when it answers again"
                } else {
                    "nothing is published until it answers"
                };
                vec![Event::Report(
                    self.origin(),
                    vec![Problem {
                        object: format!("API server, {}", self.kind),
                        field: String::new(),
                        reason: reason(error),
                        consequence: consequence.to_owned(),
                    }],
                )]
            }
        }
    }

    fn recovered(&self) -> Batch {
        match self.trouble {
            Trouble::None | Trouble::Suspected => Batch::new(),
            Trouble::Reported => vec![Event::Report(self.origin(), Vec::new())],
        }
    }

    fn origin(&self) -> Origin {
        Origin::Source(format!("watch of {}", self.kind).into())
    }
}

/// Whether the server is behind the version that a watch goes on from: it was restored from a backup. It
/// grants such a watch, and would say nothing until it has come to that version again. A connection may have
/// broken without a word, so every watch is followed by this question.
async fn has_gone_back(api: Api<DynamicObject>, kind: Kind, since: u64) -> bool {
    let current = match api.list(&ListParams::default().limit(1)).await {
        Ok(list) => list.metadata.resource_version,
        Err(error) => {
            // The next watch asks again.
            tracing::debug!(%kind, %error, "the API server does not say where it is");
            return false;
        }
    };
    let current = current.and_then(|it| it.parse::<u64>().ok());
    let has_gone_back = current.is_some_and(|current| current < since);
    if has_gone_back {
        tracing::warn!(%kind, since, current, "the API server has gone back in time; listing anew");
    }
    has_gone_back
}

/// Nobody listens any more.
struct Closed;

/// How the API server calls a kind.
fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Namespace => ApiResource::erase::<Namespace>(&()),
        Kind::Node => ApiResource::erase::<Node>(&()),
        Kind::Pod => ApiResource::erase::<Pod>(&()),
        Kind::Service => ApiResource::erase::<Service>(&()),
        Kind::EndpointSlice => ApiResource::erase::<EndpointSlice>(&()),
        Kind::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
    }
}

/// The server's own words, where it has any.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

fn reason(error: &watcher::Error) -> String {
    match status(error) {
        Some(status) if status.code == 403 => format!(
            "{}; its ClusterRole must allow list and watch",
            status.message
        ),
        Some(status) => format!("{} ({})", status.message, status.code),
        None => error.to_string(),
    }
}

/// Whether a watch can only be begun again with a list. The watcher sees to that itself when an event says
/// that its revision has expired, but not when its request is refused for it, or because the server does not
/// grant watches from a version ahead of its own.
pub(super) fn needs_list(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else {
        return false;
    };
    status.code == 410 || status.message.contains("Too large resource version")
}

/// How long to wait after failures.
struct Pace {
    pauses: ExponentialBackoff,
    failed: Option<Instant>,
}

impl Pace {
    fn new() -> Self {
        Self {
            pauses: pauses(),
            failed: None,
        }
    }

    fn pause(&mut self, error: &watcher::Error) -> Duration {
        let now = Instant::now();
        if self.failed.is_some_and(|failed| now - failed > FORGIVEN) {
            self.pauses = pauses();
        }
        self.failed = Some(now);
        let own = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        let requested = status(error)
            .and_then(|status| status.details.as_ref())
            .map(|details| Duration::from_secs(details.retry_after_seconds.into()));
        own.max(requested.unwrap_or_default().min(LONGEST_REQUESTED))
    }
}

/// Jitter keeps the kinds, and the replicas, apart from each other.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}
