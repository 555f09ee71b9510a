//! Many xDS clients in one process: the agent's own client, once for each recipient, each with a connection
//! of its own. They take deltas, check each snapshot and acknowledge it, and tell when.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sidewall_distributor::xds::{Distributor, Link, follow};
use sidewall_policy::snapshot::Revision;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::net::{self, Netns};

/// A snapshot that a client has checked, at the moment when it acknowledges it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Which client, in the order in which they were given.
    pub client: usize,
    /// Which snapshot.
    pub revision: Revision,
    /// When.
    pub at: Instant,
}

/// Running clients. They end when this is dropped.
#[derive(Debug)]
pub struct Followers {
    arrivals: mpsc::Receiver<Arrival>,
    links: Vec<watch::Receiver<Link>>,
    _end: DropGuard,
    _runtime: Runtime,
}

/// Why they do not run.
#[derive(Debug, thiserror::Error)]
pub enum FollowersError {
    /// The namespace.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// Their threads.
    #[error("clients cannot be started: {0}")]
    Runtime(#[from] std::io::Error),
}

/// A distributor that asks for no proof.
#[must_use]
pub fn in_plain_text(address: SocketAddr) -> Distributor {
    let uri = format!("http://{address}").parse();
    let distributor = uri.ok().and_then(|uri| Distributor::new(uri, None).ok());
    distributor.expect("an address in plain text is all that is needed")
}

impl Followers {
    /// Starts clients, each with the distributor that it looks for again and again and its node id, in a
    /// network namespace if one is given.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered, or threads cannot be made.
    pub fn start(
        netns: Option<&Netns>,
        clients: impl IntoIterator<Item = (Distributor, String)>,
    ) -> Result<Self, FollowersError> {
        let build = || {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build()
        };
        // Threads are born in the namespace of the one that makes them.
        let runtime = match netns {
            Some(netns) => netns.run(build)?,
            None => build(),
        }?;
        let (sender, arrivals) = mpsc::channel();
        let mut links = Vec::new();
        let end = CancellationToken::new();
        let context = runtime.enter();
        for (client, (distributor, node_id)) in clients.into_iter().enumerate() {
            let mut follower = follow(distributor, node_id, end.clone());
            links.push(follower.status.clone());
            let sender = sender.clone();
            runtime.spawn(async move {
                while follower.snapshots.changed().await.is_ok() {
                    let at = Instant::now();
                    let held = follower.snapshots.borrow_and_update();
                    let revision = held.as_ref().map(|snapshot| snapshot.revision());
                    drop(held);
                    let arrival = revision.map(|revision| Arrival {
                        client,
                        revision,
                        at,
                    });
                    // Nobody listens any more when it ends.
                    let _ended = arrival.map(|arrival| sender.send(arrival));
                }
            });
        }
        drop(context);
        Ok(Self {
            arrivals,
            links,
            _end: end.drop_guard(),
            _runtime: runtime,
        })
    }

    /// How it stands between a client and the distributor.
    #[must_use]
    pub fn link(&self, client: usize) -> Option<Link> {
        Some(self.links.get(client)?.borrow().clone())
    }

    /// The next arrival, if there is one within this time.
    #[must_use]
    pub fn next(&self, within: Duration) -> Option<Arrival> {
        self.arrivals.recv_timeout(within).ok()
    }
}
