//! The admin port: what an operator, a probe and a scraper may know. Read-only.
//!
//! | path       | answer |
//! |------------|--------|
//! | `/healthz` | 200 while the process serves |
//! | `/readyz`  | 200 once every source has synced; until then 503 and what is waited for |
//! | `/metrics` | OpenMetrics text |
//! | `/status`  | [`Status`] as JSON |
//!
//! It has no say in anything: it sees the same [`SnapshotSource`] as the xDS server.

mod scrape;
mod status;

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::CONTENT_TYPE;
use crate::problem::Problem;
use crate::snapshots::SnapshotSource;
use crate::xds::Clients;

pub use status::{Delivery, DeliveryState, NodeStatus, PodStatus, Refusal, Status, Timed, Wanted};

/// How many problems an unready `/readyz` shows: a probe's log is not the place for all.
const READY_PROBLEMS: usize = 10;

/// What the pages are made from.
#[derive(Clone)]
pub struct Admin {
    /// The snapshots that pods should have.
    pub source: Arc<dyn SnapshotSource>,
    /// Those that they have.
    pub clients: Clients,
    /// What is wrong with the objects at the moment.
    pub problems: watch::Receiver<Arc<Vec<Problem>>>,
    /// The counters.
    pub registry: Arc<Registry>,
    /// Whether `/metrics` has series of single pods.
    pub pod_metrics: bool,
}

impl Admin {
    /// Serves until `shutdown` is cancelled, then until the requests at hand are answered.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> std::io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .with_state(self);
        axum::serve(listener, router)
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await
    }

    fn status(&self) -> Status {
        Status::collect(&*self.source, &self.clients, &self.problems.borrow())
    }
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.source.is_synced() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut why =
        "not ready: the sources have not been read completely yet, and nothing is served before\n"
            .to_owned();
    // Whatever is wrong with a source is among them.
    for problem in admin.problems.borrow().iter().take(READY_PROBLEMS) {
        why.push_str(&format!("- {problem}\n"));
    }
    (StatusCode::SERVICE_UNAVAILABLE, why)
}

async fn status(State(admin): State<Admin>) -> Json<Status> {
    Json(admin.status())
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let (status, now) = (admin.status(), SystemTime::now());
    match scrape::text(&admin.registry, &status, admin.pod_metrics, now) {
        Ok(text) => Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text)),
        Err(error) => Err((
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot encode the metrics: {error}\n"),
        )),
    }
}

#[cfg(test)]
mod tests;
