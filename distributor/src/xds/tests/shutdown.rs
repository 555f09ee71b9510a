use std::time::Duration;

use tokio::net::TcpStream;

use super::kit::Running;
use crate::testing::pod;

#[tokio::test]
async fn shutting_down_ends_every_stream_and_the_server() {
    let running = Running::start().await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let (mut served, mut waiting) = (
        running.sidecar("default/db").await,
        running.sidecar("default/late").await,
    );
    served.receive().await;
    running.until("late", "connected", |_| true).await;

    running.shutdown.cancel();
    assert_eq!(
        served.next().await.unwrap(),
        None,
        "an orderly end, not an error"
    );
    assert_eq!(
        waiting.next().await.unwrap(),
        None,
        "an orderly end, not an error"
    );
    drop((served, waiting));
    let ended = tokio::time::timeout(Duration::from_secs(5), running.task).await;
    ended
        .expect("within five seconds")
        .expect("no panic")
        .expect("no error");
    assert!(
        TcpStream::connect(running.address).await.is_err(),
        "nobody listens any more"
    );
    assert_eq!(running.metrics.streams.get(), 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_is_remembered_as_gone() {
    let running = Running::start().await;
    let published = running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running.sidecar("default/db").await;
    let response = sidecar.receive().await;
    sidecar.ack(&response).await;
    running
        .until("db", "acked", |stream| stream.acked.is_some())
        .await;
    drop(sidecar);
    let stream = running
        .until("db", "disconnected", |stream| {
            stream.disconnected_at.is_some()
        })
        .await;
    assert_eq!(
        stream.acked.map(|acked| acked.revision),
        Some(published.revision)
    );
}
