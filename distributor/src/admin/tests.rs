//! The admin port over real HTTP on loopback.

mod promise;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Admin;
use crate::metrics;
use crate::problem::Problem;
use crate::testing::{Shelf, pod, recipient};
use crate::xds::{Clients, Refused, Refuser};

struct Running {
    shelf: Arc<Shelf>,
    clients: Clients,
    problems: watch::Sender<Arc<Vec<Problem>>>,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    address: SocketAddr,
}

impl Running {
    async fn start() -> Self {
        Self::with(Registry::default()).await
    }

    async fn with(registry: Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shelf, clients, shutdown) = (
            Arc::new(Shelf::default()),
            Clients::default(),
            CancellationToken::new(),
        );
        let (problems, watched) = watch::channel(Arc::default());
        let source = Arc::clone(&shelf);
        let admin = Admin {
            source,
            clients: clients.clone(),
            problems: watched,
            registry: Arc::new(registry),
        };
        let task = tokio::spawn(admin.run(listener, shutdown.clone()));
        Self {
            shelf,
            clients,
            problems,
            shutdown,
            task,
            address,
        }
    }

    /// Status code, head and body of a GET.
    async fn get(&self, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head.to_owned(), body.to_owned())
    }

    async fn status(&self) -> Value {
        let (code, head, body) = self.get("/status").await;
        assert_eq!(code, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&body).unwrap()
    }

    async fn state(&self) -> Value {
        self.status().await["pods"][0]["state"].clone()
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn problem(object: &str) -> Problem {
    Problem {
        object: object.to_owned(),
        field: "spec.ingress[0].from[0].ipBlock.cidr".to_owned(),
        reason: "not a CIDR".to_owned(),
        consequence: "this peer matches nothing".to_owned(),
    }
}

#[tokio::test]
async fn alive_at_once_but_ready_only_when_synced() {
    let running = Running::start().await;
    assert_eq!(running.get("/healthz").await.0, 200);
    let (code, _, body) = running.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("have not been read completely"), "{body}");
    running
        .problems
        .send_replace(Arc::new(vec![problem("/etc/sidewall/manifests")]));
    let (_, _, body) = running.get("/readyz").await;
    assert!(
        body.contains("- /etc/sidewall/manifests: spec.ingress[0]"),
        "{body}"
    );
    running.shelf.set_synced();
    let (code, _, body) = running.get("/readyz").await;
    assert_eq!((code, body.as_str()), (200, "ready\n"));
}

#[tokio::test]
async fn status_follows_a_pod_from_absent_to_disconnected() {
    let running = Running::start().await;
    let wanted = running.shelf.put(&pod("db"), "10.0.0.1");
    assert_eq!(running.state().await, "absent");
    let connection = running.clients.connect(
        &recipient("db"),
        Some(SocketAddr::from(([127, 0, 0, 1], 4000))),
        at(1),
    );
    assert_eq!(running.state().await, "pending");
    connection.sent(wanted.revision, at(2));
    assert_eq!(running.state().await, "pending", "sent is not applied");
    let reason = "no room".to_owned();
    connection.refused(Refused {
        revision: wanted.revision,
        at: at(3),
        by: Refuser::Client,
        reason,
    });
    assert_eq!(running.state().await, "refused");
    connection.acked(wanted.revision, at(4));
    assert_eq!(running.state().await, "applied");
    running.shelf.put(&pod("db"), "10.0.0.2");
    assert_eq!(running.state().await, "pending", "something new is wanted");
    drop(connection);
    assert_eq!(running.state().await, "disconnected");
    let stranger = running
        .clients
        .connect(&recipient("a-stranger"), None, at(5));
    assert_eq!(running.state().await, "unknown");
    drop(stranger);
}

/// Scripts and dashboards read these names.
#[tokio::test]
async fn the_field_names_of_status_are_stable() {
    let running = Running::start().await;
    running.shelf.set_synced();
    let mut published = running.shelf.put(&pod("db"), "10.0.0.1");
    published.published_at = at(0);
    running.shelf.put_raw(&recipient("db"), published.clone());
    running
        .problems
        .send_replace(Arc::new(vec![problem("NetworkPolicy default/db")]));
    let connection = running.clients.connect(
        &recipient("db"),
        Some(SocketAddr::from(([127, 0, 0, 1], 4000))),
        at(1),
    );
    connection.sent(published.revision, at(2));
    connection.acked(published.revision, at(3));
    let reason = "no room".to_owned();
    connection.refused(Refused {
        revision: published.revision,
        at: at(4),
        by: Refuser::Distributor,
        reason,
    });
    let revision = published.revision.to_string();
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "synced": true,
        "pods": [{
            "pod": "default/db",
            "state": "applied",
            "wanted": { "revision": revision, "since": "1970-01-01T00:00:00.000Z", "bytes": published.bytes.len() },
            "sent": { "revision": revision, "at": "1970-01-01T00:00:02.000Z" },
            "applied": { "revision": revision, "at": "1970-01-01T00:00:03.000Z" },
            "refused": {
                "revision": revision, "at": "1970-01-01T00:00:04.000Z", "by": "distributor", "reason": "no room"
            },
            "streams": 1,
            "since": "1970-01-01T00:00:01.000Z",
            "peer": "127.0.0.1:4000",
        }],
        "nodes": [],
        "problems": [{
            "object": "NetworkPolicy default/db",
            "field": "spec.ingress[0].from[0].ipBlock.cidr",
            "reason": "not a CIDR",
            "consequence": "this peer matches nothing",
        }],
    });
    assert_eq!(running.status().await, expected);
    drop(connection);
}

#[tokio::test]
async fn metrics_are_open_metrics_and_problems_that_were_mended_go_away() {
    let (registry, xds) = metrics::registry();
    xds.pushes.inc();
    xds.ack_seconds.observe(0.003);
    let running = Running::with(registry).await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let kinds = [
        "NetworkPolicy default/a",
        "NetworkPolicy default/b",
        "/etc/sidewall/x y.yaml",
    ];
    running
        .problems
        .send_replace(Arc::new(kinds.into_iter().map(problem).collect()));
    let (code, head, text) = running.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    for line in [
        concat!(
            "sidewall_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
        "sidewall_xds_streams 0",
        "sidewall_xds_pushes_total 1",
        "sidewall_xds_sent_bytes_total 0",
        "sidewall_xds_acks_total 0",
        "sidewall_xds_nacks_total 0",
        "sidewall_xds_withheld_total 0",
        "sidewall_xds_ack_seconds_count 1",
        "sidewall_synced 0",
        "sidewall_snapshots 1",
        "sidewall_pods{state=\"absent\"} 1",
        "sidewall_pods{state=\"applied\"} 0",
        "sidewall_problems{kind=\"NetworkPolicy\"} 2",
        "sidewall_problems{kind=\"file\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.ends_with("# EOF\n"), "{text}");

    running.problems.send_replace(Arc::default());
    let (_, _, text) = running.get("/metrics").await;
    assert!(!text.contains("sidewall_problems{"), "{text}");
}

#[tokio::test]
async fn shutdown_closes_the_port() {
    let running = Running::start().await;
    assert_eq!(running.get("/healthz").await.0, 200);
    running.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), running.task).await;
    ended
        .expect("within five seconds")
        .expect("no panic")
        .expect("no error");
    assert!(TcpStream::connect(running.address).await.is_err());
}
