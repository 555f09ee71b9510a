//! Which gates are opened, by whom, and what becomes of those that the API server does not open.

use super::*;
use crate::testing::{Shelf, pod, recipient};

/// Records what it is told to open, and answers as it is told to.
#[derive(Default)]
struct Register {
    marked: Mutex<Vec<(NamespacedName, String)>>,
    refusing: Mutex<Option<NotMarked>>,
}

impl Register {
    fn marked(&self) -> Vec<(NamespacedName, String)> {
        std::mem::take(&mut *self.marked.lock().unwrap())
    }

    fn refuse(&self, with: Option<NotMarked>) {
        *self.refusing.lock().unwrap() = with;
    }
}

impl Marker for Register {
    fn mark<'a>(
        &'a self,
        pod: &'a NamespacedName,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<(), NotMarked>> {
        let mut marked = self.marked.lock().unwrap();
        marked.push((pod.clone(), uid.to_owned()));
        let answer = self.refusing.lock().unwrap().clone().map_or(Ok(()), Err);
        Box::pin(std::future::ready(answer))
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Created at 100 s, with the address 10.0.0.1.
fn gate(uid: &str) -> Gate {
    Gate {
        uid: uid.into(),
        created: at(100),
        ips: vec!["10.0.0.1".parse().unwrap()],
    }
}

/// Rounds are made by hand, so that no test waits for a clock.
struct Site {
    register: Arc<Register>,
    readiness: Readiness,
    clients: Clients,
    shelf: Arc<Shelf>,
    progress: Progress,
}

impl Site {
    fn new() -> Self {
        let register = Arc::<Register>::default();
        let readiness = Readiness {
            gates: Gates::default(),
            marker: Arc::clone(&register) as Arc<dyn Marker>,
            metrics: KubeMetrics::default(),
        };
        Self {
            register,
            readiness,
            clients: Clients::default(),
            shelf: Arc::default(),
            progress: Progress::default(),
        }
    }

    fn gate(&self, pod: &NamespacedName, gate: Option<Gate>) {
        self.readiness.gates.set(pod, gate);
    }

    /// What is marked in one round.
    async fn round(&mut self) -> Vec<(NamespacedName, String)> {
        let (source, progress) = (Arc::clone(&self.shelf), &mut self.progress);
        self.readiness
            .round(&*source, &self.clients, progress)
            .await;
        self.register.marked()
    }

