//! A real server on loopback and a client that speaks delta ECDS as an Envoy does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::pb::google::rpc;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::metrics::XdsMetrics;
use crate::snapshots::Recipient;
use crate::testing::Shelf;
use crate::xds::{Access, Clients, RESOURCE_NAME, ServeError, Server, Stream};

/// Long enough for anything that must happen on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// What must not happen is waited for this long.
pub(crate) const QUIET: Duration = Duration::from_millis(200);

/// A running server and what it is made from.
pub(crate) struct Running {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) clients: Clients,
    pub(crate) metrics: XdsMetrics,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ServeError>>,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(Access::plaintext()).await
    }

    pub(crate) async fn start_with(access: Access) -> Self {
        Self::launch("127.0.0.1:0", access).await
    }

    pub(crate) async fn start_at(address: impl ToSocketAddrs) -> Self {
        Self::launch(address, Access::plaintext()).await
    }

    async fn launch(address: impl ToSocketAddrs, access: Access) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shelf, clients, metrics) = (
            Arc::new(Shelf::default()),
            Clients::default(),
            XdsMetrics::default(),
        );
        let shutdown = CancellationToken::new();
        let source = Arc::clone(&shelf);
        let server = Server::new(
            source,
            access,
            clients.clone(),
            metrics.clone(),
            shutdown.clone(),
        );
        let task = tokio::spawn(server.run(listener));
        Self {
            shelf,
            clients,
            metrics,
            shutdown,
            task,
            address,
        }
    }

    pub(crate) async fn client(&self) -> ExtensionConfigDiscoveryServiceClient<Channel> {
        self.try_client().await.unwrap()
    }

    /// A client in plain text, if it can connect.
    pub(crate) async fn try_client(
        &self,
    ) -> Result<ExtensionConfigDiscoveryServiceClient<Channel>, tonic::transport::Error> {
        ExtensionConfigDiscoveryServiceClient::connect(format!("http://{}", self.address)).await
    }

    /// A connected sidecar that has subscribed.
    pub(crate) async fn sidecar(&self, node_id: &str) -> Sidecar {
        self.open(first(node_id)).await
    }

    pub(crate) async fn open(&self, first: DeltaDiscoveryRequest) -> Sidecar {
        let client = self.client().await;
        Sidecar::open(client, first, None).await.unwrap()
    }

    /// Waits until the pod's latest stream is as it should be.
    pub(crate) async fn until(
        &self,
        pod: &str,
        what: &str,
        holds: impl Fn(&Stream) -> bool,
    ) -> Stream {
        let sidecar = crate::testing::recipient(pod);
        self.until_of(&sidecar, what, holds).await
    }

    /// Waits until the recipient's latest stream is as it should be.
    pub(crate) async fn until_of(
        &self,
        recipient: &Recipient,
        what: &str,
        holds: impl Fn(&Stream) -> bool,
    ) -> Stream {
        let poll = async {
            loop {
                if let Some(stream) = self
                    .clients
                    .all()
                    .get(recipient)
                    .and_then(|client| client.latest())
                    && holds(stream)
                {
                    return stream.clone();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(SOON, poll).await {
            Ok(stream) => stream,
            Err(_) => panic!("not {what}: {:?}", self.clients.all().get(recipient)),
        }
    }
}

/// One stream, from the client's side.
pub(crate) struct Sidecar {
    pub(crate) requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Sidecar {
    /// Opens a stream that begins with `first`, with credentials if there are any.
    pub(crate) async fn open(
        mut client: ExtensionConfigDiscoveryServiceClient<Channel>,
        first: DeltaDiscoveryRequest,
        authorization: Option<&str>,
    ) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(first).await.unwrap();
        let mut call = Request::new(ReceiverStream::new(receiver));
        if let Some(authorization) = authorization {
            let authorization = authorization.parse().unwrap();
            call.metadata_mut().insert("authorization", authorization);
        }
        let responses = client.delta_extension_configs(call).await?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    /// The next response.
    pub(crate) async fn receive(&mut self) -> DeltaDiscoveryResponse {
        self.next()
            .await
            .expect("no error")
            .expect("a response, not the end")
    }

    /// The status with which the server ended the stream.
    pub(crate) async fn refusal(&mut self) -> Status {
        self.next().await.expect_err("a refusal")
    }

    /// The next response, the end, or an error.
    pub(crate) async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        tokio::time::timeout(SOON, self.responses.message())
            .await
            .expect("something within ten seconds")
    }

    /// Nothing comes for a while.
    pub(crate) async fn hears_nothing(&mut self) {
        if let Ok(heard) = tokio::time::timeout(QUIET, self.responses.message()).await {
            panic!("unexpected: {heard:?}");
        }
    }

    pub(crate) async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub(crate) async fn ack(&self, response: &DeltaDiscoveryResponse) {
        self.send(DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            ..request()
        })
        .await;
    }

    pub(crate) async fn nack(&self, response: &DeltaDiscoveryResponse, message: &str) {
        let error = rpc::Status {
            code: 13,
            message: message.to_owned(),
            details: Vec::new(),
        };
        let response_nonce = response.nonce.clone();
        self.send(DeltaDiscoveryRequest {
            response_nonce,
            error_detail: Some(error),
            ..request()
        })
        .await;
    }
}

/// An empty request of the right type.
pub(crate) fn request() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: super::TYPE_URL.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// What a fresh Envoy says first.
pub(crate) fn first(node_id: &str) -> DeltaDiscoveryRequest {
    let node = Node {
        id: node_id.to_owned(),
        ..Node::default()
    };
    DeltaDiscoveryRequest {
        node: Some(node),
        resource_names_subscribe: vec![RESOURCE_NAME.to_owned()],
        ..request()
    }
}

/// What an Envoy that has a snapshot says first after its stream broke.
pub(crate) fn again(node_id: &str, version: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        initial_resource_versions: HashMap::from([(RESOURCE_NAME.to_owned(), version.to_owned())]),
        ..first(node_id)
    }
}

/// Node metadata with one entry.
pub(crate) fn metadata(key: &str, value: Kind) -> Struct {
    Struct {
        fields: HashMap::from([(key.to_owned(), Value { kind: Some(value) })]),
    }
}
