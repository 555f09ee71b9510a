//! What the filter decides, counts and records, against the engine it is built on.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test itself does"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use sidewall_host_tests::wasm_host::scene::{Scene, anyone, shop};
use sidewall_host_tests::wasm_host::{
    Callback, Connection, Level, Plugin, Process, StreamId, StreamState,
};
use sidewall_policy::eval::{Decision, Explanation, Flow, Verdict};
use sidewall_policy::model::Ports;
use sidewall_policy::snapshot::Snapshot;

const EVERYWHERE: [&str; 17] = [
    "10.1.0.10",        // shop/db
    "fd01::10",         // shop/db
    "::ffff:10.1.0.10", // shop/db, as a v6 socket shows it
    "10.1.0.20",        // shop/web
    "fd01::20",         // shop/web
    "10.1.0.30",        // shop/batch
    "10.0.0.1",         // its node
    "fd00::1",          // its node
    "10.0.0.2",         // another node
    "192.168.1.1",      // in the block
    "192.168.9.1",      // in its exception
    "10.3.0.7",         // allowed by egress
    "10.96.0.5",        // service shop/sql
    "10.96.0.6",        // service shop/cache
    "8.8.8.8",
    "127.0.0.1",
    "::1",
];

const PORTS: [u16; 9] = [1, 22, 443, 5432, 5433, 5440, 5441, 6379, 65535];

fn serving(scene: &Scene, subjects: &[&str]) -> Process {
    let mut envoy = Process::new(1).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    envoy
        .load(Plugin::carrier(scene.snapshot(subjects)))
        .unwrap();
    envoy.forget();
    envoy
}

fn connect(envoy: &mut Process, source: &str, destination: &str) -> StreamId {
    envoy.connect(0, Connection::new(source, destination))
}

/// The only record that one connection makes; null if there is none.
fn record(envoy: &mut Process, source: &str, destination: &str) -> Value {
    envoy.forget();
    connect(envoy, source, destination);
    let mut records = envoy.records().unwrap();
    assert!(records.len() <= 1, "{records:?}");
    records.pop().unwrap_or_default()
}

fn judged(
    snapshot: &Snapshot,
    source: SocketAddr,
    destination: SocketAddr,
) -> (Decision, Explanation) {
    let flow = Flow {
        source: source.ip(),
        destination: destination.ip(),
        protocol: 6,
        port: destination.port(),
    };
    let decision = snapshot.judge(&flow);
    let explanation = snapshot.explain(&flow, &decision);
    (decision, explanation)
}

fn flows() -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
    let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    EVERYWHERE.into_iter().flat_map(move |source| {
        EVERYWHERE.into_iter().flat_map(move |destination| {
            PORTS
                .into_iter()
                .map(move |port| (at(source, 40000), at(destination, port)))
        })
    })
}

/// The record as docs and dashboards know it, built from the engine's own explanation.
fn expected_record(
    snapshot: &Snapshot,
    source: SocketAddr,
    destination: SocketAddr,
    explanation: &Explanation,
) -> Value {
    let mut record = json!({
        "verdict": explanation.verdict,
        "source": source.to_string(),
        "destination": destination.to_string(),
        "protocol": "TCP",
        "reason": explanation.reason,
        "policies": explanation.policies,
        "revision": snapshot.revision().to_string(),
    });
    if let Some(direction) = explanation.direction {
        record["direction"] = json!(direction.as_str());
    }
    if let Some(pod) = &explanation.subject {
        record["pod"] = json!(pod);
    }
    if let Some(rule) = &explanation.rule {
        record["rule"] = json!(rule.to_string());
    }
    if let Some(near) = &explanation.nearest {
        record["nearest"] = json!({"rule": near.rule.to_string(), "missed": near.missed});
    }
    if let Some(service) = &explanation.service {
        record["service"] = json!(service);
    }
    record
}

