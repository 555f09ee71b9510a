//! Series of single pods: three for each pod that is connected to this replica, none for others.
//!
//! A revision is never a label: each change of a policy would begin new series for every pod that it
//! touches. `/status` tells revisions; what somebody is to be woken for is that they differ, and since when.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::admin::status::{DeliveryState, PodStatus};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    namespace: String,
    pod: String,
}

type Timestamps = Family<Labels, Gauge<f64, AtomicU64>>;

/// Adds them to a scrape.
pub(super) fn register(registry: &mut Registry, pods: &[PodStatus]) {
    let applied = Family::<Labels, Gauge>::default();
    let (wanted, acknowledged) = (Timestamps::default(), Timestamps::default());
    for PodStatus { pod, delivery } in pods.iter().filter(|pod| pod.delivery.streams > 0) {
        let labels = Labels {
            namespace: pod.namespace.to_string(),
            pod: pod.name.to_string(),
        };
        let is_applied = delivery.state == DeliveryState::Applied;
        applied.get_or_create(&labels).set(is_applied.into());
        if let Some(since) = delivery.wanted.as_ref().map(|wanted| wanted.since) {
            wanted.get_or_create(&labels).set(seconds(since));
        }
        if let Some(at) = delivery.applied.as_ref().map(|applied| applied.at) {
            acknowledged.get_or_create(&labels).set(seconds(at));
        }
    }
    registry.register(
        "pod_applied",
        "Whether a connected pod has acknowledged the snapshot that it should run",
        applied,
    );
    registry.register_with_unit(
        "pod_wanted_timestamp",
        "Since when a connected pod should run the snapshot that it should run now",
        Unit::Seconds,
        wanted,
    );
    registry.register_with_unit(
        "pod_acknowledged_timestamp",
        "When a connected pod last acknowledged a snapshot, or came back with the wanted one in force",
        Unit::Seconds,
        acknowledged,
    );
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}
