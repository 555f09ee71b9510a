//! New pods by the container runtime: the agent learns a pod's addresses before its containers start.
//!
//! ```text
//!  runtime ──NRI──▶ plugin ──claims──▶ view ──snapshot with the new addresses──▶ agent ─▶ kernel
//!     ▲                │                 ▲                                         │
//!     └────answers─────┴─────────────────┼──────────────condition──────────────────┘
//!  distributor ──snapshot with pending pods
//! ```
//!
//! NRI (github.com/containerd/nri) is ttrpc over a multiplexed Unix socket, and the plugin serves four calls of it.
//! While the runtime is away its claims do not count, and new pods start closed until their status has arrived.

mod claims;
mod connection;
mod frame;
mod message;
mod metrics;
mod plugin;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::agent::Condition;
use claims::Claims;
use connection::{Connection, ConnectionError};
pub(super) use metrics::Metrics;
use plugin::Plugin;
use view::View;

/// The name of the plugin.
const NAME: &str = "sidewall";

/// The pause before the next attempt to connect, doubled with each that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether the runtime tells of new pods; printed as a part of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The agent does not ask it.
    Off,
    /// It does.
    Connected,
    /// It does not, for this reason.
    Away(String),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off | Self::Connected => Ok(()),
            Self::Away(reason) => write!(
                f,
                "; the container runtime does not tell of new pods, which start closed until their status arrives: \
                 {reason}"
            ),
        }
    }
}

/// The node's snapshots with what the runtime tells.
#[derive(Debug)]
pub(super) struct Runtime {
    /// `None` leaves every pod closed until its status has arrived.
    socket: Option<PathBuf>,
    view: View,
}

impl Runtime {
    /// Will ask the runtime behind this socket.
    pub(super) fn new(
        socket: Option<PathBuf>,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> Self {
        let view = View::new(snapshots);
        Self { socket, view }
    }

    /// The snapshots that are to be enforced.
    pub(super) fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.view.subscribe()
    }

    /// Keeps the connection until `shutdown` is cancelled.
    pub(super) async fn run(
        self,
        condition: watch::Receiver<Condition>,
        link: watch::Sender<Link>,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) {
        tokio::spawn(self.view.clone().run(shutdown.clone()));
        let Some(socket) = self.socket else {
            return;
        };
        let keep = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let error = follow(&socket, &self.view, &condition, &link, &metrics).await;
                let was_connected = *link.borrow() == Link::Connected;
                self.view.change(|claims| *claims = Claims::default());
                metrics.pods.set(0);
                let reason = format!("--nri-socket {}: {error}", socket.display());
                let is_new = link.send_if_modified(|last| {
                    let away = Link::Away(reason.clone());
                    let is_new = *last != away;
                    *last = away;
                    is_new
                });
                if is_new {
                    warn!(
                        "the container runtime does not tell of new pods, the agent connects again: {reason}"
                    );
                }
                pause = if was_connected {
                    FIRST_PAUSE
                } else {
                    (2 * pause).min(LONGEST_PAUSE)
                };
                tokio::time::sleep(pause).await;
            }
        };
        shutdown.run_until_cancelled(keep).await;
    }
}

/// Connects once and serves until the connection ends.
async fn follow(
    socket: &Path,
    view: &View,
    condition: &watch::Receiver<Condition>,
    link: &watch::Sender<Link>,
    metrics: &Metrics,
) -> ConnectionError {
    match Connection::open(socket).await {
        Ok(connection) => {
            let plugin = Plugin::new(view, condition.clone(), link, metrics);
            plugin.serve(connection).await
        }
        Err(error) => error,
    }
}
