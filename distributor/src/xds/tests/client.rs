//! The client against the real server; and against one that says what it is told to.

mod neighbours;
mod scripted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use sidewall_policy::snapshot::{Revision, Snapshot};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::kit::{QUIET, Running, SOON};
use crate::snapshots::{Published, Recipient};
use crate::testing::{pod, snapshot};
use crate::xds::{Distributor, Follower, Link, Stream, follow};
use scripted::{Scripted, response, with_bytes};

const NODE_ID: &str = "node~worker-1";

fn node() -> Recipient {
    Recipient::Node("worker-1".into())
}

/// A server in plain text.
fn at(address: SocketAddr) -> Distributor {
    let endpoint = format!("http://{address}").parse().unwrap();
    Distributor::new(endpoint, None).unwrap()
}

/// A client that ends with the test.
struct Agent {
    follower: Follower,
    cancellation: CancellationToken,
    _end: DropGuard,
}

impl Agent {
    fn of(address: SocketAddr) -> Self {
        let cancellation = CancellationToken::new();
        Self {
            follower: follow(at(address), NODE_ID.to_owned(), cancellation.clone()),
            _end: cancellation.clone().drop_guard(),
            cancellation,
        }
    }

    fn held(&self) -> Option<Revision> {
        let snapshot = self.follower.snapshots.borrow();
        snapshot.as_ref().map(|snapshot| snapshot.revision())
    }

    async fn holds(&mut self, revision: Revision) -> Arc<Snapshot> {
        let wanted = |held: &Option<Arc<Snapshot>>| {
            held.as_ref()
                .is_some_and(|held| held.revision() == revision)
        };
        let held = until(&mut self.follower.snapshots, "held", wanted).await;
        held.expect("a snapshot")
    }

    async fn is_up(&mut self) {
        let up = |link: &Link| matches!(link, Link::Up { .. });
        until(&mut self.follower.status, "up", up).await;
    }

    async fn is_down(&mut self) -> String {
        let down = |link: &Link| matches!(link, Link::Down { .. });
        match until(&mut self.follower.status, "down", down).await {
            Link::Down { error, .. } => error,
            link => panic!("not down: {link:?}"),
        }
    }
}

async fn until<T: Clone>(
    receiver: &mut watch::Receiver<T>,
    what: &str,
    holds: impl FnMut(&T) -> bool,
) -> T {
    match tokio::time::timeout(SOON, receiver.wait_for(holds)).await {
        Ok(value) => value.expect("the client goes on").clone(),
        Err(_) => panic!("not {what} within {SOON:?}"),
    }
}

/// Any snapshot will do: whose pods are in it is not the client's to say.
fn put(running: &Running, ip: &str) -> Published {
    let published = snapshot(&pod("db"), ip);
    running.shelf.put_raw(&node(), published.clone());
    published
}

fn acked(revision: Revision) -> impl Fn(&Stream) -> bool {
    move |stream| stream.acked.is_some_and(|acked| acked.revision == revision)
}

#[tokio::test]
async fn a_client_gets_its_snapshot_and_every_update() {
    let running = Running::start().await;
    let published = put(&running, "10.0.0.1");
    let mut agent = Agent::of(running.address);
    let held = agent.holds(published.revision).await;
    assert_eq!(held.bytes(), published.bytes);
    running
        .until_of(&node(), "acked", acked(published.revision))
        .await;
    agent.is_up().await;

    let published = put(&running, "10.0.0.2");
    agent.holds(published.revision).await;
    running
        .until_of(&node(), "acked", acked(published.revision))
        .await;
    assert_eq!(running.metrics.nacks.get(), 0);
}

#[tokio::test]
async fn a_client_that_is_not_known_yet_waits_for_its_snapshot() {
    let running = Running::start().await;
    let mut agent = Agent::of(running.address);
    agent.is_up().await;
    assert_eq!(agent.held(), None);
    let published = put(&running, "10.0.0.1");
    agent.holds(published.revision).await;
}

