//! The `sidewall` binary as a user runs it: a folder in, snapshots over gRPC out.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const SOON: Duration = Duration::from_secs(20);

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: db, namespace: default, labels: { role: db } }
spec: { nodeName: one, containers: [{ name: db, image: db }] }
status: { phase: Running, podIPs: [{ ip: 10.0.0.1 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: default, labels: { role: web } }
spec: { nodeName: one, containers: [{ name: web, image: web }] }
status: { phase: Running, podIPs: [{ ip: 10.0.0.2 }] }
";

const NODE: &str = "{ apiVersion: v1, kind: Node, metadata: { name: one } }";

const DENY_ALL: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: deny-all, namespace: default }
spec: { podSelector: {}, policyTypes: [Ingress, Egress] }
";

/// A running `sidewall serve`; killed when dropped.
struct Sidewall {
    process: Child,
    xds: SocketAddr,
    admin: SocketAddr,
}

impl Sidewall {
    fn serve(manifests: &Path) -> Self {
        let mut process = command(manifests)
            .args([
                "--xds-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut bound = |flag: &str| -> SocketAddr {
            for line in log.by_ref() {
                let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
                if line["fields"]["flag"] == flag {
                    return line["fields"]["address"].as_str().unwrap().parse().unwrap();
                }
            }
            panic!("the log ended without the address of {flag}");
        };
        let (xds, admin) = (bound("--xds-listen"), bound("--admin-listen"));
        // Read on, or a full pipe would stop the process.
        std::thread::spawn(move || log.for_each(drop));
        Self {
            process,
            xds,
            admin,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn status(&self) -> Value {
        serde_json::from_str(self.get("/status").split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// How `sidewall status` ends, and what it prints.
    fn tell(&self) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_sidewall"))
            .args(["status", "--admin", &self.admin.to_string()])
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(told).unwrap())
    }

    /// Asks `/status` until it is as it should be.
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        while !holds(&self.status()) {
            assert!(start.elapsed() < SOON, "not {what}: {:#}", self.status());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sidewall {
    fn drop(&mut self) {
        // It may have ended already, as the test wanted.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn command(manifests: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidewall"));
    command
        .env_remove("RUST_LOG")
        .args(["serve", "--manifests"])
        .arg(manifests);
    command
}

/// A pod's sidecar, as far as the distributor can tell.
struct Sidecar {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: tonic::Streaming<DeltaDiscoveryResponse>,
}

impl Sidecar {
    async fn connect(address: SocketAddr, pod: &str) -> Self {
        let mut client =
            ExtensionConfigDiscoveryServiceClient::connect(format!("http://{address}"))
                .await
                .unwrap();
        let (requests, receiver) = mpsc::channel(4);
        let node = Node {
            id: format!("sidecar~10.0.0.1~{pod}.default~default.svc.cluster.local"),
            ..Node::default()
        };
        let first = DeltaDiscoveryRequest {
            node: Some(node),
            resource_names_subscribe: vec!["sidewall".to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(first).await.unwrap();
        let stream = ReceiverStream::new(receiver);
        let responses = client
            .delta_extension_configs(stream)
            .await
            .unwrap()
            .into_inner();
        Self {
            requests,
            responses,
        }
    }

    async fn next(&mut self) -> Option<DeltaDiscoveryResponse> {
        tokio::time::timeout(SOON, self.responses.message())
            .await
            .expect("in time")
            .expect("no error")
    }

    /// Takes the next push, acknowledges it, and says which version it is.
    async fn apply(&mut self) -> String {
        let response = self.next().await.expect("a push");
        let ack = DeltaDiscoveryRequest {
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(ack).await.unwrap();
        response.resources[0].version.clone()
    }
}

fn pod<'a>(status: &'a Value, name: &str) -> &'a Value {
    let pods = status["pods"].as_array().unwrap();
    pods.iter()
        .find(|pod| pod["pod"] == name)
        .unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_served_followed_and_left_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pods.yaml"), PODS).unwrap();
    let mut sidewall = Sidewall::serve(folder.path());
    sidewall.until("synced", |status| status["synced"] == true);
    assert!(sidewall.get("/readyz").starts_with("HTTP/1.0 200"));

    let (mut db, mut web) = (
        Sidecar::connect(sidewall.xds, "db").await,
        Sidecar::connect(sidewall.xds, "web").await,
    );
    let (open, other) = (db.apply().await, web.apply().await);
    assert_ne!(open, other, "every pod has its own snapshot");
    sidewall.until("applied", |status| {
        pod(status, "default/db")["applied"]["revision"] == open.as_str()
    });

    std::fs::write(folder.path().join("policy.yaml"), DENY_ALL).unwrap();
    let closed = db.apply().await;
    assert_ne!(open, closed);
    web.apply().await;
    sidewall.until("applied", |status| {
        let (db, web) = (pod(status, "default/db"), pod(status, "default/web"));
        let both = db["state"] == "applied" && web["state"] == "applied";
        both && db["applied"]["revision"] == closed.as_str()
    });
    let (code, told) = sidewall.tell();
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("synced; 2 pods: 2 applied\n\nNode one: "),
        "{told}"
    );
    std::fs::write(folder.path().join("node.yaml"), NODE).unwrap();
    sidewall.until("mended", |status| {
        status["problems"].as_array().is_some_and(Vec::is_empty)
    });
    let (code, told) = sidewall.tell();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.ends_with("synced; 2 pods: 2 applied\n"), "{told}");
    std::fs::remove_file(folder.path().join("policy.yaml")).unwrap();
    assert_eq!(
        db.apply().await,
        open,
        "the same state is the same revision"
    );

    let metrics = sidewall.get("/metrics");
    assert!(
        metrics.contains("\nsidewall_pods{state=\"applied\"} "),
        "{metrics}"
    );
    kill(
        Pid::from_raw(sidewall.process.id().cast_signed()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(db.next().await, None, "the stream ends in good order");
    drop((db, web));
    assert!(sidewall.process.wait().unwrap().success());
}

#[test]
fn a_folder_that_is_not_there_is_waited_for() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("manifests");
    let sidewall = Sidewall::serve(&folder);
    sidewall.until("told", |status| {
        status["problems"]
            .as_array()
            .is_some_and(|problems| !problems.is_empty())
    });
    let answer = sidewall.get("/readyz");
    assert!(answer.starts_with("HTTP/1.0 503"), "{answer}");
    assert!(answer.contains(&folder.display().to_string()), "{answer}");

    let (code, told) = sidewall.tell();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&folder.display().to_string()), "{told}");

    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("pods.yaml"), PODS).unwrap();
    sidewall.until("synced", |status| {
        status["synced"] == true && pod(status, "default/db")["wanted"].is_object()
    });
}

#[test]
fn plain_text_beyond_loopback_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path())
        .args(["--xds-listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        stderr.contains("--xds-listen 0.0.0.0:0") && stderr.contains("--insecure-plaintext"),
        "{stderr}"
    );
}

#[test]
fn status_of_nobody_has_no_answer() {
    let output = Command::new(env!("CARGO_BIN_EXE_sidewall"))
        .args(["status", "--admin", "127.0.0.1:1"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--admin 127.0.0.1:1"), "{stderr}");
}
