//! `/metrics`: the counters of the process, and gauges that are read off the state at each scrape.

mod pods;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::status::{Delivery, DeliveryState, Status};
use crate::metrics::{PREFIX, encode};

type Labelled = Family<[(&'static str, String); 1], Gauge>;
type Ages = Family<[(&'static str, &'static str); 1], Gauge<f64, AtomicU64>>;

/// One scrape; with series of single pods if wanted.
pub(super) fn text(
    counters: &Registry,
    status: &Status,
    with_pods: bool,
    now: SystemTime,
) -> Result<String, fmt::Error> {
    let mut gauges = gauges(status, now);
    if with_pods {
        pods::register(&mut gauges, &status.pods);
    }
    encode(&[counters, &gauges])
}

/// How long the one has been behind that has been so for longest, in seconds.
fn longest_behind(deliveries: &[&Delivery], now: SystemTime) -> f64 {
    let since = deliveries.iter().filter_map(|each| each.behind_since).min();
    let behind = since.and_then(|since| now.duration_since(since).ok());
    behind.unwrap_or_default().as_secs_f64()
}

fn by_state(deliveries: &[&Delivery]) -> Labelled {
    let gauges = Labelled::default();
    for state in DeliveryState::ALL {
        let here = deliveries.iter().filter(|each| each.state == state);
        gauge(&gauges, "state", state.as_str(), here.count());
    }
    gauges
}

/// A registry of its own for each scrape, so that a kind of problem that was mended disappears.
fn gauges(status: &Status, now: SystemTime) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    let synced = Gauge::<i64>::default();
    synced.set(status.synced.into());
    registry.register(
        "synced",
        "Whether every source has been read completely",
        synced,
    );

    let pods: Vec<&Delivery> = status.pods.iter().map(|pod| &pod.delivery).collect();
    let nodes: Vec<&Delivery> = status.nodes.iter().map(|node| &node.delivery).collect();
    registry.register(
        "pods",
        "Pods by how far their snapshot has come, as in /status",
        by_state(&pods),
    );
    registry.register(
        "nodes",
        "Nodes by how far their snapshot has come, as in /status",
        by_state(&nodes),
    );

    let behind = Ages::default();
    for (kind, deliveries) in [("pod", &pods), ("node", &nodes)] {
        let age = longest_behind(deliveries, now);
        behind.get_or_create(&[("kind", kind)]).set(age);
    }
    registry.register_with_unit(
        "longest_behind",
        "For how long somebody connected has been without the snapshot that they should run, at most",
        Unit::Seconds,
        behind,
    );

    let wanted = pods.iter().chain(&nodes);
    let wanted = wanted.filter_map(|delivery| delivery.wanted.as_ref());
    let (mut snapshots, mut bytes) = (0, 0);
    for wanted in wanted {
        snapshots += 1;
        bytes += wanted.bytes;
    }
    let published = Gauge::<i64>::default();
    published.set(as_value(snapshots));
    registry.register(
        "snapshots",
        "Pods and nodes that have a snapshot",
        published,
    );
    let size = Gauge::<i64>::default();
    size.set(as_value(bytes));
    registry.register(
        "snapshots_bytes",
        "Size of the snapshots of all pods and nodes together",
        size,
    );

    let problems = Labelled::default();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for problem in &status.problems {
        *kinds.entry(kind(&problem.object)).or_default() += 1;
    }
    for (name, count) in kinds {
        gauge(&problems, "kind", name, count);
    }
    registry.register(
        "problems",
        "Objects, or parts of them, that were refused; see /status",
        problems,
    );
    registry
}

fn gauge(family: &Labelled, label: &'static str, value: &str, count: usize) {
    family
        .get_or_create(&[(label, value.to_owned())])
        .set(as_value(count));
}

fn as_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `NetworkPolicy` of `NetworkPolicy default/db`; whatever is not named so is a file.
fn kind(object: &str) -> &str {
    match object.split_once(' ') {
        Some((kind, _)) if kind.bytes().all(|byte| byte.is_ascii_alphabetic()) => kind,
        _ => "file",
    }
}
