//! The listening side: handshakes, HTTP/2 limits, keepalive, start and end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryServiceServer;
use futures::{Stream, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tracing::{debug, info, warn};

use super::clients::Clients;
use super::connection::{Connection, HandshakeError};
use super::identity::{Authenticator, PlaintextIdentity};
use super::resource;
use super::service::Service;
use super::tls::Tls;
use crate::metrics::{RefusalReason, XdsMetrics};
use crate::snapshots::SnapshotSource;

/// A client that says nothing for this long is pinged ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// ... and is gone if it does not answer: its node lost power, or its network was cut.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after the system refused to hand over a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

/// How many handshakes may be under way: when all clients come back at the same time, the others
/// wait in the kernel's queue.
const HANDSHAKES: usize = 1024;

/// The largest request read. A node with all of Istio's metadata has some 60 KB.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// How clients get in.
pub struct Access {
    /// What encrypts; without it connections are plain text.
    pub tls: Option<Tls>,
    /// Who tells who they are.
    pub authenticator: Arc<dyn Authenticator>,
}

impl Access {
    /// Plain text, where everybody is who he says he is.
    pub fn plaintext() -> Self {
        Self {
            tls: None,
            authenticator: Arc::new(PlaintextIdentity),
        }
    }
}

/// The delta ECDS server.
pub struct Server {
    service: Service,
    tls: Option<Arc<Tls>>,
}

/// Serving ended with an error.
#[derive(Debug, thiserror::Error)]
#[error("the xds server on {address} failed: {source}")]
pub struct ServeError {
    address: SocketAddr,
    source: tonic::transport::Error,
}

impl Server {
    /// A server that gives each client that `access` lets in its own snapshots.
    /// It ends when `shutdown` is cancelled.
    pub fn new(
        source: Arc<dyn SnapshotSource>,
        access: Access,
        clients: Clients,
        metrics: XdsMetrics,
        shutdown: CancellationToken,
    ) -> Self {
        let Access { tls, authenticator } = access;
        let tasks = TaskTracker::new();
        let service = Service {
            source,
            authenticator,
            clients,
            metrics,
            shutdown,
            tasks,
        };
        let tls = tls.map(Arc::new);
        Self { service, tls }
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
        let Self { service, tls } = self;
        let (shutdown, tasks) = (service.shutdown.clone(), service.tasks.clone());
        let connections = connections(listener, tls, service.metrics.clone());
        let grpc = ExtensionConfigDiscoveryServiceServer::new(service)
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .max_encoding_message_size(resource::MAX_RESPONSE_BYTES);
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(grpc)
            .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
            .await;
        tasks.close();
        tasks.wait().await;
        served.map_err(|source| ServeError { address, source })
    }
}

/// The connections of a listener, as each is ready to be used. One that is not good never gets here.
fn connections(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    metrics: XdsMetrics,
) -> impl Stream<Item = io::Result<Connection>> {
    TcpIncoming::from(listener)
        // A push is many small writes on an otherwise idle connection.
        .with_nodelay(Some(true))
        .then(async |accepted| {
            if let Err(error) = &accepted {
                warn!("cannot accept a connection: {error}");
                // Out of file descriptors, most likely: trying again at once would only spin.
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
            accepted
        })
        .map(move |accepted| {
            let (tls, metrics) = (tls.clone(), metrics.clone());
            // A task each: handshakes are work for every core, and none waits for a slow one.
            async move { tokio::spawn(open(accepted, tls, metrics)).await }
        })
        .buffer_unordered(HANDSHAKES)
        .filter_map(async |opened| opened.ok().flatten().map(Ok))
}

/// Makes a connection of what was accepted, or says why not.
async fn open(
    accepted: io::Result<TcpStream>,
    tls: Option<Arc<Tls>>,
    metrics: XdsMetrics,
) -> Option<Connection> {
    let stream = accepted.ok()?;
    // Fails when the client has gone already.
    let peer = stream.peer_addr().ok()?;
    let Some(tls) = tls else {
        return Some(Connection::plain(stream, peer));
    };
    let failure = match Connection::tls(stream, peer, &tls).await {
        Ok(connection) => return Some(connection),
        Err(failure) => failure,
    };
    let reason = failure.reason();
    let label = RefusalReason { reason };
    metrics.refusals.get_or_create(&label).inc();
    match &failure {
        HandshakeError::Certificate(_) | HandshakeError::Unreadable(_) => {
            warn!(%peer, reason, "client turned away: {failure}");
        }
        // Whoever only looks whether the port is open.
        HandshakeError::Handshake(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            debug!(%peer, reason, "no TLS handshake: {failure}");
        }
        HandshakeError::Handshake(_) | HandshakeError::Slow => {
            info!(%peer, reason, "no TLS handshake: {failure}");
        }
    }
    None
}
