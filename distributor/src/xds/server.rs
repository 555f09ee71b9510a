//! The listening side: HTTP/2 limits, keepalive, start and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryServiceServer;
use futures::StreamExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tracing::warn;

use super::clients::Clients;
use super::identity::Authenticator;
use super::resource;
use super::service::Service;
use crate::metrics::XdsMetrics;
use crate::snapshots::SnapshotSource;

/// A client that says nothing for this long is pinged ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// ... and is gone if it does not answer: its node lost power, or its network was cut.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after the system refused to hand over a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

/// The largest request read. A node with all of Istio's metadata has some 60 KB.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The delta ECDS server.
pub struct Server {
    service: Service,
}

/// Serving ended with an error.
#[derive(Debug, thiserror::Error)]
#[error("the xds server on {address} failed: {source}")]
pub struct ServeError {
    address: SocketAddr,
    source: tonic::transport::Error,
}

impl Server {
    /// A server that gives each client the snapshots of the pod that `authenticator` says it is.
    /// It ends when `shutdown` is cancelled.
    pub fn new(
        source: Arc<dyn SnapshotSource>,
        authenticator: Arc<dyn Authenticator>,
        clients: Clients,
        metrics: XdsMetrics,
        shutdown: CancellationToken,
    ) -> Self {
        let tasks = TaskTracker::new();
        let service = Service {
            source,
            authenticator,
            clients,
            metrics,
            shutdown,
            tasks,
        };
        Self { service }
    }

    /// Accepts connections until shutdown, then stops listening, ends every stream, and returns
    /// when the clients have hung up. A client may take its time: the caller sets a limit.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, listener: TcpListener) -> Result<(), ServeError> {
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let Self { service } = self;
        let (shutdown, tasks) = (service.shutdown.clone(), service.tasks.clone());
        let grpc = ExtensionConfigDiscoveryServiceServer::new(service)
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .max_encoding_message_size(resource::MAX_RESPONSE_BYTES);
        let incoming = TcpIncoming::from(listener)
            // A push is many small writes on an otherwise idle connection.
            .with_nodelay(Some(true))
            .then(async |accepted| {
                if let Err(error) = &accepted {
                    warn!("cannot accept a connection: {error}");
                    // Out of file descriptors, most likely: trying again at once would only spin.
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
                accepted
            });
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(grpc)
            .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
            .await;
        tasks.close();
        tasks.wait().await;
        served.map_err(|source| ServeError { address, source })
    }
}
