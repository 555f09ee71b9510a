//! An API server as the state of a cluster: listed, watched, and applied as it changes.
//!
//! ```text
//!  API server ──list, watch──▶ watch: one a kind ──▶ mirror: what differs ──▶ batch
//! ```
//!
//! Each kind is followed by itself, by kube's watcher: pages, bookmarks and resource versions are its
//! business. A list replaces what was known at one blow, when its last page has come; until then, and
//! for as long as the server is away, everything stays as it was. Objects are reduced to what verdicts
//! depend on as they arrive, and nothing else of them is kept.
//!
//! A server that is away, fails or is in trouble is asked again and again, at most a second apart, for a
//! policy must not wait for longer than it takes to see that the server is back (docs/adr/0009).

mod events;
mod exchange;
mod gates;
mod mirror;
#[cfg(test)]
mod tests;
mod watch;
mod write;

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use kube::Config;
use kube::client::ClientBuilder;
use kube::config::InferConfigError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::limit::RateLimitLayer;
use tower::util::{MapRequestLayer, MapResponseLayer};

use super::event::{Batch, Kind};
use crate::metrics::KubeMetrics;
use crate::readiness::{Gates, Readiness};
use events::EventWatch;
use exchange::Exchange;
use gates::GateWatch;
use watch::{Onlooker, Watch};
use write::PodConditions;

/// How many changes may wait for whoever folds them before reading stops.
const QUEUE: usize = 64;

/// The most requests that are made for one kind within a second. Only a server that breaks each watch as
/// soon as it has begun makes us want more.
const REQUESTS_PER_SECOND: u64 = 20;

/// How long the server may be silent in the middle of an answer. Watches get a word within half a minute.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Why no API server can be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says where it is.
    #[error(
        "--kube: there is neither a kubeconfig nor a pod's service account to find the API server by: {0}; \
         set KUBECONFIG, or run this in a pod whose service account may list and watch"
    )]
    Config(#[from] InferConfigError),
    /// What says where it is cannot be used.
    #[error("--kube: the API server's configuration cannot be used: {0}")]
    Client(#[source] kube::Error),
}

/// Follows the API server that a kubeconfig or, in a pod, its service account leads to, until
/// `cancellation` says so. Each kind says [`super::Event::Synced`] when it has been listed once.
///
/// What it returns besides opens the readiness gates of the pods that have one. What is wrong with
/// NetworkPolicies is told by events, too.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// When no configuration is found, or it cannot be used. A server that does not answer is no error: it is
/// asked again, and reported as a problem.
pub async fn start(
    metrics: &KubeMetrics,
    cancellation: CancellationToken,
) -> Result<(mpsc::Receiver<Batch>, Readiness), Error> {
    let mut config = Config::infer().await?;
    tracing::info!(server = %config.cluster_url, "following an API server");
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    // Asking again is our business: the client would wait for longer.
    config.default_retry = false;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let gates = Gates::default();
    let (events, queue) = mpsc::channel(events::QUEUE);
    let plain = kube::Client::try_from(config.clone()).map_err(Error::Client)?;
    let mut watches = Vec::new();
    for kind in Kind::ALL {
        let exchange = Arc::<Exchange>::default();
        let client = client(config.clone(), &exchange).map_err(Error::Client)?;
        let onlooker = match kind {
            Kind::Pod => Onlooker::Gates(GateWatch::new(gates.clone())),
            Kind::NetworkPolicy => {
                Onlooker::Events(EventWatch::new(events.clone(), metrics.clone()))
            }
            _ => Onlooker::Nobody,
        };
        watches.push(Watch::new(kind, client, plain.clone(), exchange, onlooker));
    }
    for watch in watches {
        let sender = sender.clone();
        let cancellation = cancellation.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cancellation.cancelled() => {}
                () = sender.closed() => {}
                () = watch.run(&sender) => {}
            }
        });
    }
    let telling = events::send(queue, plain.clone(), metrics.clone());
    tokio::spawn(cancellation.run_until_cancelled_owned(telling));
    let readiness = Readiness {
        gates,
        marker: Arc::new(PodConditions::new(plain)),
        metrics: metrics.clone(),
    };
    Ok((receiver, readiness))
}

/// A client that tells what is asked and what is granted, and asks not too often.
fn client(config: Config, exchange: &Arc<Exchange>) -> Result<kube::Client, kube::Error> {
    let (asked, granted) = (Arc::clone(exchange), Arc::clone(exchange));
    let note_request = move |request: Request<_>| {
        asked.asks(request.uri());
        request
    };
    let note_response = move |response: Response<_>| {
        if response.status().is_success() {
            granted.grants();
        }
        response
    };
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&MapRequestLayer::new(note_request))
        .with_layer(&MapResponseLayer::new(note_response))
        .with_layer(&RateLimitLayer::new(
            REQUESTS_PER_SECOND,
            Duration::from_secs(1),
        ))
        .build())
}
