//! Creates the events, one after another and not too fast. Knows nothing of policies.

use std::collections::VecDeque;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{QUEUE, Told};
use crate::cluster::event::Kind;
use crate::metrics::{KubeMetrics, Written};

/// Who tells, to be found by.
const CONTROLLER: &str = "sidewall.dev/distributor";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two events: 20 a second leave a server room that holds thousands of bad policies.
const PACE: Duration = Duration::from_millis(50);

/// Between two attempts at an event that the server failed to take: from half a second on to 30 seconds, with jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times()
    .with_jitter();

/// What became of an attempt.
enum Outcome {
    Created,
    /// Somebody has told it already.
    Known,
    /// The server will not take it, ever.
    Refused(String),
    /// It may take it later.
    Failed(String),
}

/// Sends what is in the queue until nobody fills it any more. What the server fails to take goes behind
/// everything else, so that one namespace's broken webhook does not keep others from being told.
pub(in crate::cluster::kube) async fn send(
    mut queue: mpsc::Receiver<Told>,
    client: Client,
    metrics: KubeMetrics,
) {
    // In a pod the name of the pod.
    let instance = std::env::var("HOSTNAME").unwrap_or_default();
    let instance = if instance.is_empty() || instance.len() > 128 {
        "sidewall".to_owned()
    } else {
        instance
    };
    // Whether people know that there are no events.
    let mut complained = false;
    let mut failed = VecDeque::new();
    let mut pauses = PAUSES.build();
    while let Some(told) = next(&mut queue, &mut failed).await {
        let (failure, pause) = match create(&client, &told, &instance).await {
            Outcome::Created => {
                metrics.count(Written::Event, true);
                complained = false;
                (None, None)
            }
            Outcome::Known => (None, None),
            Outcome::Refused(reason) => (Some(reason), None),
            Outcome::Failed(reason) => (Some(reason), pauses.next().or(Some(LONGEST_PAUSE))),
        };
        if let Some(failure) = failure {
            metrics.count(Written::Event, false);
            if std::mem::replace(&mut complained, true) {
                debug!(policy = %told.policy, failure, "no event");
            } else {
                warn!(policy = %told.policy, "what is wrong with policies cannot be told by events: {failure}; it is on /status all the same");
            }
        }
        if let Some(pause) = pause {
            failed.push_back(told);
            sleep(pause).await;
        } else {
            pauses = PAUSES.build();
            sleep(PACE).await;
        }
    }
}

/// The next one to send: a new one, while not too many have failed, or the one that failed the longest ago.
async fn next(queue: &mut mpsc::Receiver<Told>, failed: &mut VecDeque<Told>) -> Option<Told> {
    if failed.len() < QUEUE
        && let Ok(told) = queue.try_recv()
    {
        return Some(told);
    }
    match failed.pop_front() {
        Some(told) => Some(told),
        None => queue.recv().await,
    }
}

async fn create(client: &Client, told: &Told, instance: &str) -> Outcome {
    let events: Api<Event> = Api::namespaced(client.clone(), &told.policy.namespace);
    let parameters = PostParams::default();
    let event = event(told, instance);
    match timeout(PATIENCE, events.create(&parameters, &event)).await {
        Ok(Ok(_event)) => Outcome::Created,
        Ok(Err(kube::Error::Api(status))) => match status.code {
            409 => Outcome::Known,
            403 => Outcome::Refused(format!(
                "{}; its ClusterRole must allow to create events.events.k8s.io",
                status.message
            )),
            // The server is in trouble, or busy.
            429 | 500.. => Outcome::Failed(format!("{} ({})", status.message, status.code)),
            code => Outcome::Refused(format!("{} ({code})", status.message)),
        },
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed(format!("no answer within {PATIENCE:?}")),
    }
}

fn event(told: &Told, instance: &str) -> Event {
    let namespace = told.policy.namespace.to_string();
    Event {
        metadata: ObjectMeta {
            name: Some(told.name.clone()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        action: Some("Compile".to_owned()),
        reason: Some(told.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(Kind::NetworkPolicy.api_version().to_owned()),
            kind: Some(Kind::NetworkPolicy.as_str().to_owned()),
            namespace: Some(namespace),
            name: Some(told.policy.name.to_string()),
            uid: Some(told.uid.clone()),
            ..ObjectReference::default()
        }),
        note: Some(told.note.clone()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}
