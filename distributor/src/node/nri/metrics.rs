//! What the agent counts of the runtime's calls.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Clones share the counters.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// `sidewall_node_runtime_pods`: pods with an address that the runtime has told.
    pub(super) pods: Gauge,
    /// `sidewall_node_pod_wait_seconds`: how long the start of a pod has waited for the table.
    pub(super) wait_seconds: Histogram,
    /// `sidewall_node_pod_wait_timeouts_total`: pods that started closed.
    pub(super) timeouts: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            pods: Gauge::default(),
            // 1 ms to 1 s.
            wait_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 11)),
            timeouts: Counter::default(),
        };
        registry.register(
            "runtime_pods",
            "Pods whose addresses the container runtime has told",
            metrics.pods.clone(),
        );
        registry.register_with_unit(
            "pod_wait",
            "How long the start of a pod waited for the table",
            Unit::Seconds,
            metrics.wait_seconds.clone(),
        );
        registry.register(
            "pod_wait_timeouts",
            "Pods that started closed because the table did not know them in time",
            metrics.timeouts.clone(),
        );
        metrics
    }
}
