//! `sidewall serve`: sources, publisher, xDS server and admin port, wired together.

mod access;
mod listen;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sidewall_policy::compile::Options;
use sidewall_policy::model::TcpPath;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Admin;
use crate::cluster::{Batch, kube, manifests};
use crate::metrics::{self, KubeMetrics, Metrics};
use crate::problem::Problem;
use crate::readiness::Readiness;
use crate::snapshots::SnapshotSource;
use crate::xds::{self, Access, Clients};
use crate::{publish, shutdown};

pub use access::{AccessArgs, AccessError};
pub use listen::{Listen, ListenError, Listeners};

/// How long clients may take to hang up after they were told that this server stops. Kubernetes
/// kills after 30 seconds; an Envoy that is cut off just connects again.
const DRAIN: Duration = Duration::from_secs(5);

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Clients could not be told apart.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The signal handlers could not be installed.
    #[error("cannot listen for SIGTERM and SIGINT: {0}")]
    Signals(#[source] io::Error),
    /// The API server cannot be followed.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// The xDS server failed.
    #[error(transparent)]
    Xds(#[from] xds::ServeError),
    /// The admin server failed.
    #[error("the admin server failed: {0}")]
    Admin(#[source] io::Error),
}

/// The arguments of `sidewall serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    listen: Listen,

    #[command(flatten)]
    access: AccessArgs,

    /// Judge what a pod sends to its own node by its egress policies, too, instead of always
    /// allowing it
    #[arg(long)]
    enforce_own_node_egress: bool,

    /// `sidewall node` runs on every node: serve the nodes their bundles, and let sidecars pass a
    /// connection to a Service with allowed and denied backends, for the node judges the one that
    /// is chosen
    #[arg(long)]
    node_plane: bool,

    /// Hand TCP of pods without a sidecar to the Envoy of their node, unless the annotation
    /// sidewall.dev/redirect of the pod or of its namespace is "false". Without this flag the kernel decides
    /// alone, unless the annotation is "true"
    #[arg(long, requires = "node_plane")]
    redirect: bool,

    /// Leave the series of single pods out of /metrics: three for each sidecar that is connected
    #[arg(long)]
    no_pod_metrics: bool,
}

/// Where the objects come from.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The folder whose YAML and JSON files are the cluster: Pods, Namespaces, NetworkPolicies,
    /// Services, EndpointSlices and Nodes, applied as the files change
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,

    /// Follow the API server that KUBECONFIG, ~/.kube/config or the pod's service account leads to
    #[arg(long)]
    kube: bool,
}

impl Source {
    /// Starts to follow it. An API server also has gates to be opened.
    async fn start(
        self,
        metrics: &KubeMetrics,
        shutdown: CancellationToken,
    ) -> Result<(mpsc::Receiver<Batch>, Option<Readiness>), Error> {
        if let Some(folder) = self.manifests {
            info!(folder = %folder.display(), "following manifests");
            return Ok((manifests::start(&folder, shutdown), None));
        }
        let (events, readiness) = kube::start(metrics, shutdown).await?;
        Ok((events, Some(readiness)))
    }
}

impl Args {
    /// Serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When an address is refused or taken, nothing tells where the API server is, or a server fails.
    pub async fn run(self) -> Result<(), Error> {
        let Self {
            source,
            listen,
            access,
            enforce_own_node_egress,
            node_plane,
            redirect,
            no_pod_metrics,
        } = self;
        let shutdown = shutdown::on_signal().map_err(Error::Signals)?;
        let listeners = listen.bind(access.is_verified()).await?;
        let access = access.open().await?;
        let options = Options {
            node_plane,
            enforce_own_node_egress,
            tcp_path: if redirect {
                TcpPath::NodeProxy
            } else {
                TcpPath::Kernel
            },
        };
        let metrics = metrics::registry();
        let (events, readiness) = source.start(&metrics.kube, shutdown.clone()).await?;
        let publisher = publish::start(events, options, shutdown.clone());
        let served = Served {
            problems: publisher.problems(),
            source: publisher,
            readiness,
            metrics,
            pod_metrics: !no_pod_metrics,
        };
        serve(listeners, access, served, shutdown).await
    }
}

/// What there is to be served and told.
pub struct Served {
    /// The snapshots.
    pub source: Arc<dyn SnapshotSource>,
    /// What is wrong with the objects at the moment.
    pub problems: watch::Receiver<Arc<Vec<Problem>>>,
    /// The readiness gates of pods, where there are any to be opened.
    pub readiness: Option<Readiness>,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether `/metrics` has series of single pods.
    pub pod_metrics: bool,
}

/// Serves on both listeners to whom `access` lets in, until `shutdown` is cancelled and the clients have
/// gone, for which they get five seconds.
///
/// # Errors
/// When one of the servers fails; the other one is shut down then, too.
pub async fn serve(
    listeners: Listeners,
    access: Access,
    served: Served,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let Served {
        source,
        problems,
        readiness,
        metrics,
        pod_metrics,
    } = served;
    let Listeners { xds, admin } = listeners;
    let clients = Clients::default();
    let server = xds::Server::new(
        Arc::clone(&source),
        access,
        clients.clone(),
        metrics.xds,
        shutdown.clone(),
    );
    if let Some(readiness) = readiness {
        let (source, clients) = (Arc::clone(&source), clients.clone());
        let opening = async move { readiness.run(&*source, &clients).await };
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(opening));
    }
    let pages = Admin {
        source,
        clients,
        problems,
        registry: Arc::new(metrics.registry),
        pod_metrics,
    };

    let xds = async { server.run(xds).await.map_err(Error::from) };
    let admin = async {
        pages
            .run(admin, shutdown.clone())
            .await
            .map_err(Error::Admin)
    };
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = async { tokio::try_join!(xds, admin) } => {
            shutdown.cancel();
            ended?;
            info!("every client has hung up");
        }
        () = drained => warn!("some clients have not hung up within {DRAIN:?}; closing their connections"),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
