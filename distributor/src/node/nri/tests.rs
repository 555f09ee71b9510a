//! The plugin against the calls of a runtime, for what a real one does not do on request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use prost::Message;
use sidewall_policy::compile::{Options, compile_node_snapshot};
use sidewall_policy::model::{Cluster, Labels, NamespacedName, Phase, Pod};
use sidewall_policy::snapshot::Snapshot;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::frame::{
    Assembler, Frame, Kind, PLUGIN_CONNECTION, RUNTIME_CONNECTION, TRUNK_HEADER, encode,
    trunk_header,
};
use super::message::*;
use super::*;

const ADDRESS: &str = "10.0.0.1";

fn snapshot(uid: &str) -> Arc<Snapshot> {
    let mut cluster = Cluster::default();
    let pod = Pod {
        id: NamespacedName::new("shop", "web"),
        labels: Labels::default(),
        node: Some("n1".into()),
        ips: Vec::new(),
        host_network: false,
        uid: Some(uid.into()),
        phase: Phase::Pending,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    };
    let id = pod.id.clone();
    cluster.pods.insert(id.clone(), pod);
    let bytes = compile_node_snapshot(&cluster, &[id], &Options::default());
    Arc::new(Snapshot::check(bytes).unwrap())
}

fn sandbox(uid: &str) -> PodSandbox {
    PodSandbox {
        id: format!("sandbox-{uid}"),
        name: "web".to_owned(),
        uid: uid.to_owned(),
        namespace: "shop".to_owned(),
        ips: vec![ADDRESS.to_owned()],
        ..PodSandbox::default()
    }
}

/// An agent's plugin, and the other end of its socket.
struct Scene {
    listener: UnixListener,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    view: watch::Receiver<Option<Arc<Snapshot>>>,
    condition: watch::Sender<Condition>,
    link: watch::Receiver<Link>,
    metrics: Metrics,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("nri.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (snapshots, following) = watch::channel(None);
        let node = "n1".to_owned();
        let (condition, conditions) = watch::channel(Condition::Waiting { node });
        let (links, link) = watch::channel(Link::Off);
        let metrics = Metrics::register(&mut Registry::default());
        let runtime = Runtime::new(Some(socket), following);
        let view = runtime.snapshots();
        let stop = CancellationToken::new();
        tokio::spawn(runtime.run(conditions, links, metrics.clone(), stop.clone()));
        Self {
            listener,
            snapshots,
            view,
            condition,
            link,
            metrics,
            _folder: folder,
            _stop: stop.drop_guard(),
        }
    }

    /// Accepts the plugin, lets it register and configures it, and tells it the pods that run.
    async fn connect(&self, pods: &[PodSandbox]) -> Caller {
        let (socket, _) = self.listener.accept().await.unwrap();
        let mut caller = Caller {
            socket,
            answers: Assembler::default(),
            stream: 1,
        };
        let frame = caller.receive().await;
        let request = Request::decode(&*frame.data).unwrap();
        assert_eq!(
            (request.service.as_str(), request.method.as_str()),
            (RUNTIME, "RegisterPlugin")
        );
        let register = RegisterPluginRequest::decode(&*request.payload).unwrap();
        assert_eq!(
            (register.plugin_name.as_str(), register.plugin_idx.len()),
            (NAME, 2)
        );
        let accepted = Response::default().encode_to_vec();
        caller
            .send(RUNTIME_CONNECTION, Kind::Response, frame.stream, accepted)
            .await;
        let configured = caller.call("Configure", &ConfigureRequest::default()).await;
        let configured = ConfigureResponse::decode(&*configured).unwrap();
        assert_eq!(configured.events, EVENTS);
        // One pod a message, as with more pods than one message holds.
        for pod in pods {
            let request = SynchronizeRequest {
                pods: vec![pod.clone()],
                more: true,
            };
            let answer = caller.call("Synchronize", &request).await;
            assert!(SynchronizeResponse::decode(&*answer).unwrap().more);
        }
        let last = SynchronizeRequest::default();
        caller.call("Synchronize", &last).await;
        caller
    }

    fn owner(&self) -> Option<String> {
        let address: IpAddr = ADDRESS.parse().unwrap();
        let view = self.view.borrow();
        let owner = view.as_ref()?.owner(address)?;
        Some(owner.name.to_owned())
    }

    /// Enforces each view like the agent, after a pause.
    fn enforce(&self, pause: Duration) {
        let (mut view, condition) = (self.view.clone(), self.condition.clone());
        view.mark_changed();
        tokio::spawn(async move {
            while view.changed().await.is_ok() {
                tokio::time::sleep(pause).await;
                if let Some(snapshot) = &*view.borrow_and_update() {
                    condition.send_replace(Condition::Enforcing {
                        revision: snapshot.revision(),
                        unredirected: Vec::new(),
                    });
                }
            }
        });
    }
}

/// The runtime's end of a connection.
struct Caller {
    socket: UnixStream,
    answers: Assembler,
    stream: u32,
}

