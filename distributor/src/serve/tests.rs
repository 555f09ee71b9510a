use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::testing::Shelf;

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    xds: SocketAddr,
    admin: SocketAddr,
}

async fn start() -> Running {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = Listen {
        xds_listen: loopback,
        admin_listen: loopback,
        insecure_plaintext: false,
    };
    let listeners = listen.bind(false).await.unwrap();
    let xds = listeners.xds.local_addr().unwrap();
    let admin = listeners.admin.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (_, problems) = watch::channel(Arc::default());
    let served = Served {
        source: Arc::new(Shelf::default()),
        problems,
        readiness: None,
        metrics: metrics::registry(),
        pod_metrics: true,
    };
    let task = tokio::spawn(serve(
        listeners,
        Access::plaintext(),
        served,
        shutdown.clone(),
    ));
    Running {
        shutdown,
        task,
        xds,
        admin,
    }
}

#[tokio::test]
async fn both_servers_run_and_end_together() {
    let running = start().await;
    let mut admin = TcpStream::connect(running.admin).await.unwrap();
    admin
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    admin.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("alive\n"), "{answer}");
    assert!(TcpStream::connect(running.xds).await.is_ok());

    running.shutdown.cancel();
    let ended = tokio::time::timeout(DRAIN / 2, running.task).await;
    ended
        .expect("nobody has to be waited for")
        .unwrap()
        .unwrap();
    for address in [running.xds, running.admin] {
        assert!(TcpStream::connect(address).await.is_err(), "{address}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_hang_up_delays_the_end_but_does_not_prevent_it() {
    let running = start().await;
    // The start of HTTP/2, and then nothing: no answer to pings, no hanging up.
    let mut stuck = TcpStream::connect(running.xds).await.unwrap();
    stuck
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stuck.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    // A request without an end, so that the connection has something in flight:
    // POST / with only its pseudo-headers (HPACK static table: 3, 6, 4).
    stuck
        .write_all(&[0, 0, 3, 1, 4, 0, 0, 0, 1, 0x83, 0x86, 0x84])
        .await
        .unwrap();
    let mut heard = [0; 9];
    stuck.read_exact(&mut heard).await.unwrap();

    running.shutdown.cancel();
    let ended = tokio::time::timeout(DRAIN * 2, running.task).await;
    ended
        .expect("an end within the drain time")
        .unwrap()
        .unwrap();
}
