//! The agent's admin port: `/healthz`, `/readyz` and `/metrics`. Read-only.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::agent::Condition;
use super::bridges::Unseen;
use super::firewalls::Finding;
use super::nri::Link;
use super::ruleset::Tallies;
use super::{kernel, metrics};
use crate::metrics::{CONTENT_TYPE, encode};

/// What the pages are made from.
#[derive(Clone)]
pub(super) struct Admin {
    /// Why there is no boot table, where there should be one.
    pub(super) boot_fault: Option<Arc<str>>,
    pub(super) condition: watch::Receiver<Condition>,
    pub(super) unseen: watch::Receiver<Option<Unseen>>,
    pub(super) firewalls: watch::Receiver<BTreeSet<Finding>>,
    /// Whether the container runtime tells of new pods.
    pub(super) link: watch::Receiver<Link>,
    pub(super) tallies: watch::Receiver<Tallies>,
    pub(super) registry: Arc<Registry>,
}

impl Admin {
    /// Serves until `shutdown` is cancelled.
    pub(super) async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(scrape))
            .with_state(self);
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
    }
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if let Some(unseen) = &*admin.unseen.borrow() {
        let text = format!("not ready: {unseen}\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let condition = admin.condition.borrow();
    let code = match &*condition {
        Condition::Enforcing { .. } => StatusCode::OK,
        Condition::Waiting { .. } | Condition::Failing(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut text = format!("{}{}\n", *condition, *admin.link.borrow());
    if let Some(fault) = &admin.boot_fault {
        text.push_str(&format!("no boot table: {fault}\n"));
    }
    for finding in &*admin.firewalls.borrow() {
        text.push_str(&format!("{finding}\n"));
    }
    (code, text)
}

async fn scrape(State(admin): State<Admin>) -> impl IntoResponse {
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
    let packets = kernel::counters()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let of_kernel = metrics::of_kernel(&packets, &admin.tallies.borrow());
    let text = encode(&[&admin.registry, &of_kernel])
        .map_err(|error| failed(format!("cannot encode the metrics: {error}")))?;
    Ok::<_, (StatusCode, String)>(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}