#[test]
fn every_verdict_record_and_count_is_the_engines() {
    for subjects in [
        &["shop/db"][..],
        &["shop/web"],
        &["shop/batch"],
        &["shop/db", "shop/web", "shop/batch"],
    ] {
        let snapshot = Snapshot::check(shop().snapshot(subjects)).unwrap();
        let mut envoy = serving(&shop(), subjects);
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let before = envoy.metrics();
        for (source, destination) in flows() {
            let (decision, explanation) = judged(&snapshot, source, destination);
            let flow = format!("{subjects:?}: {source} to {destination}: {explanation:?}");
            envoy.forget();
            let stream = connect(&mut envoy, &source.to_string(), &destination.to_string());
            let (open, outcome) = match decision.verdict {
                Verdict::Deny => (false, "deny"),
                Verdict::Allow if decision.would_deny() => (true, "audit"),
                Verdict::Allow => (true, "allow"),
            };
            assert_eq!(envoy.is_open(stream), open, "{flow}");
            let records = envoy.records().unwrap();
            if outcome == "allow" {
                assert_eq!(records, [json!(null); 0], "{flow}");
            } else {
                let expected = expected_record(&snapshot, source, destination, &explanation);
                assert_eq!(records, [expected], "{flow}");
            }
            envoy.finish(stream);
            let direction = decision.direction().map_or("none", |d| d.as_str());
            *counts
                .entry(format!(
                    "sidewall_connections_total.direction.{direction}.verdict.{outcome}"
                ))
                .or_default() += 1;
        }
        counts.extend(before);
        assert_eq!(envoy.metrics(), counts, "{subjects:?}");
    }
}

#[test]
fn self_loopback_and_the_own_node_always_pass() {
    let mut envoy = serving(&shop(), &["shop/db"]);
    for (source, destination) in [
        ("10.1.0.10:40000", "10.1.0.10:80"),
        ("[fd01::10]:40000", "[fd01::10]:80"),
        ("10.1.0.10:40000", "[::ffff:10.1.0.10]:80"),
        ("127.0.0.1:40000", "127.0.0.1:80"),
        ("[::1]:40000", "[::1]:80"),
        ("10.0.0.1:40000", "10.1.0.10:80"),
        ("[fd00::1]:40000", "[fd01::10]:80"),
        ("10.1.0.10:40000", "10.0.0.1:10250"),
        ("[fd01::10]:40000", "[fd00::1]:10250"),
    ] {
        let stream = connect(&mut envoy, source, destination);
        assert!(envoy.exchange(stream), "{source} to {destination}");
    }
    for (source, destination) in [
        ("10.0.0.2:40000", "10.1.0.10:80"),
        ("10.1.0.10:40000", "10.0.0.2:10250"),
    ] {
        let stream = connect(&mut envoy, source, destination);
        assert_eq!(
            envoy.stream(stream).state,
            StreamState::ClosedByFilter,
            "{source} to {destination}, another node"
        );
    }
}

#[test]
fn a_record_names_the_policies_and_what_came_nearest() {
    let mut envoy = serving(&shop(), &["shop/db"]);
    let revision = Snapshot::check(shop().snapshot(&["shop/db"]))
        .unwrap()
        .revision()
        .to_string();

    assert_eq!(
        record(&mut envoy, "10.1.0.20:40000", "10.1.0.10:22"),
        json!({
            "verdict": "deny", "direction": "ingress", "pod": "shop/db",
            "source": "10.1.0.20:40000", "destination": "10.1.0.10:22", "protocol": "TCP",
            "reason": "no-rule", "policies": ["shop/db"],
            "nearest": {"rule": "shop/db ingress[0]", "missed": "ports"},
            "revision": revision,
        })
    );
    assert_eq!(
        record(&mut envoy, "8.8.8.8:40000", "10.1.0.10:5440")["nearest"],
        json!({"rule": "shop/db ingress[1]", "missed": "from"})
    );
    assert_eq!(
        record(&mut envoy, "10.1.0.10:40000", "8.8.8.8:53"),
        json!({
            "verdict": "deny", "direction": "egress", "pod": "shop/db",
            "source": "10.1.0.10:40000", "destination": "8.8.8.8:53", "protocol": "TCP",
            "reason": "no-rule", "policies": ["shop/db"],
            "nearest": {"rule": "shop/db egress[0]", "missed": "to"},
            "revision": revision,
        })
    );
    let service = record(&mut envoy, "10.1.0.10:40000", "10.96.0.6:6379");
    assert_eq!(service["service"], json!("shop/cache"));
    assert_eq!(service["reason"], json!("service-mixed"));
    let stranger = record(&mut envoy, "8.8.8.8:40000", "10.1.0.20:80");
    assert_eq!(stranger["reason"], json!("unknown-address"));
    assert_eq!(stranger.get("pod"), None);
    assert_eq!(
        record(&mut envoy, "10.1.0.20:40000", "10.1.0.10:5432"),
        json!(null)
    );
}