#[tokio::test]
async fn the_last_snapshot_outlives_the_server_and_the_next_one_is_found_within_a_second() {
    let running = Running::start().await;
    let published = put(&running, "10.0.0.1");
    let mut agent = Agent::of(running.address);
    agent.holds(published.revision).await;
    running
        .until_of(&node(), "acked", acked(published.revision))
        .await;

    let address = running.address;
    stop(running).await;
    let error = agent.is_down().await;
    assert!(
        error.contains("ended the stream") || error.contains("Connection refused"),
        "{error}"
    );
    // Several attempts, so that the pauses are at their longest.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let error = agent.is_down().await;
    assert!(
        error.contains(&address.to_string()) && error.contains("Connection refused"),
        "{error}"
    );
    assert_eq!(agent.held(), Some(published.revision));

    let running = Running::start_at(address).await;
    let returned = Instant::now();
    agent.is_up().await;
    let away = returned.elapsed();
    assert!(away < Duration::from_secs(2), "{away:?}");
    let news = put(&running, "10.0.0.2");
    agent.holds(news.revision).await;
}

/// Stops a server in good order and waits until its port is free.
async fn stop(running: Running) {
    running.shutdown.cancel();
    let ended = tokio::time::timeout(SOON, running.task).await;
    ended.expect("soon").expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_client_that_comes_back_is_not_sent_what_it_has() {
    let running = Running::start().await;
    let published = put(&running, "10.0.0.1");
    let mut agent = Agent::of(running.address);
    agent.holds(published.revision).await;
    let address = running.address;
    stop(running).await;

    let mut snapshots = agent.follower.snapshots.clone();
    snapshots.mark_unchanged();
    let running = Running::start_at(address).await;
    put(&running, "10.0.0.1");
    let stream = running
        .until_of(&node(), "applied", acked(published.revision))
        .await;
    assert_eq!((stream.sent, running.metrics.pushes.get()), (None, 0));
    assert!(!snapshots.has_changed().unwrap(), "nobody is woken for it");
}

#[tokio::test]
async fn unusable_snapshots_are_refused_with_the_reason_and_the_last_one_stays() {
    let mut server = Scripted::start().await;
    let mut agent = Agent::of(server.address);
    let hello = server.hears().await;
    assert_eq!(hello.node.unwrap().id, NODE_ID);
    assert_eq!(hello.resource_names_subscribe, ["sidewall"]);
    assert!(hello.initial_resource_versions.is_empty());
    let published = snapshot(&pod("db"), "10.0.0.1");
    server.says(response("1", &published)).await;
    agent.holds(published.revision).await;
    let ack = server.hears().await;
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("1", None));

    let next = snapshot(&pod("db"), "10.0.0.2");
    let cut = next.bytes.slice(..next.bytes.len() - 1);
    let mut stranger = response("3", &next);
    stranger.resources[0].name = "other".to_owned();
    let mut bare = response("4", &next);
    bare.resources[0].resource = None;
    let mut foreign = response("5", &next);
    foreign.resources[0].resource.as_mut().unwrap().type_url = "a/b".to_owned();
    let mut garbled = response("6", &next);
    garbled.resources[0].resource.as_mut().unwrap().value = vec![0xff];
    let mut twice = response("7", &next);
    twice.resources.push(twice.resources[0].clone());
    for (response, reason) in [
        (with_bytes("2", &cut), "does not pass the check"),
        (stranger, "\"other\" was not asked for"),
        (bare, "its resource is missing"),
        (foreign, "its resource is a \"a/b\", not a"),
        (garbled, "its resource cannot be decoded"),
        (twice, "it has 2 resources"),
    ] {
        let nonce = response.nonce.clone();
        server.says(response).await;
        let nack = server.hears().await;
        assert_eq!(nack.response_nonce, nonce);
        let error = nack.error_detail.expect("a refusal");
        assert!(error.message.contains(reason), "{}", error.message);
        assert_eq!(agent.held(), Some(published.revision));
    }

    server.says(response("8", &next)).await;
    agent.holds(next.revision).await;
    assert_eq!(server.hears().await.error_detail, None);
}

