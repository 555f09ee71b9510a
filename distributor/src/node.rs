//! `sidewall node`: the node plane. An agent that holds one nftables table of its node to the
//! snapshot of the node's pods, so that traffic that no sidecar sees is judged, too.
//!
//! ```text
//!  snapshots ─▶ agent ─▶ ruleset (pure) ─▶ kernel     one table, changed in place
//!                  ├───▶ revocations ─▶ conntrack     ends what is denied now
//!                  ├───▶ routing                      delivers connections to Envoy, where pods ask for it
//!                  ├───▶ resets                       tells both ends of what is ended
//!                  ├───▶ nflog ─▶ decision records    of what the kernel drops
//!                  ├───▶ bridges                      whose frames the rules would not see
//!                  └───▶ firewalls                    rules of others that redirection bypasses or that stop it
//!  snapshots ─▶ nri                                    adds addresses that the container runtime tells
//! ```
//!
//! The table outlives the agent: while it is away, or cut off from the distributor, the last
//! snapshot stays in force. It knows nothing of Kubernetes or xDS: snapshots come to it through a
//! watch.

mod admin;
mod agent;
mod args;
mod boot;
mod bridges;
pub mod conntrack;
mod firewalls;
mod kernel;
mod metrics;
pub mod netlink;
pub mod nflog;
mod nri;
mod program;
pub mod resets;
mod revocations;
mod routing;
pub mod ruleset;
mod seen;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sidewall_policy::record::Record;
use sidewall_policy::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use admin::Admin;
use agent::{Agent, Condition};
pub use args::{Args, Node};
use bridges::{Bridges, Unseen};
use firewalls::Firewalls;
use kernel::{Kernel as _, Nft};
use metrics::Metrics;
use nri::{Link, Runtime};
pub use program::ProgramError;
use resets::Resets;
use revocations::Revocations;

/// Why the agent could not start, or not clean up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The admin port cannot be had.
    #[error("--admin-listen {address}: cannot listen there: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The admin server failed.
    #[error("the admin server failed: {0}")]
    Admin(#[source] io::Error),
    /// Routes for redirected connections cannot be set up.
    #[error(transparent)]
    Routes(#[from] ProgramError),
    /// Some of it is still there. Everything that could be removed has been.
    #[error("the node plane is not fully removed: {}; run it again once this is mended", .0.join("; "))]
    Cleanup(Vec<String>),
}

impl Node {
    /// Enforces what `snapshots` says until `shutdown` is cancelled. The rules stay.
    ///
    /// # Errors
    /// When it cannot start; once it runs it goes on whatever fails, and says so in its log, on
    /// `/readyz` and in its metrics.
    pub async fn run(
        self,
        snapshots: channel::Receiver<Option<Arc<Snapshot>>>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let address = self.admin_listen;
        let refused = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        info!(flag = "--admin-listen", address = %bound, "listening");
        let settings = self.settings();
        let boot_table = self.boot_table.as_deref();
        let boot_fault = boot_table.and_then(|file| boot::write(file, &settings).err());
        if let Some(error) = &boot_fault {
            error!("the node is open between its next boot and the start of its agent: {error}");
        }
        if settings.proxy_port.is_some() {
            routing::set_up(&settings.pod_cidrs).await?;
        } else {
            // Those of an agent that redirected. They match nothing but its mark.
            for error in routing::remove().await {
                warn!("routes of redirection are left over: {error}");
            }
        }

        let mut registry = Registry::with_prefix("sidewall");
        let own = registry.sub_registry_with_prefix("node");
        let metrics = Metrics::register(own);
        let of_runtime = nri::Metrics::register(own);
        let runtime = Runtime::new(self.nri_socket.clone(), snapshots);
        let snapshots = runtime.snapshots();
        let (link, links) = channel::channel(Link::Off);
        let drops = nflog::Metrics::register(own);
        let (condition, conditions) = channel::channel(Condition::Waiting {
            node: self.node_name.clone(),
        });
        let (change, changes) = channel::channel(None);
        let resets = Resets::open();
        let (tally, tallies) = channel::channel(Vec::new());
        let (unseen, bridges) = channel::channel(Some(Unseen::not_yet()));
        let (findings, firewalls) = channel::channel(BTreeSet::new());
        let pages = Admin {
            boot_fault: boot_fault.map(|error| error.to_string().into()),
            condition: conditions.clone(),
            unseen: bridges,
            firewalls,
            link: links,
            tallies,
            registry: Arc::new(registry),
        };
        let agent = Agent {
            kernel: Nft,
            settings: settings.clone(),
            snapshots: snapshots.clone(),
            node: self.node_name.clone(),
            condition,
            changes: change,
            tallies: tally,
            metrics: metrics.clone(),
        };
        if settings.proxy_port.is_some() {
            let firewalls = Firewalls {
                snapshots: snapshots.clone(),
                findings,
                metrics: metrics.clone(),
            };
            tokio::spawn(firewalls.run(shutdown.clone()));
        }
        let revocations = Revocations {
            changes,
            snapshots: snapshots.clone(),
            settings: settings.clone(),
            resets: resets.clone(),
            metrics,
        };
        let bridges = Bridges {
            pod_cidrs: settings.pod_cidrs.clone(),
            unseen,
        };
        tokio::spawn(bridges.run(shutdown.clone()));
        tokio::spawn(runtime.run(conditions, link, of_runtime, shutdown.clone()));
        tokio::spawn(revocations.run(shutdown.clone()));
        tokio::spawn(tell_drops(
            settings,
            snapshots,
            resets,
            drops,
            shutdown.clone(),
        ));
        let (served, ()) = tokio::join!(
            pages.run(listener, shutdown.clone()),
            agent.run(shutdown.clone())
        );
        served.map_err(Error::Admin)
    }
}

/// Removes the table, the rules and the routes of the node plane, and the file of its boot table, whatever fails on
/// the way.
///
/// # Errors
/// [`Error::Cleanup`] tells everything that is still there.
pub async fn clean_up(boot_table: Option<&Path>) -> Result<(), Error> {
    let mut failures = Vec::new();
    if let Some(Err(error)) = boot_table.map(boot::remove) {
        failures.push(error.to_string());
    }
    if let Err(error) = Nft.run(&ruleset::cleanup()).await {
        failures.push(error.to_string());
    }
    failures.extend(routing::remove().await.iter().map(ToString::to_string));
    if failures.is_empty() {
        info!("the node plane is gone");
        Ok(())
    } else {
        Err(Error::Cleanup(failures))
    }
}

/// How long until the kernel's log is asked for again.
const DROPS_PAUSE: Duration = Duration::from_secs(5);

/// Records what the kernel drops. Without it drops are silent, and nothing else is different.
async fn tell_drops(
    settings: ruleset::Settings,
    snapshots: channel::Receiver<Option<Arc<Snapshot>>>,
    resets: Resets,
    metrics: nflog::Metrics,
    shutdown: CancellationToken,
) {
    let report = |record: &Record| warn!("{}", record.line());
    let tell = async {
        loop {
            let error = match nflog::Listener::bind(settings.nflog_group).await {
                Ok(listener) => {
                    let pod_cidrs = &settings.pod_cidrs;
                    listener
                        .run(pod_cidrs, &snapshots, &resets, &metrics, report)
                        .await
                }
                Err(error) => error,
            };
            error!("{error}");
            // An earlier agent may still be on its way out.
            tokio::time::sleep(DROPS_PAUSE).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tell => {}
    }
}
