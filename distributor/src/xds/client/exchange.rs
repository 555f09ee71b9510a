//! One stream after the other, and what outlives them: the last snapshot and its version.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use envoy_types::pb::google::rpc;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Uri};
use tonic::{Code, Request, Status};
use tracing::{debug, info, warn};

use super::credentials::CredentialsError;
use super::unpack::{Carried, Unusable, unpack};
use super::{Follower, Link};
use crate::xds::resource;
use crate::xds::session::RESOURCE_NAME;

/// The server takes a call at once, before it asks who calls. One that meets the end of its connection
/// at the wrong moment may never hear of it (seen with tonic 0.14 and hyper 1.12: one in some thousand).
const TAKING: Duration = Duration::from_secs(3);

/// Why there is no stream any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Nobody took the connection.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: Uri,
        /// What the system says.
        reason: String,
    },
    /// There is nothing to show, or nothing to trust.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The server or the connection ended it.
    #[error("the stream broke ({code:?}): {reason}")]
    Status {
        /// The gRPC code.
        code: Code,
        /// What the server or the transport says.
        reason: String,
    },
    /// The server ended it in good order, as it does when it shuts down.
    #[error("the server ended the stream")]
    Ended,
}

impl Broken {
    pub(super) fn unreachable(endpoint: &Uri, error: &tonic::transport::Error) -> Self {
        Self::Unreachable {
            endpoint: endpoint.clone(),
            reason: innermost(error),
        }
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        // Of the transport's errors the message says only that there was one.
        let reason = status
            .source()
            .map_or_else(|| status.message().to_owned(), innermost);
        Self::Status {
            code: status.code(),
            reason,
        }
    }
}

/// The last of a chain of causes: those around it say only that something failed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The client's side of the protocol.
pub(super) struct Exchange {
    node_id: String,
    /// The version of the snapshot in force, in the server's words.
    version: Option<String>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    status: watch::Sender<Link>,
}

impl Exchange {
    pub(super) fn new(node_id: String) -> (Self, Follower) {
        let (snapshots, heard) = watch::channel(None);
        let (status, link) = watch::channel(Link::Connecting);
        let exchange = Self {
            node_id,
            version: None,
            snapshots,
            status,
        };
        let follower = Follower {
            snapshots: heard,
            status: link,
        };
        (exchange, follower)
    }

    /// One stream, until it breaks.
    pub(super) async fn run(
        &mut self,
        channel: Channel,
        authorization: Option<MetadataValue<Ascii>>,
    ) -> Broken {
        match self.stream(channel, authorization).await {
            Ok(()) => Broken::Ended,
            Err(status) => status.into(),
        }
    }

    /// Notes that there is no stream.
    pub(super) fn down(&self, broken: &Broken) {
        let at = SystemTime::now();
        let news = self
            .status
            .send_if_modified(|link| link.lose(at, broken.to_string()));
        if news {
            warn!(node_id = %self.node_id, "not connected to the distributor, the last snapshot stays in force: {broken}");
        }
    }

    async fn stream(
        &mut self,
        channel: Channel,
        authorization: Option<MetadataValue<Ascii>>,
    ) -> Result<(), Status> {
        // One answer is on its way at most, for the server waits for it.
        let (requests, outgoing) = mpsc::channel(1);
        let first = tokio_stream::once(self.first());
        let outgoing = tokio_stream::StreamExt::chain(first, ReceiverStream::new(outgoing));
        let mut call = Request::new(outgoing);
        if let Some(authorization) = authorization {
            call.metadata_mut().insert("authorization", authorization);
        }
        let mut client = ExtensionConfigDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(resource::MAX_RESPONSE_BYTES);
        let mut responses = timeout(TAKING, client.delta_extension_configs(call))
            .await
            .map_err(|_| Status::deadline_exceeded(format!("not taken within {TAKING:?}")))??
            .into_inner();
        info!(node_id = %self.node_id, "connected to the distributor");
        self.status.send_replace(Link::Up {
            since: SystemTime::now(),
        });
        while let Some(response) = responses.message().await? {
            let answer = self.take(response).await;
            // Fails only on a broken stream, and then the next message says why.
            let _broken = requests.send(answer).await;
        }
        Ok(())
    }

    /// Who this is, what it wants and what it has.
    fn first(&self) -> DeltaDiscoveryRequest {
        let versions = self.version.iter();
        DeltaDiscoveryRequest {
            node: Some(Node {
                id: self.node_id.clone(),
                user_agent_name: "sidewall".to_owned(),
                ..Node::default()
            }),
            type_url: resource::type_url(),
            resource_names_subscribe: vec![RESOURCE_NAME.to_owned()],
            initial_resource_versions: versions
                .map(|version| (RESOURCE_NAME.to_owned(), version.clone()))
                .collect::<HashMap<_, _>>(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// Takes a response in and answers it.
    async fn take(&mut self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let nonce = response.nonce.clone();
        // Checking a large snapshot takes a while: not on a thread that serves others.
        let unpacked = tokio::task::spawn_blocking(move || unpack(response))
            .await
            .unwrap_or_else(|died| Err(Unusable::Died(died)));
        let error_detail = match unpacked {
            Ok(None) => None,
            Ok(Some(carried)) => {
                self.hold(carried);
                None
            }
            Err(unusable) => {
                warn!(node_id = %self.node_id, "refused a snapshot, the last one stays in force: {unusable}");
                Some(rpc::Status {
                    code: Code::InvalidArgument.into(),
                    message: unusable.to_string(),
                    details: Vec::new(),
                })
            }
        };
        DeltaDiscoveryRequest {
            type_url: resource::type_url(),
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn hold(&mut self, carried: Carried) {
        let Carried { version, snapshot } = carried;
        let revision = snapshot.revision();
        debug!(node_id = %self.node_id, %revision, bytes = snapshot.bytes().len(), "took a snapshot");
        self.version = Some(version);
        self.snapshots.send_if_modified(|held| {
            let news = held.as_ref().map(|held| held.revision()) != Some(revision);
            if news {
                *held = Some(Arc::new(snapshot));
            }
            news
        });
    }
}
