//! The filter's life in Envoy: who is configured when, what survives a VM, what a push cuts.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test itself does"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use sidewall_host_tests::wasm_host::scene::{Scene, anyone, block, shop, tcp};
use sidewall_host_tests::wasm_host::{
    Connection, Level, LoadError, Plugin, Process, Stage, StreamId, StreamState,
};
use sidewall_policy::model::Ports;

const DB: &str = "10.1.0.10:5432";
const WEB: &str = "10.1.0.20:40000";
const BATCH: &str = "10.1.0.30:40000";
const OFFICE: &str = "192.168.1.1:40000";
const BACKUP: &str = "10.3.0.7:443";

const ALLOWED: &str = "sidewall_connections_total.direction.ingress.verdict.allow";
const CLOSED: &str = "sidewall_connections_total.direction.none.verdict.deny";
const APPLIED: &str = "sidewall_snapshots_total.result.applied";

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

fn callbacks_of(envoy: &Process, vm: &str) -> Vec<&'static str> {
    let journal = envoy.journal();
    let of_vm = journal.iter().filter(|callback| callback.vm == vm);
    of_vm.map(|callback| callback.name).collect()
}

/// What the access log gets to see.
fn decision(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("sidewall_decision".to_owned(), text.to_owned())])
}

#[test]
fn before_the_first_snapshot_every_connection_is_closed() {
    let mut envoy = Process::new(1).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    for (source, destination) in [(WEB, DB), (DB, DB), ("127.0.0.1:1", "127.0.0.1:2")] {
        let stream = connect(&mut envoy, 0, source, destination);
        assert_eq!(envoy.stream(stream).state, StreamState::ClosedByFilter);
        assert_eq!(envoy.stream(stream).filter_state, decision("deny"));
    }
    assert_eq!(envoy.metric(CLOSED), Some(3));
    assert_eq!(
        envoy.records().unwrap()[0],
        json!({
            "verdict": "deny", "source": WEB, "destination": DB, "protocol": "TCP",
            "reason": "no-snapshot", "policies": [],
        })
    );
}

#[test]
fn a_push_reaches_canary_main_thread_and_workers_in_this_order() {
    let mut envoy = Process::new(2).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    envoy.forget();
    envoy.load(snapshot(&shop())).unwrap();

    let journal = envoy.journal();
    let configured = journal.iter().filter(|c| c.name == "proxy_on_configure");
    let vms: Vec<&str> = configured.map(|callback| callback.vm.as_str()).collect();
    assert_eq!(vms, ["canary", "main", "worker 0", "worker 1"]);
    assert_eq!(
        callbacks_of(&envoy, "canary"),
        [
            "_initialize",
            "proxy_on_context_create",
            "proxy_on_vm_start",
            "proxy_on_configure"
        ]
    );
    assert_eq!(envoy.metric(APPLIED), Some(4));
    for worker in [0, 1] {
        let allowed = connect(&mut envoy, worker, WEB, DB);
        let denied = connect(&mut envoy, worker, BATCH, DB);
        assert!(envoy.exchange(allowed));
        assert!(!envoy.exchange(denied));
        assert_eq!(envoy.stream(denied).state, StreamState::ClosedByFilter);
    }
}

#[test]
fn the_carrier_may_come_before_the_gate() {
    let mut envoy = Process::new(1).unwrap();
    envoy.load(snapshot(&shop())).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    let stream = connect(&mut envoy, 0, WEB, DB);
    assert!(envoy.exchange(stream));
}

#[test]
fn the_time_of_the_last_push_is_a_gauge() {
    let mut envoy = Process::new(1).unwrap();
    envoy.set_clock(Duration::from_millis(1_700_000_000_999));
    envoy.load(snapshot(&shop())).unwrap();
    let timestamp = "sidewall_snapshot_timestamp_seconds";
    assert_eq!(envoy.metric(timestamp), Some(1_700_000_000));
    envoy.set_clock(Duration::from_secs(1_700_000_060));
    envoy.load(Plugin::carrier("SIDEWALL?")).unwrap_err();
    assert_eq!(envoy.metric(timestamp), Some(1_700_000_000));
    envoy.load(snapshot(&only_the_office())).unwrap();
    assert_eq!(envoy.metric(timestamp), Some(1_700_000_060));
}

#[test]
fn a_configuration_without_a_role_is_refused_by_the_canary() {
    let mut envoy = serving();
    for configuration in ["", "gates", "Gate", "{\"role\":\"gate\"}", "SIDEWAL"] {
        envoy.forget();
        let plugin = Plugin {
            name: "sidewall-gate".to_owned(),
            configuration: configuration.into(),
        };
        let error = envoy.load(plugin).unwrap_err();
        assert!(
            matches!(
                error,
                LoadError::Refused {
                    stage: Stage::Canary,
                    ..
                }
            ),
            "{configuration:?}: {error}"
        );
        let logs = envoy.logs();
        let [log] = logs.as_slice() else {
            panic!("{logs:?}");
        };
        assert_eq!(log.level, Level::Error);
        assert!(log.message.contains("neither a snapshot nor \"gate\""));
    }
    let stream = connect(&mut envoy, 0, WEB, DB);
    assert!(envoy.exchange(stream));
}

