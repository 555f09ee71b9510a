//! The filter after the worst: a VM that traps, starves or is stopped half way is built anew with the
//! latest snapshot, and nothing denied passes meanwhile.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test itself does"
)]

use std::collections::BTreeSet;

use sidewall_host_tests::wasm_host::scene::{Scene, block, shop, tcp};
use sidewall_host_tests::wasm_host::{
    Connection, Fault, LoadError, Plugin, Process, Stage, StreamId, StreamState,
};

const DB: &str = "10.1.0.10:5432";
const WEB: &str = "10.1.0.20:40000";
const BATCH: &str = "10.1.0.30:40000";
const OFFICE: &str = "192.168.1.1:40000";

const REFUSED: &str = "sidewall_snapshots_total.result.refused";
const RESTORED: &str = "sidewall_snapshots_total.result.restored";

/// Two workers with a gate and the snapshot of `shop/db`.
fn serving() -> Process {
    let mut envoy = Process::new(2).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    envoy.load(snapshot(&shop())).unwrap();
    envoy
}

fn snapshot(scene: &Scene) -> Plugin {
    Plugin::carrier(scene.snapshot(&["shop/db"]))
}

fn connect(envoy: &mut Process, worker: usize, source: &str, destination: &str) -> StreamId {
    envoy.connect(worker, Connection::new(source, destination))
}

/// The shop after a change of `shop/db`: the office stays, `shop/web` and all egress are out.
fn only_the_office() -> Scene {
    let office = block("192.168.0.0/16", &[], tcp(5432, 5440));
    shop().policy("shop/db", "db", Some(vec![office]), Some(Vec::new()))
}

#[test]
fn a_trap_closes_one_worker_until_the_next_connection() {
    let mut envoy = serving();
    let dying = connect(&mut envoy, 0, WEB, DB);
    let elsewhere = connect(&mut envoy, 1, WEB, DB);
    envoy.inject(0, Fault::TrapOn("proxy_get_property"));
    let unlucky = connect(&mut envoy, 0, WEB, DB);
    assert_eq!(envoy.stream(unlucky).state, StreamState::Failed);
    assert_eq!(envoy.stream(dying).state, StreamState::Failed);
    assert!(envoy.exchange(elsewhere));

    let denied = connect(&mut envoy, 0, BATCH, DB);
    let allowed = connect(&mut envoy, 0, WEB, DB);
    assert_eq!(envoy.stream(denied).state, StreamState::ClosedByFilter);
    assert!(envoy.exchange(allowed));
    assert_eq!(envoy.metric(RESTORED), Some(1));
}

#[test]
fn after_a_trap_the_latest_snapshot_decides() {
    let mut envoy = serving();
    envoy.load(snapshot(&only_the_office())).unwrap();
    envoy.inject(0, Fault::TrapOn("proxy_get_property"));
    connect(&mut envoy, 0, OFFICE, DB);
    let office = connect(&mut envoy, 0, OFFICE, DB);
    let web = connect(&mut envoy, 0, WEB, DB);
    assert!(envoy.exchange(office));
    assert!(!envoy.is_open(web));
}

#[test]
fn a_push_to_a_dead_vm_builds_it_anew() {
    let mut envoy = serving();
    envoy.inject(0, Fault::TrapOn("proxy_get_property"));
    connect(&mut envoy, 0, WEB, DB);
    envoy.load(snapshot(&only_the_office())).unwrap();
    let web = connect(&mut envoy, 0, WEB, DB);
    let office = connect(&mut envoy, 0, OFFICE, DB);
    assert!(!envoy.is_open(web));
    assert!(envoy.exchange(office));
    assert_eq!(envoy.metric(RESTORED), Some(0));
}