    /// How long the first pod waits for its next attempt, which is due then.
    fn skip_the_pause(&mut self) -> Duration {
        let attempts = &mut self.progress.attempts;
        let (_, attempt) = attempts.iter_mut().next().expect("an attempt");
        let pause = attempt.next.saturating_duration_since(Instant::now());
        attempt.next = Instant::now();
        pause
    }
}

fn one(uid: &str) -> Vec<(NamespacedName, String)> {
    vec![(pod("db"), uid.to_owned())]
}

#[tokio::test]
async fn a_gate_opens_once_the_wanted_snapshot_is_acknowledged() {
    let mut site = Site::new();
    site.gate(&pod("db"), Some(gate("u1")));
    let wanted = site.shelf.put(&pod("db"), "10.0.0.1");
    let connection = site.clients.connect(&recipient("db"), None, None, at(101));
    connection.sent(wanted.revision, at(102));
    assert_eq!(site.round().await, [], "sent is not acknowledged");
    connection.acked(wanted.revision, at(103));
    assert_eq!(site.round().await, one("u1"));

    // The watch has not told of it yet; then it does; then the stream breaks, and a policy changes.
    connection.acked(wanted.revision, at(104));
    assert_eq!(site.round().await, []);
    site.gate(&pod("db"), None);
    drop(connection);
    site.shelf.put(&pod("db"), "10.0.0.2");
    assert_eq!(site.round().await, []);
}

#[tokio::test]
async fn pods_without_a_gate_are_let_alone() {
    let mut site = Site::new();
    let wanted = site.shelf.put(&pod("db"), "10.0.0.1");
    let connection = site.clients.connect(&recipient("db"), None, None, at(101));
    connection.acked(wanted.revision, at(103));
    assert_eq!(site.round().await, []);
    drop(connection);
}

#[tokio::test]
async fn the_order_of_acknowledgement_and_watch_does_not_matter() {
    let mut site = Site::new();
    let wanted = site.shelf.put(&pod("db"), "10.0.0.1");
    let connection = site.clients.connect(&recipient("db"), None, None, at(101));
    connection.acked(wanted.revision, at(103));
    site.readiness
        .gates
        .replace([(pod("db"), gate("u1"))].into());
    assert_eq!(site.round().await, one("u1"));
    drop(connection);
}

#[tokio::test]
async fn an_earlier_pod_of_the_same_name_opens_nothing() {
    let mut site = Site::new();
    let wanted = site.shelf.put(&pod("db"), "10.0.0.1");
    let clients = site.clients.clone();
    let connect = |uid: Option<&str>, when| {
        let uid = uid.map(Into::into);
        let connection = clients.connect(&recipient("db"), uid, None, when);
        connection.acked(wanted.revision, when);
        connection
    };
    site.gate(&pod("db"), Some(gate("new")));
    let by_token = connect(Some("old"), at(200));
    let by_time = connect(None, at(99));
    assert_eq!(site.round().await, []);
    let good = connect(Some("new"), at(99));
    let why = "a token knows better than a clock";
    assert_eq!(site.round().await, one("new"), "{why}");
    drop((by_token, by_time, good));
}

#[tokio::test]
async fn a_snapshot_of_another_address_opens_nothing() {
    let mut site = Site::new();
    site.gate(&pod("db"), Some(gate("u1")));
    let of_the_last_pod = site.shelf.put(&pod("db"), "10.0.0.9");
    let connection = site.clients.connect(&recipient("db"), None, None, at(101));
    connection.acked(of_the_last_pod.revision, at(102));
    assert_eq!(site.round().await, []);
    let wanted = site.shelf.put(&pod("db"), "10.0.0.1");
    assert_eq!(site.round().await, []);
    connection.acked(wanted.revision, at(103));
    assert_eq!(site.round().await, one("u1"));
}

#[tokio::test]
async fn what_the_api_server_refuses_is_tried_again_ever_more_slowly() {
    let mut site = Site::new();
    site.register
        .refuse(Some(NotMarked::Failed("500".to_owned())));
    site.gate(&pod("db"), Some(gate("u1")));
    let wanted = site.shelf.put(&pod("db"), "10.0.0.1");
    let connection = site.clients.connect(&recipient("db"), None, None, at(101));
    connection.acked(wanted.revision, at(102));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert_eq!(site.round().await, one("u1"));
        assert_eq!(site.round().await, [], "not before its time");
        pauses.push(site.skip_the_pause());
    }
    assert!(pauses[0] < Duration::from_millis(1_001), "{pauses:?}");
    let slow = Duration::from_secs(20)..Duration::from_secs(61);
    assert!(slow.contains(&pauses[8]), "{pauses:?}");

    // Another pod does not wait for it.
    site.round().await;
    site.gate(&pod("web"), Some(gate("u2")));
    let web = site.shelf.put(&pod("web"), "10.0.0.1");
    let other = site.clients.connect(&recipient("web"), None, None, at(101));
    other.acked(web.revision, at(102));
    assert_eq!(site.round().await, [(pod("web"), "u2".to_owned())]);

    site.gate(&pod("db"), None);
    site.round().await;
    assert_eq!(site.progress.attempts.len(), 1, "what is open is forgotten");
    drop((connection, other));
}

#[tokio::test]
async fn a_gate_that_stays_closed_although_it_was_opened_is_opened_again() {
    let mut site = Site::new();
    site.gate(&pod("db"), Some(gate("u1")));
    let wanted = site.shelf.put(&pod("db"), "10.0.0.1");
    let connection = site.clients.connect(&recipient("db"), None, None, at(101));
    connection.acked(wanted.revision, at(102));
    assert_eq!(site.round().await, one("u1"));
    assert_eq!(site.round().await, []);
    assert!(site.skip_the_pause() > AGAIN / 2);
    assert_eq!(site.round().await, one("u1"));
    drop(connection);
}

#[tokio::test]
async fn an_acknowledgement_rings() {
    let site = Site::new();
    let (register, clients, shelf) = (site.register, site.clients, site.shelf);
    site.readiness.gates.set(&pod("db"), Some(gate("u1")));
    let wanted = shelf.put(&pod("db"), "10.0.0.1");
    let (source, all) = (Arc::clone(&shelf), clients.clone());
    let task = tokio::spawn(async move { site.readiness.run(&*source, &all).await });
    let connection = clients.connect(&recipient("db"), None, None, at(101));
    sleep(GATHER * 2).await;
    connection.acked(wanted.revision, at(102));
    let marked = async {
        loop {
            let marked = register.marked();
            if !marked.is_empty() {
                break marked;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let marked = tokio::time::timeout(Duration::from_secs(10), marked).await;
    assert_eq!(marked.expect("in time"), one("u1"));
    task.abort();
    drop(connection);
}
