//! What is counted as it happens. What merely *is* (pods, problems, sync state) is read from its
//! owner at each scrape instead, by [`crate::admin`].

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The first part of every metric's name.
pub const PREFIX: &str = "sidewall";

/// The content type of what [`encode`] gives.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Registries as OpenMetrics text.
pub(crate) fn encode(registries: &[&Registry]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for registry in registries {
        encode_registry(&mut text, registry)?;
    }
    encode_eof(&mut text)?;
    Ok(text)
}

/// What the xDS server counts. Clones share the counters.
#[derive(Clone, Debug)]
pub struct XdsMetrics {
    /// `sidewall_xds_streams`: identified clients connected now.
    pub streams: Gauge,
    /// `sidewall_xds_pushes_total`: snapshots sent.
    pub pushes: Counter,
    /// `sidewall_xds_sent_bytes_total`: what they weighed, wrapping included.
    pub bytes: Counter,
    /// `sidewall_xds_acks_total`: snapshots that a client accepted.
    pub acks: Counter,
    /// `sidewall_xds_nacks_total`: snapshots that a client refused, each attempt counted.
    pub nacks: Counter,
    /// `sidewall_xds_withheld_total`: snapshots that did not pass the check before sending.
    pub withheld: Counter,
    /// `sidewall_xds_refusals_total`: clients turned away, each attempt counted.
    pub refusals: Family<RefusalReason, Counter>,
    /// `sidewall_xds_ack_seconds`: from sending a snapshot to its ACK.
    pub ack_seconds: Histogram,
}

/// Why a client was turned away: one of the words in SECURITY.md.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalReason {
    /// The word.
    pub reason: &'static str,
}

/// What is written to the API server. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct KubeMetrics {
    writes: Family<WriteLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    what: &'static str,
    result: &'static str,
}

/// Something that is written to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The condition that opens a pod's readiness gate.
    ReadinessGate,
    /// An event on a NetworkPolicy.
    Event,
}

impl KubeMetrics {
    /// Counts an attempt in `sidewall_kube_writes_total`.
    pub fn count(&self, what: Written, succeeded: bool) {
        let labels = WriteLabels {
            what: match what {
                Written::ReadinessGate => "readiness-gate",
                Written::Event => "event",
            },
            result: if succeeded { "written" } else { "failed" },
        };
        self.writes.get_or_create(&labels).inc();
    }
}

/// Everything that is counted, and where it is read.
#[derive(Debug)]
pub struct Metrics {
    /// With all of the below, and the build.
    pub registry: Registry,
    /// Of the xDS server.
    pub xds: XdsMetrics,
    /// Of what is written to the API server.
    pub kube: KubeMetrics,
}

/// The counters of a process that begins.
pub fn registry() -> Metrics {
    let mut registry = Registry::with_prefix(PREFIX);
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version that is running", build);
    let xds = XdsMetrics::register(registry.sub_registry_with_prefix("xds"));
    let kube = KubeMetrics::default();
    registry.register(
        "kube_writes",
        "Attempts to write to the API server, by what and by what came of it",
        kube.writes.clone(),
    );
    Metrics {
        registry,
        xds,
        kube,
    }
}

impl XdsMetrics {
    fn register(registry: &mut Registry) -> Self {
        let Self {
            streams,
            pushes,
            bytes,
            acks,
            nacks,
            withheld,
            refusals,
            ack_seconds,
        } = Self::default();
        registry.register("streams", "Sidecars connected now", streams.clone());
        registry.register("pushes", "Snapshots sent to sidecars", pushes.clone());
        registry.register_with_unit(
            "sent",
            "Size of the snapshots sent",
            Unit::Bytes,
            bytes.clone(),
        );
        registry.register("acks", "Snapshots accepted by a client", acks.clone());
        registry.register(
            "nacks",
            "Snapshots refused by a client, each attempt counted",
            nacks.clone(),
        );
        registry.register(
            "withheld",
            "Snapshots that failed the check before sending",
            withheld.clone(),
        );
        registry.register(
            "refusals",
            "Clients turned away, each attempt counted",
            refusals.clone(),
        );
        registry.register_with_unit(
            "ack",
            "From sending a snapshot to its ACK",
            Unit::Seconds,
            ack_seconds.clone(),
        );
        Self {
            streams,
            pushes,
            bytes,
            acks,
            nacks,
            withheld,
            refusals,
            ack_seconds,
        }
    }
}

impl Default for XdsMetrics {
    fn default() -> Self {
        Self {
            streams: Gauge::default(),
            pushes: Counter::default(),
            bytes: Counter::default(),
            acks: Counter::default(),
            nacks: Counter::default(),
            withheld: Counter::default(),
            refusals: Family::default(),
            // 1 ms to 8 s: a small snapshot takes about 6 ms, one of 100 MB some seconds.
            ack_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
        }
    }
}
