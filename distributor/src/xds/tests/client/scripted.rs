//! A gRPC server that says exactly what a test wants said: ours would send none of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::PluginConfig;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::{
    ExtensionConfigDiscoveryService, ExtensionConfigDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf::BytesValue;
use envoy_types::util::pack_any;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::SOON;
use crate::snapshots::Published;

type Saying = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

/// The test's end of it.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    heard: mpsc::Receiver<DeltaDiscoveryRequest>,
    saying: Arc<Mutex<Option<Saying>>>,
    mute: Arc<AtomicBool>,
}

struct Script {
    hearing: mpsc::Sender<DeltaDiscoveryRequest>,
    saying: Arc<Mutex<Option<Saying>>>,
    mute: Arc<AtomicBool>,
}

impl Scripted {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (hearing, heard) = mpsc::channel(8);
        let saying = Arc::new(Mutex::new(None));
        let mute = Arc::<AtomicBool>::default();
        let script = Script {
            hearing,
            saying: Arc::clone(&saying),
            mute: Arc::clone(&mute),
        };
        let server = tonic::transport::Server::builder()
            .add_service(ExtensionConfigDiscoveryServiceServer::new(script))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        Self {
            address,
            heard,
            saying,
            mute,
        }
    }

    /// Answers no call from now on.
    pub(super) fn takes_no_call(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }

    /// Answers calls again.
    pub(super) fn takes_calls(&self) {
        self.mute.store(false, Ordering::SeqCst);
    }

    /// The next request.
    pub(super) async fn hears(&mut self) -> DeltaDiscoveryRequest {
        let heard = tokio::time::timeout(SOON, self.heard.recv()).await;
        heard.expect("a request soon").expect("a running server")
    }

    /// Sends on the newest stream.
    pub(super) async fn says(&self, response: DeltaDiscoveryResponse) {
        let saying = self.saying.lock().await;
        saying.as_ref().unwrap().send(Ok(response)).await.unwrap();
    }

    /// Ends the newest stream.
    pub(super) async fn breaks_off(&self) {
        let saying = self.saying.lock().await.take().unwrap();
        let status = Status::unavailable("broken off");
        saying.send(Err(status)).await.unwrap();
    }
}

#[tonic::async_trait]
impl ExtensionConfigDiscoveryService for Script {
    type StreamExtensionConfigsStream = tokio_stream::Empty<Result<DiscoveryResponse, Status>>;
    type DeltaExtensionConfigsStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_extension_configs(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaExtensionConfigsStream>, Status> {
        if self.mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let (saying, said) = mpsc::channel(8);
        *self.saying.lock().await = Some(saying);
        let (hearing, mut requests) = (self.hearing.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if hearing.send(request).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(said)))
    }

    async fn stream_extension_configs(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamExtensionConfigsStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn fetch_extension_configs(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("delta only"))
    }
}

/// A response as it should be.
pub(super) fn response(nonce: &str, published: &Published) -> DeltaDiscoveryResponse {
    let mut response = with_bytes(nonce, &published.bytes);
    response.resources[0].version = published.revision.to_string();
    response
}

/// A response that is well wrapped, whatever is in it.
pub(super) fn with_bytes(nonce: &str, bytes: &[u8]) -> DeltaDiscoveryResponse {
    let plugin = PluginConfig {
        configuration: Some(pack_any(BytesValue {
            value: bytes.to_vec(),
        })),
        ..PluginConfig::default()
    };
    let extension = TypedExtensionConfig {
        name: "sidewall".to_owned(),
        typed_config: Some(pack_any(Wasm {
            config: Some(plugin),
        })),
    };
    DeltaDiscoveryResponse {
        resources: vec![Resource {
            name: "sidewall".to_owned(),
            version: "unreadable".to_owned(),
            resource: Some(pack_any(extension)),
            ..Resource::default()
        }],
        nonce: nonce.to_owned(),
        ..DeltaDiscoveryResponse::default()
    }
}