#[test]
fn a_push_cuts_what_it_denies_in_both_directions_and_nothing_else() {
    let mut envoy = serving();
    let flows = [(WEB, DB), ("10.1.0.10:40000", BACKUP), (OFFICE, DB)];
    let live = [0, 1].map(|worker| {
        flows.map(|(source, destination)| connect(&mut envoy, worker, source, destination))
    });
    assert!(live.iter().flatten().all(|stream| envoy.is_open(*stream)));
    envoy.forget();

    envoy.load(snapshot(&only_the_office())).unwrap();

    for [web, backup, office] in live {
        assert_eq!(envoy.stream(web).state, StreamState::ClosedByFilter);
        assert_eq!(envoy.stream(backup).state, StreamState::ClosedByFilter);
        assert!(envoy.exchange(office));
        assert_eq!(envoy.stream(web).filter_state, decision("deny shop/db"));
        assert_eq!(envoy.stream(office).filter_state, decision("allow shop/db"));
    }
    let cut = |direction: &str| {
        envoy.metric(&format!(
            "sidewall_connections_cut_total.direction.{direction}"
        ))
    };
    assert_eq!(
        (cut("ingress"), cut("egress"), cut("none")),
        (Some(2), Some(2), Some(0))
    );
    let records = envoy.records().unwrap();
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record["cut"] == json!(true)));
    assert_eq!(records[0]["source"], json!(WEB));
    assert_eq!(records[0]["policies"], json!(["shop/db"]));
    assert_eq!(records[1]["direction"], json!("egress"));

    let log = envoy.logs().into_iter().rfind(|l| l.level == Level::Info);
    let message = log.unwrap().message;
    assert!(
        message.ends_with("1 subjects, 1 live connections kept, 2 cut"),
        "{message}"
    );
    let again = connect(&mut envoy, 0, WEB, DB);
    assert!(!envoy.is_open(again));
}

#[test]
fn a_cut_is_made_once() {
    let mut envoy = serving();
    let web = connect(&mut envoy, 0, WEB, DB);
    envoy.load(snapshot(&only_the_office())).unwrap();
    assert!(!envoy.is_open(web));
    envoy.forget();
    let nobody = shop().policy("shop/db", "db", Some(Vec::new()), None);
    envoy.load(snapshot(&nobody)).unwrap();
    assert_eq!(envoy.records().unwrap(), [json!(null); 0]);
}

#[test]
fn a_connection_that_ended_is_not_cut() {
    let mut envoy = serving();
    let web = connect(&mut envoy, 0, WEB, DB);
    envoy.finish(web);
    assert_eq!(envoy.stream(web).state, StreamState::ClosedByPeer);
    envoy.load(snapshot(&only_the_office())).unwrap();
    assert_eq!(envoy.stream(web).state, StreamState::ClosedByPeer);
    assert_eq!(envoy.records().unwrap(), [json!(null); 0]);
}

#[test]
fn a_thousand_live_connections_survive_a_push_that_still_allows_them() {
    let mut envoy = serving();
    let live: Vec<_> = (0..1000)
        .map(|port| {
            connect(
                &mut envoy,
                port % 2,
                &format!("10.1.0.20:{}", 10_000 + port),
                DB,
            )
        })
        .collect();
    let wider = shop().policy("shop/db", "db", Some(vec![anyone(Ports::Any)]), None);
    envoy.load(snapshot(&wider)).unwrap();
    assert!(live.iter().all(|stream| envoy.exchange(*stream)));
}

#[test]
fn an_old_carrier_root_goes_and_a_gate_stays() {
    let mut envoy = serving();
    let web = connect(&mut envoy, 0, WEB, DB);
    envoy.forget();
    envoy.load(snapshot(&only_the_office())).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    let deleted = |vm: &str| {
        let callbacks = callbacks_of(&envoy, vm);
        callbacks
            .iter()
            .filter(|c| **c == "proxy_on_delete")
            .count()
    };
    assert_eq!((deleted("main"), deleted("worker 1")), (1, 1));
    assert_eq!(
        deleted("worker 0"),
        2,
        "the root and the stream that was cut"
    );
    assert!(!envoy.is_open(web));
}

#[test]
fn connections_without_readable_addresses_are_closed() {
    let mut envoy = serving();
    let ends = Connection::new(WEB, DB);
    let cases = [
        Connection::default(),
        Connection::default().property("source.address", WEB),
        Connection::default().property("destination.address", DB),
        ends.clone().property("source.address", "/run/app.sock"),
        ends.clone().property("destination.address", "10.1.0.10"),
        ends.clone().property("destination.address", b"\xff\xfe\0"),
        ends.clone().property("source.address", ""),
        ends.clone().failing("source.address", 3),
        ends.clone().failing("destination.address", 10),
    ];
    for (count, connection) in (1..).zip(cases) {
        envoy.forget();
        let stream = envoy.connect(0, connection.clone());
        assert_eq!(
            envoy.stream(stream).state,
            StreamState::ClosedByFilter,
            "{connection:?}"
        );
        assert_eq!(envoy.metric(CLOSED), Some(count));
        let record = &envoy.records().unwrap()[0];
        assert_eq!(record["reason"], json!("no-address"), "{record}");
        assert_eq!(record["revision"].as_str().unwrap().len(), 16, "{record}");
    }
    assert_eq!(envoy.metric(ALLOWED), Some(0));
}

#[test]
fn subjects_may_change_with_a_push() {
    let mut envoy = serving();
    let snapshot = shop().snapshot(&["shop/web"]);
    envoy.load(Plugin::carrier(snapshot)).unwrap();
    let other = connect(&mut envoy, 0, BATCH, DB);
    assert!(!envoy.is_open(other), "neither end is a subject");
    let web = connect(&mut envoy, 0, BATCH, "10.1.0.20:80");
    assert!(envoy.exchange(web));
}