#[test]
fn a_record_is_one_warning() {
    let mut envoy = serving(&shop(), &["shop/db"]);
    connect(&mut envoy, "8.8.8.8:40000", "10.1.0.10:5432");
    let logs = envoy.logs();
    let [log] = logs.as_slice() else {
        panic!("{logs:?}");
    };
    assert_eq!((log.level, log.vm.as_str()), (Level::Warn, "worker 0"));
    assert!(log.message.starts_with("sidewall-decision {"), "{log:?}");
    assert_eq!(log.message.lines().count(), 1);
}

#[test]
fn audited_policies_let_pass_and_tell() {
    let mut envoy = serving(&shop(), &["shop/batch"]);
    let stream = connect(&mut envoy, "10.1.0.20:40000", "10.1.0.30:80");
    assert!(envoy.exchange(stream));
    let record = &envoy.records().unwrap()[0];
    assert_eq!(record["verdict"], json!("would-deny"));
    assert_eq!(record["policies"], json!(["shop/closed"]));
    assert_eq!(
        envoy.stream(stream).filter_state,
        decision("would-deny shop/closed")
    );
    let audited = "sidewall_connections_total.direction.ingress.verdict.audit";
    assert_eq!(envoy.metric(audited), Some(1));

    // Once it is enforced, the connection it let pass is cut.
    let enforced = shop().policy("shop/closed", "batch", Some(Vec::new()), None);
    envoy
        .load(Plugin::carrier(enforced.snapshot(&["shop/batch"])))
        .unwrap();
    assert_eq!(envoy.stream(stream).state, StreamState::ClosedByFilter);
    assert_eq!(
        envoy.stream(stream).filter_state,
        decision("deny shop/closed")
    );
}

/// What the access log gets to see.
fn decision(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("sidewall_decision".to_owned(), text.to_owned())])
}

#[test]
fn the_access_log_knows_every_verdict_and_its_policies() {
    let mut envoy = serving(&shop(), &["shop/db", "shop/web"]);
    for (source, destination, expected) in [
        ("8.8.8.8:40000", "10.1.0.10:5432", "deny shop/db"),
        ("8.8.8.8:40000", "8.8.4.4:53", "deny"),
        ("192.168.1.1:40000", "10.1.0.10:5432", "allow shop/db"),
        ("10.1.0.10:40000", "10.3.0.9:80", "allow shop/db"),
        // The source is free to go, the destination lets it in.
        ("10.1.0.20:40000", "10.1.0.10:5432", "allow shop/db"),
        // Nothing isolates it; it is its own node; it is itself.
        ("8.8.8.8:40000", "10.1.0.20:80", "allow"),
        ("10.0.0.1:40000", "10.1.0.10:1", "allow"),
        ("10.1.0.10:40000", "10.1.0.10:1", "allow"),
    ] {
        let stream = connect(&mut envoy, source, destination);
        assert_eq!(
            envoy.stream(stream).filter_state,
            decision(expected),
            "{source} -> {destination}"
        );
    }
}

