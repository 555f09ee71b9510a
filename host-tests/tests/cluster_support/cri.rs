//! The calls of CRI (`runtime.v1` of k8s.io/cri-api) that the kubelet makes to start a pod, with the fields that a test
//! needs.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

#[derive(Clone, PartialEq, Message)]
pub struct PodMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodMetadata>,
    #[prost(map = "string, string", tag = "7")]
    pub annotations: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

/// A request or a response whose first field is all that counts.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Id>,
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatus {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int32, tag = "7")]
    exit_code: i32,
}

/// `CONTAINER_EXITED`.
const EXITED: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct SandboxStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<SandboxStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxStatus {
    /// `network`, whose first field is the address.
    #[prost(message, optional, tag = "5")]
    network: Option<Id>,
}

/// A client of the runtime's socket.
#[derive(Clone)]
pub struct Cri {
    channel: Channel,
}

impl Cri {
    /// Connects with the first call.
    pub fn new(runtime: &Runtime, socket: &Path) -> Result<Self> {
        let _entered = runtime.enter();
        let socket = socket.to_owned();
        let connect = service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://containerd");
        let channel = endpoint.connect_with_connector_lazy(connect);
        Ok(Self { channel })
    }

    async fn call<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await?;
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}").parse()?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let answer = client.unary(tonic::Request::new(request), path, codec);
        Ok(answer
            .await
            .with_context(|| method.to_owned())?
            .into_inner())
    }

    /// Whether it answers.
    pub async fn is_ready(&self) -> bool {
        self.call::<_, Id>("Version", Id::default()).await.is_ok()
    }

    /// Returns the sandbox's ID.
    pub async fn run_sandbox(&self, pod: &PodConfig) -> Result<String> {
        let config = Some(pod.clone());
        let sandbox: Id = self.call("RunPodSandbox", RunPodSandbox { config }).await?;
        Ok(sandbox.id)
    }

    /// Runs a container to its end, and returns its exit code.
    pub async fn run_container(
        &self,
        pod: &PodConfig,
        sandbox: &str,
        name: &str,
        image: &str,
        command: &[&str],
    ) -> Result<i32> {
        let id = |id: &str| Some(Id { id: id.to_owned() });
        let config = ContainerConfig {
            metadata: id(name),
            image: id(image),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        };
        let request = CreateContainer {
            sandbox: sandbox.to_owned(),
            config: Some(config),
            pod: Some(pod.clone()),
        };
        let container: Id = self.call("CreateContainer", request).await?;
        self.call::<_, Id>("StartContainer", container.clone())
            .await?;
        let started = Instant::now();
        loop {
            let answer: ContainerStatusResponse =
                self.call("ContainerStatus", container.clone()).await?;
            let status = answer.status.context("no status")?;
            if status.state == EXITED {
                return Ok(status.exit_code);
            }
            if started.elapsed() > Duration::from_secs(20) {
                bail!("the container {name} goes on");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The sandbox's address.
    pub async fn address(&self, sandbox: &str) -> Result<String> {
        let id = sandbox.to_owned();
        let answer: SandboxStatusResponse = self.call("PodSandboxStatus", Id { id }).await?;
        let network = answer.status.and_then(|status| status.network);
        Ok(network.context("no network")?.id)
    }

    /// Stops and removes a sandbox with its containers.
    pub async fn remove(&self, sandbox: &str) -> Result<()> {
        let id = || Id {
            id: sandbox.to_owned(),
        };
        self.call::<_, Id>("StopPodSandbox", id()).await?;
        self.call::<_, Id>("RemovePodSandbox", id()).await?;
        Ok(())
    }
}
