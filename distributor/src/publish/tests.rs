//! From events to watches.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use sidewall_policy::admit::admit;
use sidewall_policy::compile::Options;
use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::model::{NamespacedName, Phase, Pod};
use sidewall_policy::snapshot::{Revision, Snapshot};
use sidewall_policy::spec;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::{Publisher, start};
use crate::cluster::{Batch, Event, Kind, Object, ObjectRef, Origin};
use crate::problem::Problem;
use crate::snapshots::{Published, Recipient, SnapshotSource};

const SOON: Duration = Duration::from_secs(5);

fn name(pod: &str) -> NamespacedName {
    NamespacedName::new("x", pod)
}

fn recipient(pod: &str) -> Recipient {
    Recipient::Pod(name(pod))
}

fn pod(pod: &str, address: Option<&str>) -> Event {
    Event::Apply(Object::Pod(Pod {
        id: name(pod),
        labels: [("app", pod)].into_iter().collect(),
        node: None,
        ips: address
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect(),
        host_network: false,
        uid: None,
        phase: Phase::Running,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    }))
}

/// Denies all ingress of the namespace.
fn deny() -> Event {
    let admitted = admit(&spec::NetworkPolicy {
        namespace: Some("x".to_owned()),
        name: "deny".to_owned(),
        ..spec::NetworkPolicy::default()
    });
    Event::Apply(Object::NetworkPolicy(admitted.policy))
}

fn synced() -> Batch {
    Kind::ALL.map(Event::Synced).to_vec()
}

fn problem(reason: &str) -> Problem {
    Problem {
        object: "Pod x/a".to_owned(),
        field: String::new(),
        reason: reason.to_owned(),
        consequence: "nothing".to_owned(),
    }
}

fn running() -> (
    mpsc::Sender<Batch>,
    std::sync::Arc<Publisher>,
    CancellationToken,
) {
    let (sender, events) = mpsc::channel(8);
    let token = CancellationToken::new();
    (
        sender,
        start(events, Options::default(), token.clone()),
        token,
    )
}

async fn changed<T>(watch: &mut watch::Receiver<T>) {
    timeout(SOON, watch.changed())
        .await
        .expect("a change in time")
        .expect("a publisher");
}

/// Waits until everything that was sent has been published, by way of a problem sent after it.
async fn settle(events: &mpsc::Sender<Batch>, publisher: &Publisher, mark: &str) {
    let mut problems = publisher.problems();
    let report = Event::Report(Origin::Source("test".into()), vec![problem(mark)]);
    events.send(vec![report]).await.expect("a publisher");
    let arrived = problems.wait_for(|all| all.iter().any(|each| each.reason == mark));
    timeout(SOON, arrived)
        .await
        .expect("in time")
        .expect("a publisher");
}

fn verdict(published: &Published, from: &str, to: &str) -> Verdict {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let snapshot = Snapshot::check(published.bytes.to_vec()).expect("published means checked");
    let flow = Flow {
        source: ip(from),
        destination: ip(to),
        protocol: 6,
        port: 80,
    };
    snapshot.judge(&flow).verdict
}

#[tokio::test]
async fn nothing_is_published_before_everything_has_synced() {
    let (events, publisher, _token) = running();
    let mut watch = publisher.subscribe(&recipient("a"));
    events
        .send(vec![pod("a", Some("10.0.0.1"))])
        .await
        .expect("a publisher");
    let most = Kind::ALL.iter().skip(1).copied().map(Event::Synced);
    events.send(most.collect()).await.expect("a publisher");
    settle(&events, &publisher, "not yet").await;
    assert!(watch.borrow_and_update().is_none());
    assert!(!publisher.is_synced());

    events
        .send(vec![Event::Synced(Kind::ALL[0])])
        .await
        .expect("a publisher");
    changed(&mut watch).await;
    assert!(watch.borrow().is_some());
    timeout(SOON, publisher.synced().wait_for(|synced| *synced))
        .await
        .expect("in time")
        .expect("a publisher");
    assert!(publisher.is_synced());
}

#[tokio::test]
async fn a_policy_changes_what_is_published_and_nothing_else_does() {
    let (events, publisher, _token) = running();
    let mut a = publisher.subscribe(&recipient("a"));
    let mut first = vec![pod("a", Some("10.0.0.1"))];
    first.extend(synced());
    events.send(first).await.expect("a publisher");
    changed(&mut a).await;
    let open = a.borrow_and_update().clone().expect("a snapshot");
    assert_eq!(verdict(&open, "10.0.0.2", "10.0.0.1"), Verdict::Allow);

    events
        .send(vec![pod("b", Some("10.0.0.2"))])
        .await
        .expect("a publisher");
    settle(&events, &publisher, "b is there").await;
    assert!(
        !a.has_changed().expect("a publisher"),
        "another pod is of no concern"
    );
    let pods: Vec<String> = publisher
        .published()
        .iter()
        .map(|(pod, _)| pod.to_string())
        .collect();
    assert_eq!(pods, ["x/a", "x/b"]);

    events.send(vec![deny()]).await.expect("a publisher");
    changed(&mut a).await;
    let closed = a.borrow_and_update().clone().expect("a snapshot");
    assert_ne!(closed.revision, open.revision);
    assert!(closed.published_at >= open.published_at);
    assert_eq!(verdict(&closed, "10.0.0.2", "10.0.0.1"), Verdict::Deny);

    events
        .send(vec![Event::Delete(ObjectRef::new(
            Kind::NetworkPolicy,
            NamespacedName::new("x", "deny"),
        ))])
        .await
        .expect("a publisher");
    changed(&mut a).await;
    let again = a.borrow_and_update().clone().expect("a snapshot");
    assert_eq!(
        (again.revision, again.bytes),
        (open.revision, open.bytes),
        "the same state"
    );
}