#[test]
fn a_worker_without_memory_for_a_push_comes_back_with_it() {
    let mut envoy = serving();
    let hosts = (0..20_000_u32).map(|host| {
        let address = std::net::Ipv4Addr::from(0xac10_0000 + host * 3);
        block(&format!("{address}/32"), &[], tcp(5432, 5432))
    });
    let large = shop().policy("shop/db", "db", Some(hosts.collect()), None);
    envoy.inject(0, Fault::NoMemory);
    let error = envoy.load(snapshot(&large)).unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Trapped {
                stage: Stage::Thread(1),
                ..
            }
        ),
        "{error}"
    );
    for worker in [0, 1] {
        let peer = connect(&mut envoy, worker, "172.16.0.3:40000", DB);
        let web = connect(&mut envoy, worker, WEB, DB);
        assert!(envoy.exchange(peer));
        assert!(!envoy.is_open(web));
    }
    assert_eq!(envoy.metric(RESTORED), Some(1));
}

#[test]
fn a_callback_that_is_stopped_half_way_leaves_nothing_open() {
    for instructions in (0..60_000).step_by(997) {
        let mut envoy = Process::new(1).unwrap();
        envoy.load(Plugin::gate()).unwrap();
        envoy.load(snapshot(&shop())).unwrap();
        envoy.inject(0, Fault::Fuel(instructions));
        let denied = connect(&mut envoy, 0, BATCH, DB);
        assert!(!envoy.is_open(denied), "{instructions} instructions");
        let next = [BATCH, WEB].map(|source| connect(&mut envoy, 0, source, DB));
        assert!(!envoy.is_open(next[0]), "{instructions} instructions");
        assert!(envoy.exchange(next[1]), "{instructions} instructions");
    }
}

#[test]
fn a_push_that_is_stopped_half_way_leaves_nothing_denied_open() {
    let mut outcomes = BTreeSet::new();
    for instructions in (0..120_000).step_by(3989) {
        let mut envoy = serving();
        let live = connect(&mut envoy, 0, WEB, DB);
        envoy.inject(0, Fault::Fuel(instructions));
        // With enough fuel it succeeds; with less the VM dies, and its connections with it.
        let loaded = envoy.load(snapshot(&only_the_office()));
        outcomes.insert(loaded.is_ok());
        let expected = match loaded {
            Ok(()) => StreamState::ClosedByFilter,
            Err(_) => StreamState::Failed,
        };
        assert_eq!(envoy.stream(live).state, expected);
        let next = [WEB, OFFICE].map(|source| connect(&mut envoy, 0, source, DB));
        assert!(!envoy.is_open(next[0]), "{instructions} instructions");
        assert!(envoy.exchange(next[1]), "{instructions} instructions");
    }
    assert_eq!(outcomes.len(), 2, "both ends of the range were met");
}

#[test]
fn damaged_shared_data_is_refused_and_the_worker_stays_closed_until_a_push() {
    let mut envoy = serving();
    let mut damaged = envoy.shared("sidewall.snapshot").unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    envoy.set_shared("sidewall.snapshot", damaged);
    envoy.inject(0, Fault::TrapOn("proxy_get_property"));
    connect(&mut envoy, 0, WEB, DB);

    let web = connect(&mut envoy, 0, WEB, DB);
    assert_eq!(envoy.stream(web).state, StreamState::ClosedByFilter);
    assert_eq!(envoy.metric(REFUSED), Some(1));
    assert_eq!(envoy.metric(RESTORED), Some(0));

    envoy.load(snapshot(&only_the_office())).unwrap();
    let office = connect(&mut envoy, 0, OFFICE, DB);
    assert!(envoy.exchange(office));
}

#[test]
fn a_status_that_the_sdk_cannot_name_never_opens_a_connection() {
    for status in [2, 4, 6, 7, 8, 12, 99] {
        let mut envoy = serving();
        let odd = Connection::new(WEB, DB).failing("source.address", status);
        let stream = envoy.connect(0, odd);
        assert!(!envoy.is_open(stream), "status {status}");
        let next = connect(&mut envoy, 0, WEB, DB);
        assert!(envoy.exchange(next), "status {status}");
    }
}
