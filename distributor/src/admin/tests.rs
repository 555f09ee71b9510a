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
        Self::with(Registry::default(), true).await
    }

    async fn with(registry: Registry, pod_metrics: bool) -> Self {
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
            pod_metrics,
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
        None,
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
        .connect(&recipient("a-stranger"), None, None, at(5));
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
        None,
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
            "behind_since": null,
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
    let metrics::Metrics {
        registry,
        xds,
        kube,
    } = metrics::registry();
    kube.count(metrics::Written::ReadinessGate, true);
    xds.pushes.inc();
    xds.ack_seconds.observe(0.003);
    let running = Running::with(registry, true).await;
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
        "sidewall_kube_writes_total{what=\"readiness-gate\",result=\"written\"} 1",
        "sidewall_synced 0",
        "sidewall_snapshots 1",
        "sidewall_pods{state=\"absent\"} 1",
        "sidewall_pods{state=\"applied\"} 0",
        "sidewall_longest_behind_seconds{kind=\"pod\"} 0.0",
        "sidewall_longest_behind_seconds{kind=\"node\"} 0.0",
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

/// Lines of `/metrics` about pods by name, and about how far they are behind.
async fn about_pods(running: &Running) -> Vec<String> {
    let (_, _, text) = running.get("/metrics").await;
    let is_about = |line: &&str| {
        line.starts_with("sidewall_pod_") || line.starts_with("sidewall_longest_behind")
    };
    let mut lines: Vec<String> = text.lines().filter(is_about).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_connected_pod_has_series_of_its_own_until_it_goes() {
    let running = Running::start().await;
    let mut wanted = running.shelf.put(&pod("db"), "10.0.0.1");
    running.shelf.put(&pod("absent"), "10.0.0.2");
    wanted.published_at = at(10);
    running.shelf.put_raw(&recipient("db"), wanted.clone());
    let behind = |lines: &[String]| -> f64 {
        let line = lines
            .iter()
            .find_map(|line| line.strip_prefix("sidewall_longest_behind_seconds{kind=\"pod\"} "));
        line.expect("a line").parse().expect("a number")
    };
    let none = about_pods(&running).await;
    assert_eq!((none.len(), behind(&none)), (2, 0.0), "{none:?}");

    let connection = running
        .clients
        .connect(&recipient("db"), None, None, at(20));
    connection.sent(wanted.revision, at(21));
    let waiting = about_pods(&running).await;
    let labels = "{namespace=\"default\",pod=\"db\"}";
    assert_eq!(
        waiting[2..],
        [
            format!("sidewall_pod_applied{labels} 0"),
            format!("sidewall_pod_wanted_timestamp_seconds{labels} 10.0"),
        ],
        "nothing has been acknowledged"
    );
    assert!(behind(&waiting) > 1e9, "since 1970: {waiting:?}");

    connection.acked(wanted.revision, at(30));
    let applied = about_pods(&running).await;
    assert_eq!(
        applied[2..],
        [
            format!("sidewall_pod_acknowledged_timestamp_seconds{labels} 30.0"),
            format!("sidewall_pod_applied{labels} 1"),
            format!("sidewall_pod_wanted_timestamp_seconds{labels} 10.0"),
        ]
    );
    assert_eq!(behind(&applied), 0.0);

    drop(connection);
    assert_eq!(about_pods(&running).await.len(), 2);
}

#[tokio::test]
async fn who_waits_does_not_wait_anew_because_something_else_is_wanted() {
    let running = Running::start().await;
    let mut first = running.shelf.put(&pod("db"), "10.0.0.1");
    first.published_at = at(10);
    running.shelf.put_raw(&recipient("db"), first.clone());
    let behind = async || running.status().await["pods"][0]["behind_since"].clone();
    assert_eq!(behind().await, Value::Null, "it has never been connected");
    let connection = running
        .clients
        .connect(&recipient("db"), None, None, at(20));
    assert_eq!(
        behind().await,
        "1970-01-01T00:00:20.000Z",
        "not before it came"
    );
    connection.sent(first.revision, at(21));
    // It does not answer, and its policies go on changing.
    running.shelf.put(&pod("db"), "10.0.0.2");
    assert_eq!(behind().await, "1970-01-01T00:00:21.000Z");
    connection.acked(first.revision, at(22));
    let newer = behind().await;
    assert!(
        newer.is_string() && newer != "1970-01-01T00:00:21.000Z",
        "{newer}"
    );
    drop(connection);
    assert_eq!(behind().await, Value::Null);
}

#[tokio::test]
async fn series_of_single_pods_are_a_choice() {
    let running = Running::with(Registry::default(), false).await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let connection = running
        .clients
        .connect(&recipient("db"), None, None, at(20));
    assert_eq!(about_pods(&running).await.len(), 2);
    drop(connection);
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