/// As on a node, whose snapshot knows both ends.
#[test]
fn an_allow_by_both_sides_names_both_policies() {
    let scene = shop().policy("shop/out", "web", None, Some(vec![anyone(Ports::Any)]));
    let mut envoy = serving(&scene, &["shop/db", "shop/web"]);
    let stream = connect(&mut envoy, "10.1.0.20:40000", "10.1.0.10:5432");
    assert_eq!(
        envoy.stream(stream).filter_state,
        decision("allow shop/out,shop/db")
    );
    // One policy for both ends is named once.
    let both = vec![anyone(Ports::Any)];
    let scene = shop()
        .pod("shop/replica", "db", "n1", &["10.1.0.11"])
        .policy("shop/db", "db", Some(both.clone()), Some(both));
    let mut envoy = serving(&scene, &["shop/db", "shop/replica"]);
    let stream = connect(&mut envoy, "10.1.0.11:40000", "10.1.0.10:5432");
    assert_eq!(envoy.stream(stream).filter_state, decision("allow shop/db"));
}

#[test]
fn every_metric_is_there_from_the_start() {
    let mut envoy = Process::new(1).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    for direction in ["ingress", "egress", "none"] {
        for verdict in ["allow", "deny", "audit"] {
            let name =
                format!("sidewall_connections_total.direction.{direction}.verdict.{verdict}");
            assert_eq!(envoy.metric(&name), Some(0), "{name}");
        }
        let name = format!("sidewall_connections_cut_total.direction.{direction}");
        assert_eq!(envoy.metric(&name), Some(0), "{name}");
    }
    for result in ["applied", "refused", "restored"] {
        let name = format!("sidewall_snapshots_total.result.{result}");
        assert_eq!(envoy.metric(&name), Some(0), "{name}");
    }
    assert_eq!(envoy.metric("sidewall_snapshot_timestamp_seconds"), Some(0));
    assert_eq!(envoy.metrics(), BTreeMap::new());
}

/// Every host call costs more than a look-up among ten thousand peers, and so does every callback:
/// this is the budget. Data passes without one.
#[test]
fn two_host_calls_decide_one_tells_and_one_counts() {
    let mut envoy = serving(&shop(), &["shop/db"]);
    let callback = |name: &'static str, host_calls: &[&'static str]| Callback {
        vm: "worker 0".to_owned(),
        name,
        host_calls: host_calls.to_vec(),
    };
    let read = ["proxy_get_property", "proxy_get_property"];

    let allowed = connect(&mut envoy, "10.1.0.20:40000", "10.1.0.10:5432");
    assert!(envoy.exchange(allowed));
    envoy.finish(allowed);
    assert_eq!(
        envoy.journal(),
        [
            callback("proxy_on_context_create", &[]),
            callback(
                "proxy_on_new_connection",
                &[&read[..], &["proxy_set_property", "proxy_increment_metric"]].concat()
            ),
            callback("proxy_on_downstream_connection_close", &[]),
            callback("proxy_on_delete", &[]),
        ]
    );

    envoy.forget();
    connect(&mut envoy, "8.8.8.8:40000", "10.1.0.10:5432");
    let mut calls = envoy.journal()[1].host_calls.clone();
    assert_eq!(calls[..2], read);
    calls.sort_unstable();
    assert_eq!(
        calls,
        [
            "proxy_close_stream",
            "proxy_get_property",
            "proxy_get_property",
            "proxy_increment_metric",
            "proxy_log",
            "proxy_set_property",
        ]
    );
}

#[test]
fn metrics_are_defined_once_in_a_vm() {
    let mut envoy = serving(&shop(), &["shop/db"]);
    for scene in [shop().audit("shop/db"), shop()] {
        envoy
            .load(Plugin::carrier(scene.snapshot(&["shop/db"])))
            .unwrap();
    }
    let journal = envoy.journal();
    let defined = journal.iter().filter(|callback| {
        callback.vm != "canary" && callback.host_calls.contains(&"proxy_define_metric")
    });
    assert_eq!(defined.count(), 0, "they were at the first configuration");
}
