use std::fs;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::kit::{Guarded, HOUR};
use crate::snapshots::Recipient;
use crate::testing::{pki, pod, recipient, snapshot};
use crate::xds::tests::kit::{SOON, Sidecar};
use crate::xds::{Credentials, Distributor, Link, follow};

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_open_streams_go_on() {
    let guarded = Guarded::start().await;
    guarded.running.shelf.put(&pod("db"), "10.0.0.1");
    let token = guarded.registrar.issue("db", "db", "one", HOUR);
    let mut old = guarded
        .open("default/db", Some(&token), None)
        .await
        .unwrap();
    let response = old.receive().await;
    old.ack(&response).await;
    let streams = guarded.running.clients.streams(&recipient("db"));
    let uid = streams[0].pod_uid.as_deref();
    assert_eq!(uid, Some("uid of db"), "which of all pods called db");

    let other = pki::Authority::new();
    guarded.rotate(&other.server(&["127.0.0.1"]));
    guarded.dial(&other, None).await.unwrap();
    assert!(guarded.dial(&guarded.server_ca, None).await.is_err());
    let again = guarded.running.shelf.put(&pod("db"), "10.0.0.2");
    let pushed = old.receive().await;
    assert_eq!(pushed.resources[0].version, again.revision.to_string());
}

/// Reads a stream to its end.
async fn drain(sidecar: &mut Sidecar) -> Result<(), Status> {
    while sidecar.next().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_in_good_order_with_its_token() {
    let guarded = Guarded::start().await;
    guarded.running.shelf.put(&pod("db"), "10.0.0.1");
    // Whole seconds: it has between one and two of them to live.
    let token = guarded
        .registrar
        .issue("db", "db", "one", Duration::from_secs(2));
    let mut sidecar = guarded
        .open("default/db", Some(&token), None)
        .await
        .unwrap();
    sidecar.receive().await;
    assert_eq!(sidecar.next().await.unwrap(), None, "no error");
    // It may have ended a moment early, but then the next one has that moment and no more.
    let refused = async {
        loop {
            let again = guarded.open("default/db", Some(&token), None).await;
            if let Err(status) = drain(&mut again.unwrap()).await {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(SOON, refused).await.expect("an end");
    assert!(status.message().contains("has expired"), "{status}");
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let guarded = Guarded::start().await;
    guarded.running.shelf.put(&pod("db"), "10.0.0.1");
    guarded.registrar.runs("db", "db");
    let id = "spiffe://cluster.local/ns/default/sa/db";
    let pair = guarded
        .client_ca
        .client(id, SystemTime::now() + Duration::from_secs(2));
    let mut sidecar = guarded.open("default/db", None, Some(&pair)).await.unwrap();
    sidecar.receive().await;
    let ended = sidecar.next().await;
    assert!(matches!(ended, Err(_) | Ok(None)), "{ended:?}");
    let gone = guarded
        .running
        .until("db", "gone", |stream| stream.disconnected_at.is_some());
    gone.await;
}

/// The client of a node's agent, its token and its CA renewed under way.
#[tokio::test]
async fn an_agent_outlives_its_token_and_its_ca() {
    let guarded = Guarded::start().await;
    let node = Recipient::Node("one".into());
    let first = snapshot(&pod("a"), "10.0.0.1");
    guarded.running.shelf.put_raw(&node, first.clone());
    let path = |name: &str| guarded.folder.path().join(name);
    let issue = |lives| {
        let token = guarded.registrar.issue("node", "agent", "one", lives);
        fs::write(path("token"), token).unwrap();
    };
    fs::write(path("ca.crt"), guarded.server_ca.pem()).unwrap();
    issue(Duration::from_secs(3));
    let credentials = Credentials {
        ca: path("ca.crt"),
        token: path("token"),
        server_name: None,
    };
    let address = format!("https://{}", guarded.running.address);
    let distributor = Distributor::new(address.parse().unwrap(), Some(credentials)).unwrap();
    let cancellation = CancellationToken::new();
    let mut follower = follow(distributor, "node~one".to_owned(), cancellation.clone());
    let _end = cancellation.drop_guard();
    let holds = async |follower: &mut crate::xds::Follower, revision| {
        let held = follower.snapshots.wait_for(|held| {
            held.as_ref()
                .is_some_and(|held| held.revision() == revision)
        });
        let held = tokio::time::timeout(SOON, held).await;
        drop(held.expect("in time").expect("it goes on"));
    };
    holds(&mut follower, first.revision).await;

    // By the time the token ends there is another one, and another CA.
    issue(HOUR);
    let other = pki::Authority::new();
    fs::write(path("ca.crt"), other.pem()).unwrap();
    guarded.rotate(&other.server(&["127.0.0.1"]));
    let down = follower
        .status
        .wait_for(|link| matches!(link, Link::Down { .. }));
    drop(
        tokio::time::timeout(SOON, down)
            .await
            .expect("an end")
            .unwrap(),
    );
    let up = follower
        .status
        .wait_for(|link| matches!(link, Link::Up { .. }));
    drop(
        tokio::time::timeout(SOON, up)
            .await
            .expect("a return")
            .unwrap(),
    );
    assert!(follower.snapshots.borrow().is_some(), "it kept what it had");

    let second = snapshot(&pod("a"), "10.0.0.2");
    guarded.running.shelf.put_raw(&node, second.clone());
    holds(&mut follower, second.revision).await;
    assert_eq!(guarded.running.metrics.pushes.get(), 2, "nothing twice");
    assert!(!guarded.running.clients.all().contains_key(&recipient("a")));
}
