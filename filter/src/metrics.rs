//! The counters and gauges of the filter. Envoy prefixes their names with `wasmcustom.`.
//!
//! Labels are part of the name, as `.label.value` pairs; `stats_tags` in Envoy's bootstrap turn
//! them into Prometheus labels. Ids belong to a VM: they are defined once and kept.

use proxy_wasm::types::MetricType;
use sidewall_policy::model::Direction;

use crate::host::{Host, MetricId};

/// What a decision counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The connection was let through.
    Allow,
    /// The connection was closed.
    Deny,
    /// The connection was let through although an audited policy would have denied it.
    Audit,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It came by configuration and is in force.
    Applied,
    /// It did not pass the check; the one before stays in force.
    Refused,
    /// It came back from shared data into a VM that was built anew.
    Restored,
}

/// One value for each side that can have decided.
#[derive(Debug)]
struct BySide<T> {
    ingress: T,
    egress: T,
    none: T,
}

impl<T> BySide<T> {
    fn new(mut each: impl FnMut(&'static str) -> T) -> Self {
        Self {
            ingress: each("ingress"),
            egress: each("egress"),
            none: each("none"),
        }
    }

    fn get(&self, direction: Option<Direction>) -> &T {
        match direction {
            Some(Direction::Ingress) => &self.ingress,
            Some(Direction::Egress) => &self.egress,
            None => &self.none,
        }
    }
}

#[derive(Debug)]
struct ByOutcome {
    allow: Option<MetricId>,
    deny: Option<MetricId>,
    audit: Option<MetricId>,
}

/// The metric ids of one VM.
#[derive(Debug)]
pub struct Metrics {
    connections: BySide<ByOutcome>,
    cut: BySide<Option<MetricId>>,
    applied: Option<MetricId>,
    refused: Option<MetricId>,
    restored: Option<MetricId>,
    timestamp: Option<MetricId>,
}

impl Metrics {
    /// Defines every metric, so that each is exported from the start, with zero.
    pub fn define(host: &impl Host) -> Self {
        let counter = |name: &str| host.define_metric(MetricType::Counter, name);
        let snapshots =
            |result: &str| counter(&format!("sidewall_snapshots_total.result.{result}"));
        Self {
            connections: BySide::new(|direction| {
                let connections = |verdict: &str| {
                    counter(&format!(
                        "sidewall_connections_total.direction.{direction}.verdict.{verdict}"
                    ))
                };
                ByOutcome {
                    allow: connections("allow"),
                    deny: connections("deny"),
                    audit: connections("audit"),
                }
            }),
            cut: BySide::new(|direction| {
                counter(&format!(
                    "sidewall_connections_cut_total.direction.{direction}"
                ))
            }),
            applied: snapshots("applied"),
            refused: snapshots("refused"),
            restored: snapshots("restored"),
            timestamp: host.define_metric(MetricType::Gauge, "sidewall_snapshot_timestamp_seconds"),
        }
    }

    /// Counts a new connection by the side that decided and the outcome.
    pub fn count_connection(
        &self,
        host: &impl Host,
        direction: Option<Direction>,
        outcome: Outcome,
    ) {
        let connections = self.connections.get(direction);
        increment(
            host,
            match outcome {
                Outcome::Allow => connections.allow,
                Outcome::Deny => connections.deny,
                Outcome::Audit => connections.audit,
            },
        );
    }

    /// Counts a live connection that a new snapshot closed, by the side that turned against it.
    pub fn count_cut(&self, host: &impl Host, direction: Option<Direction>) {
        increment(host, *self.cut.get(direction));
    }

    /// Counts a snapshot. Envoy configures a canary, the main thread and every worker, so one push
    /// counts workers + 2 times.
    pub fn count_snapshot(&self, host: &impl Host, receipt: Receipt) {
        increment(
            host,
            match receipt {
                Receipt::Applied => self.applied,
                Receipt::Refused => self.refused,
                Receipt::Restored => self.restored,
            },
        );
    }

    /// Sets when the snapshot in force was applied, in seconds since the epoch.
    pub fn set_timestamp(&self, host: &impl Host, seconds: u64) {
        if let Some(timestamp) = self.timestamp {
            host.record_metric(timestamp, seconds);
        }
    }
}

fn increment(host: &impl Host, metric: Option<MetricId>) {
    if let Some(metric) = metric {
        host.increment_metric(metric);
    }
}