#[tokio::test]
async fn a_snapshot_is_never_taken_back() {
    let mut server = Scripted::start().await;
    let mut agent = Agent::of(server.address);
    server.hears().await;
    let published = snapshot(&pod("db"), "10.0.0.1");
    server.says(response("1", &published)).await;
    server.hears().await;
    let removal = DeltaDiscoveryResponse {
        removed_resources: vec!["sidewall".to_owned()],
        nonce: "2".to_owned(),
        ..DeltaDiscoveryResponse::default()
    };
    server.says(removal).await;
    assert_eq!(server.hears().await.error_detail, None);
    agent.holds(published.revision).await;
}

#[tokio::test]
async fn what_is_in_force_is_told_after_a_break_and_what_was_refused_is_not() {
    let mut server = Scripted::start().await;
    let mut agent = Agent::of(server.address);
    server.hears().await;
    let published = snapshot(&pod("db"), "10.0.0.1");
    server.says(response("1", &published)).await;
    agent.holds(published.revision).await;
    server.hears().await;
    server.says(with_bytes("2", b"nonsense")).await;
    assert!(server.hears().await.error_detail.is_some());

    server.breaks_off().await;
    let hello = server.hears().await;
    let version = published.revision.to_string();
    assert_eq!(
        hello.initial_resource_versions.get("sidewall"),
        Some(&version)
    );
    assert_eq!(hello.node.unwrap().id, NODE_ID);
}

#[tokio::test]
async fn being_turned_away_is_told_and_tried_again() {
    let running = Running::start().await;
    let cancellation = CancellationToken::new();
    let mut follower = follow(
        at(running.address),
        "node~".to_owned(),
        cancellation.clone(),
    );
    let _end = cancellation.drop_guard();
    for _ in 0..3 {
        let told = |link: &Link| link.to_string().contains("is not a DNS subdomain");
        until(&mut follower.status, "turned away", told).await;
        let changed = tokio::time::timeout(SOON, follower.status.changed()).await;
        changed.expect("another attempt").expect("it goes on");
    }
}

/// No FIN, no RST: a node that lost power, or a network that was cut.
#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed() {
    let running = Running::start().await;
    let published = put(&running, "10.0.0.1");
    let (address, cut) = cable(running.address).await;
    let mut agent = Agent::of(address);
    agent.holds(published.revision).await;

    cut.cancel();
    let begun = Instant::now();
    agent.is_down().await;
    let noticed = begun.elapsed();
    assert!(noticed < Duration::from_secs(6), "{noticed:?}");
    assert_eq!(agent.held(), Some(published.revision));
}

#[tokio::test]
async fn a_peer_that_never_says_a_word_is_noticed() {
    // The system takes the connection, and nobody else does.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut agent = Agent::of(listener.local_addr().unwrap());
    let error = agent.is_down().await;
    assert!(error.contains("not taken within"), "{error}");
}

/// The connection is as good as any other, and the call on it is never answered.
#[tokio::test]
async fn a_call_that_is_never_taken_is_given_up() {
    let mut server = Scripted::start().await;
    server.takes_no_call();
    let mut agent = Agent::of(server.address);
    let error = agent.is_down().await;
    assert!(error.contains("not taken within"), "{error}");
    server.takes_calls();
    server.hears().await;
    agent.is_up().await;
}

/// Forwards connections until it is cut; then it keeps them open and moves nothing.
async fn cable(to: SocketAddr) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, cut) = (listener.local_addr().unwrap(), CancellationToken::new());
    let cutting = cut.clone();
    tokio::spawn(async move {
        let mut ends = Vec::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(to).await.unwrap();
            let forward = tokio::io::copy_bidirectional(&mut near, &mut far);
            cutting.run_until_cancelled(forward).await;
            ends.push((near, far));
        }
    });
    (address, cut)
}

#[tokio::test]
async fn only_cancelling_ends_it() {
    let running = Running::start().await;
    let published = put(&running, "10.0.0.1");
    let mut agent = Agent::of(running.address);
    agent.holds(published.revision).await;
    agent.cancellation.cancel();
    let ended = agent.follower.status.wait_for(|_| false);
    assert!(
        tokio::time::timeout(SOON, ended).await.unwrap().is_err(),
        "nobody writes it any more"
    );
    running
        .until_of(&node(), "disconnected", |stream| {
            stream.disconnected_at.is_some()
        })
        .await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(running.metrics.streams.get(), 0);
}