impl Caller {
    async fn receive(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.answers.next().unwrap() {
                return frame;
            }
            let mut header = [0; TRUNK_HEADER];
            self.socket.read_exact(&mut header).await.unwrap();
            let (_, length) = trunk_header(header).unwrap();
            let mut piece = vec![0; length];
            self.socket.read_exact(&mut piece).await.unwrap();
            self.answers.push(&piece);
        }
    }

    async fn send(&mut self, connection: u32, kind: Kind, stream: u32, data: Vec<u8>) {
        let frame = Frame { stream, kind, data };
        let bytes = encode(connection, &frame).unwrap();
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn ask(&mut self, method: &str, message: &impl Message) -> Response {
        self.stream += 2;
        let request = Request {
            service: PLUGIN.to_owned(),
            method: method.to_owned(),
            payload: message.encode_to_vec(),
        };
        let data = request.encode_to_vec();
        self.send(PLUGIN_CONNECTION, Kind::Request, self.stream, data)
            .await;
        let frame = self.receive().await;
        assert_eq!((frame.stream, frame.kind), (self.stream, Kind::Response));
        Response::decode(&*frame.data).unwrap()
    }

    async fn call(&mut self, method: &str, message: &impl Message) -> Vec<u8> {
        let response = self.ask(method, message).await;
        assert_eq!(response.status, None, "{method}");
        response.payload
    }

    async fn start(&mut self, uid: &str) -> Duration {
        let started = Instant::now();
        let pod = Some(sandbox(uid));
        self.call("RunPodSandbox", &SandboxRequest { pod }).await;
        started.elapsed()
    }

    async fn stop(&mut self, uid: &str) {
        let pod = Some(sandbox(uid));
        self.call("StopPodSandbox", &SandboxRequest { pod }).await;
    }
}

#[tokio::test]
async fn a_pod_starts_once_the_table_knows_it_and_its_address_ends_with_it() {
    let scene = Scene::new();
    let mut runtime = scene.connect(&[]).await;
    scene.enforce(Duration::from_millis(60));
    scene.snapshots.send_replace(Some(snapshot("u1")));
    let took = runtime.start("u1").await;
    assert!(took >= Duration::from_millis(60), "{took:?}");
    assert!(took < Duration::from_millis(450), "{took:?}");
    assert_eq!(scene.owner().as_deref(), Some("web"));
    assert_eq!(scene.metrics.timeouts.get(), 0);
    assert_eq!(scene.metrics.pods.get(), 1);
    runtime.stop("u1").await;
    assert_eq!(scene.owner(), None);
}

#[tokio::test]
async fn a_pod_that_the_distributor_tells_late_is_waited_for() {
    let scene = Scene::new();
    let mut runtime = scene.connect(&[]).await;
    scene.enforce(Duration::ZERO);
    scene.snapshots.send_replace(Some(snapshot("earlier")));
    let snapshots = scene.snapshots.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        snapshots.send_replace(Some(snapshot("u1")));
    });
    let took = runtime.start("u1").await;
    assert!(took >= Duration::from_millis(90), "{took:?}");
    assert_eq!(scene.owner().as_deref(), Some("web"));
}

#[tokio::test]
async fn a_pod_that_stays_unknown_starts_closed_and_those_after_it_hardly_wait() {
    let scene = Scene::new();
    let mut runtime = scene.connect(&[]).await;
    scene.enforce(Duration::ZERO);
    scene.snapshots.send_replace(Some(snapshot("earlier")));
    let first = runtime.start("u1").await;
    assert!(first >= Duration::from_millis(490), "{first:?}");
    assert!(first < Duration::from_secs(2), "{first:?}");
    let second = runtime.start("u2").await;
    assert!(second < Duration::from_millis(400), "{second:?}");
    assert_eq!(scene.metrics.timeouts.get(), 2);
    assert_eq!(scene.owner(), None);
}

#[tokio::test]
async fn without_the_runtime_its_claims_end_and_the_next_connection_brings_them_back() {
    let mut scene = Scene::new();
    scene.enforce(Duration::ZERO);
    scene.snapshots.send_replace(Some(snapshot("u1")));
    let runtime = scene.connect(&[sandbox("u0"), sandbox("u1")]).await;
    scene
        .link
        .wait_for(|link| *link == Link::Connected)
        .await
        .unwrap();
    assert_eq!(scene.owner().as_deref(), Some("web"));
    drop(runtime);
    let is_away = |link: &Link| matches!(link, Link::Away(_));
    scene.link.wait_for(is_away).await.unwrap();
    assert_eq!(scene.owner(), None);
    assert_eq!(scene.metrics.pods.get(), 0);
    let _runtime = scene.connect(&[sandbox("u1")]).await;
    assert_eq!(scene.owner().as_deref(), Some("web"));
}

#[tokio::test]
async fn a_call_that_is_not_known_is_answered_and_bytes_that_are_no_message_end_the_connection() {
    let mut scene = Scene::new();
    let mut runtime = scene.connect(&[]).await;
    let answer = runtime
        .ask("CreateContainer", &SandboxRequest::default())
        .await;
    assert_eq!(answer.status.map(|status| status.code), Some(12));
    runtime.socket.write_all(&[0xff; 64]).await.unwrap();
    let is_away = |link: &Link| matches!(link, Link::Away(_));
    let away = timeout(Duration::from_secs(5), scene.link.wait_for(is_away)).await;
    let away = away.unwrap().unwrap().to_string();
    assert!(away.contains("multiplexer"), "{away}");
}