#[tokio::test]
async fn a_pod_without_address_has_none_and_one_that_is_gone_keeps_its_last() {
    let (events, publisher, _token) = running();
    let mut watch = publisher.subscribe(&recipient("a"));
    let mut first = vec![pod("a", None)];
    first.extend(synced());
    events.send(first).await.expect("a publisher");
    settle(&events, &publisher, "no address").await;
    assert!(watch.borrow_and_update().is_none());

    events
        .send(vec![pod("a", Some("10.0.0.1"))])
        .await
        .expect("a publisher");
    changed(&mut watch).await;
    let last = watch.borrow_and_update().clone().expect("a snapshot");
    events
        .send(vec![Event::Delete(ObjectRef::new(Kind::Pod, name("a")))])
        .await
        .expect("a publisher");
    settle(&events, &publisher, "gone").await;
    assert!(!watch.has_changed().expect("a publisher"));
    assert_eq!(publisher.published().len(), 1, "it is watched");
    assert_eq!(publisher.published()[0].1.revision, last.revision);

    drop(watch);
    events
        .send(vec![pod("b", Some("10.0.0.2"))])
        .await
        .expect("a publisher");
    settle(&events, &publisher, "swept").await;
    let pods: Vec<String> = publisher
        .published()
        .iter()
        .map(|(pod, _)| pod.to_string())
        .collect();
    assert_eq!(pods, ["x/b"]);
    assert!(publisher.subscribe(&recipient("a")).borrow().is_none());
}

#[tokio::test]
async fn problems_are_sorted_without_doubles_and_go_when_they_are_mended() {
    let (events, publisher, _token) = running();
    let mut problems = publisher.problems();
    let report = |origin: &str, reasons: &[&str]| {
        let list = reasons.iter().map(|reason| problem(reason)).collect();
        Event::Report(Origin::Source(origin.into()), list)
    };
    events
        .send(vec![report("one", &["b", "a"]), report("two", &["a"])])
        .await
        .expect("a publisher");
    changed(&mut problems).await;
    let reasons = |all: &[Problem]| all.iter().map(|p| p.reason.clone()).collect::<Vec<_>>();
    assert_eq!(reasons(&problems.borrow_and_update()), ["a", "b"]);

    events
        .send(vec![report("one", &[])])
        .await
        .expect("a publisher");
    changed(&mut problems).await;
    assert_eq!(
        reasons(&problems.borrow_and_update()),
        ["a"],
        "two still says so"
    );
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let (events, publisher, token) = running();
    events.send(synced()).await.expect("a publisher");
    timeout(SOON, publisher.synced().wait_for(|synced| *synced))
        .await
        .expect("in time")
        .expect("a publisher");
    token.cancel();
    timeout(SOON, events.closed())
        .await
        .expect("an end in time");
    let ended = async {
        while publisher.is_synced() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, ended)
        .await
        .expect("what has ended is not ready");
}

#[test]
fn only_other_bytes_wake_a_watcher() {
    let board = Board::default();
    let published = |bytes: &'static [u8]| Published {
        revision: Revision(1),
        bytes: Bytes::from_static(bytes),
        published_at: std::time::SystemTime::UNIX_EPOCH,
    };
    let mut watch = board.subscribe(&recipient("a"));
    assert!(board.publish(&recipient("a"), published(b"one")));
    assert!(watch.has_changed().expect("a board"));
    watch.borrow_and_update();
    assert!(!board.publish(&recipient("a"), published(b"one")));
    assert!(!watch.has_changed().expect("a board"));
    assert!(board.publish(&recipient("a"), published(b"two")));
    assert!(watch.has_changed().expect("a board"));
}

#[test]
fn pods_that_nobody_has_and_nobody_watches_are_forgotten() {
    let board = Board::default();
    let guessed: Vec<_> = (0..100)
        .map(|n| board.subscribe(&recipient(&format!("guess-{n}"))))
        .collect();
    board.sweep();
    assert_eq!(board.len(), 100);
    drop(guessed);
    board.sweep();
    assert_eq!(board.len(), 0);
}
