//! The gRPC service: one task for each stream, which moves bytes between a [`Session`] and the wire.

use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryService;
use prost::Message as _;
use sidewall_policy::snapshot::Revision;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, error, info, warn};

use super::clients::{Clients, Connection, Refused, Refuser};
use super::connection::Peer;
use super::identity::{Authenticator, Caller, Identity, Refusal};
use super::resource;
use super::session::{Answer, Next, Plan, RESOURCE_NAME, Session};
use crate::metrics::{RefusalReason, XdsMetrics};
use crate::snapshots::{Published, Recipient, SnapshotSource};

/// What all streams share.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) source: Arc<dyn SnapshotSource>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) clients: Clients,
    pub(super) metrics: XdsMetrics,
    pub(super) shutdown: CancellationToken,
    pub(super) tasks: TaskTracker,
}

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

#[tonic::async_trait]
impl ExtensionConfigDiscoveryService for Service {
    type StreamExtensionConfigsStream = tokio_stream::Empty<Result<DiscoveryResponse, Status>>;
    type DeltaExtensionConfigsStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_extension_configs(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaExtensionConfigsStream>, Status> {
        let (metadata, extensions, requests) = request.into_parts();
        let peer = extensions.get::<Peer>().cloned();
        // One response is outstanding at most, and one error may follow it.
        let (responses, receiver) = mpsc::channel(2);
        let service = self.clone();
        self.tasks.spawn(async move {
            let served = service.serve(peer.as_ref(), metadata, requests, &responses);
            if let Err(failure) = served.await {
                let status = service.tell(peer.as_ref(), failure);
                // Fails only if the client has gone, and then nobody wants to know.
                let _gone = responses.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn stream_extension_configs(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamExtensionConfigsStream>, Status> {
        Err(only_delta())
    }

    async fn fetch_extension_configs(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(only_delta())
    }
}

/// State-of-the-world clients acknowledge a response even when the resource in it is not theirs,
/// so their word could not be trusted.
fn only_delta() -> Status {
    Status::unimplemented(
        "only delta ECDS is served here: set api_type: DELTA_GRPC in api_config_source",
    )
}

/// Why a stream ended before its time.
enum Failure {
    /// The client is not who it should be.
    Refused(Refusal),
    /// What it says is not the protocol.
    Status(Status),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Service {
    /// Serves one stream until the client or this process ends it; an error is the client's to hear.
    async fn serve(
        &self,
        peer: Option<&Peer>,
        metadata: MetadataMap,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        responses: &Responses,
    ) -> Result<(), Failure> {
        let first = tokio::select! {
            () = self.shutdown.cancelled() => return Ok(()),
            () = responses.closed() => return Ok(()),
            first = requests.message() => first?,
        };
        let Some(first) = first else {
            return Ok(());
        };
        check_type(&first)?;
        let node = first.node.clone().ok_or_else(|| {
            Status::invalid_argument(
                "the first request of a stream must carry node: without node.id no pod is known",
            )
        })?;
        let wasm_path =
            resource::wasm_path(&node).map_err(|bad| Status::invalid_argument(bad.to_string()))?;
        let caller = Caller {
            metadata: &metadata,
            certificate: peer.and_then(|peer| peer.certificate.as_deref()),
            node_id: &node.id,
        };
        let Identity {
            recipient,
            pod_uid,
            proof,
            until,
        } = self.authenticator.authenticate(caller).await?;

        let peer = peer.map(|peer| peer.address);
        info!(%recipient, %proof, peer = peer.map(tracing::field::display), "client connected");
        let stream = Stream {
            service: self,
            snapshots: self.source.subscribe(&recipient),
            connection: self
                .clients
                .connect(&recipient, pod_uid, peer, SystemTime::now()),
            session: Session::default(),
            sent: None,
            retry: None,
            end: until.map(instant),
            node_id: &node.id,
            recipient: &recipient,
            wasm_path: &wasm_path,
            responses,
        };
        self.metrics.streams.inc();
        let outcome = stream.run(first, requests).await;
        self.metrics.streams.dec();
        info!(%recipient, peer = peer.map(tracing::field::display), "client disconnected");
        outcome
    }

    /// Logs and counts why a stream ended, and says how to put it to the client.
    fn tell(&self, peer: Option<&Peer>, failure: Failure) -> Status {
        let peer = peer.map(|peer| tracing::field::display(peer.address));
        match failure {
            Failure::Refused(refusal) => {
                let reason = refusal.reason();
                warn!(peer, reason, "client turned away: {refusal}");
                let label = RefusalReason { reason };
                self.metrics.refusals.get_or_create(&label).inc();
                refusal.status()
            }
            Failure::Status(status) => {
                info!(peer, code = ?status.code(), "xds stream refused: {}", status.message());
                status
            }
        }
    }
}

/// An empty type is that of the service.
fn check_type(request: &DeltaDiscoveryRequest) -> Result<(), Status> {
    let expected = resource::type_url();
    if request.type_url.is_empty() || request.type_url == expected {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "type_url {:?} is not served here, only {expected}",
        request.type_url
    )))
}

/// The same moment on the clock that timers go by.
fn instant(at: SystemTime) -> Instant {
    Instant::now() + at.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Waits until then; for ever if there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One identified client's stream.
struct Stream<'a> {
    service: &'a Service,
    snapshots: watch::Receiver<Option<Published>>,
    connection: Connection,
    session: Session,
    /// When the outstanding snapshot was sent.
    sent: Option<Instant>,
    /// When to offer the refused snapshot again.
    retry: Option<Instant>,
    /// When the client has to prove anew who it is.
    end: Option<Instant>,
    /// Who it said it was.
    node_id: &'a str,
    recipient: &'a Recipient,
    wasm_path: &'a str,
    responses: &'a Responses,
}

impl Stream<'_> {
    async fn run(
        mut self,
        first: DeltaDiscoveryRequest,
        mut requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Result<(), Failure> {
        self.read(&first);
        let mut publishing = true;
        loop {
            self.advance().await;
            tokio::select! {
                () = self.service.shutdown.cancelled() => return Ok(()),
                () = self.responses.closed() => return Ok(()),
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        check_type(&request)?;
                        self.check_id(&request)?;
                        self.read(&request);
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        debug!(recipient = %self.recipient, "xds stream broke: {}", status.message());
                        return Ok(());
                    }
                },
                // A publisher that has gone leaves its last word in force.
                changed = self.snapshots.changed(), if publishing => publishing = changed.is_ok(),
                () = until(self.retry) => {
                    self.retry = None;
                    self.session.retry();
                }
                () = until(self.end) => {
                    // It keeps its snapshot, and says on its next stream that it has it.
                    info!(recipient = %self.recipient, "the stream ends with its token: the client comes back with a new one");
                    return Ok(());
                }
            }
        }
    }

    /// Who it is was settled when the stream began.
    fn check_id(&self, request: &DeltaDiscoveryRequest) -> Result<(), Refusal> {
        match &request.node {
            Some(node) if node.id != self.node_id => Err(Refusal::ChangedId {
                first: self.node_id.to_owned(),
                now: node.id.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn read(&mut self, request: &DeltaDiscoveryRequest) {
        let Some(answer) = self.session.read(request) else {
            return;
        };
        let metrics = &self.service.metrics;
        let took = self.sent.take().map(|sent| sent.elapsed());
        match answer {
            Answer::Acked(revision) => {
                debug!(recipient = %self.recipient, %revision, ?took, "snapshot acknowledged");
                metrics.acks.inc();
                if let Some(took) = took {
                    metrics.ack_seconds.observe(took.as_secs_f64());
                }
                self.connection.acked(revision, SystemTime::now());
            }
            Answer::Refused {
                revision,
                reason,
                retry_after,
            } => {
                warn!(recipient = %self.recipient, %revision, "the client refused the snapshot, keeps the one it has and is offered it again in {retry_after:?}: {reason} (an Envoy says why in its own log)");
                self.retry = Some(Instant::now() + retry_after);
                metrics.nacks.inc();
                self.refused(revision, Refuser::Client, reason);
            }
        }
    }

    fn refused(&self, revision: Revision, by: Refuser, reason: String) {
        let at = SystemTime::now();
        self.connection.refused(Refused {
            revision,
            at,
            by,
            reason,
        });
    }

    /// Does what there is to do now: nothing, or one response.
    async fn advance(&mut self) {
        let published = self.snapshots.borrow_and_update().clone();
        match self
            .session
            .next(published.as_ref().map(|published| published.revision))
        {
            Next::Idle => {}
            Next::Holds(revision) => {
                debug!(recipient = %self.recipient, %revision, "reconnected with the wanted snapshot in force");
                self.connection.acked(revision, SystemTime::now());
            }
            Next::Send(plan) => self.send(plan, published.as_ref()).await,
        }
    }

    async fn send(&mut self, plan: Plan, published: Option<&Published>) {
        let mut plan = plan;
        let mut resources = Vec::new();
        if plan.snapshot
            && let Some(published) = published
        {
            match resource::carry(self.recipient, published, self.wasm_path, SystemTime::now()) {
                Ok(resource) => resources.push(resource),
                Err(withheld) => {
                    let revision = published.revision;
                    error!(recipient = %self.recipient, %revision, "snapshot withheld, the client keeps the one it has: {withheld}");
                    self.service.metrics.withheld.inc();
                    self.refused(revision, Refuser::Distributor, withheld.to_string());
                    let Some(rest) = self.session.withhold(plan) else {
                        return;
                    };
                    plan = rest;
                }
            }
        }
        for name in &plan.unknown {
            warn!(recipient = %self.recipient, "asked for resource {name:?}, which does not exist; the only one is {RESOURCE_NAME:?}");
        }
        let revision = published
            .filter(|_| plan.snapshot)
            .map(|published| published.revision);
        let response = DeltaDiscoveryResponse {
            system_version_info: revision
                .map(|revision| revision.to_string())
                .unwrap_or_default(),
            resources,
            type_url: resource::type_url(),
            removed_resources: plan.unknown,
            nonce: plan.nonce,
            ..DeltaDiscoveryResponse::default()
        };
        if let Some(revision) = revision {
            let metrics = &self.service.metrics;
            let bytes = response.encoded_len();
            debug!(recipient = %self.recipient, %revision, bytes, "snapshot sent");
            metrics.pushes.inc();
            metrics.bytes.inc_by(bytes as u64);
            self.sent = Some(Instant::now());
            self.retry = None;
            self.connection.sent(revision, SystemTime::now());
        }
        // A client that has gone is noticed by the loop.
        let _gone = self.responses.send(Ok(response)).await;
    }
}
