//! What the agent counts, and the kernel's own counters as they are at a scrape.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::ruleset::COUNTERS;

/// What the agent counts. Clones share the counters.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    /// `sidewall_node_apply_seconds`: from a snapshot to the last transaction.
    pub(super) apply_seconds: Histogram,
    /// `sidewall_node_apply_failures_total`: transactions that the kernel refused.
    pub(super) failures: Counter,
    /// `sidewall_node_repairs_total`: times that somebody else had changed the table.
    pub(super) repairs: Counter,
    /// `sidewall_node_connections_cut_total`: live connections that a change denied.
    pub(super) cut: Counter,
    /// `sidewall_node_scan_seconds`: how long it takes to judge the kernel's connections again.
    pub(super) scan_seconds: Histogram,
    /// `sidewall_node_table_generation`: changes of the table since the agent started.
    pub(super) generation: Gauge,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            // 1 ms to 8 s.
            apply_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            failures: Counter::default(),
            repairs: Counter::default(),
            cut: Counter::default(),
            scan_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            generation: Gauge::default(),
        };
        let Self {
            apply_seconds,
            failures,
            repairs,
            cut,
            scan_seconds,
            generation,
        } = metrics.clone();
        registry.register_with_unit(
            "apply",
            "From a snapshot to the last transaction",
            Unit::Seconds,
            apply_seconds,
        );
        registry.register(
            "apply_failures",
            "Changes of the table that the kernel refused",
            failures,
        );
        registry.register(
            "repairs",
            "Times that somebody else had changed the table",
            repairs,
        );
        registry.register(
            "connections_cut",
            "Live connections that a change denied",
            cut,
        );
        registry.register_with_unit(
            "scan",
            "How long it takes to judge the kernel's connections again, three times after a change",
            Unit::Seconds,
            scan_seconds,
        );
        registry.register(
            "table_generation",
            "Changes of the table since the agent started",
            generation,
        );
        metrics
    }
}

/// The kernel's counters, as metrics of one scrape.
pub(super) fn of_kernel(packets: &BTreeMap<String, u64>) -> Registry {
    let mut registry = Registry::with_prefix("sidewall_node");
    for (name, help) in COUNTERS {
        let counter: Counter = Counter::default();
        counter.inc_by(packets.get(name).copied().unwrap_or_default());
        registry.register(format!("{name}_packets"), help, counter);
    }
    registry
}
