//! What is counted of the kernel's log.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Prefix;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    direction: &'static str,
}

/// Counters of the kernel's log. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    records: Family<Labels, Counter>,
    lost: Counter,
    unreadable: Counter,
}

impl Metrics {
    /// Makes the counters and registers them as `drop_records` (by `direction`), `drop_records_lost`
    /// and `drop_records_unreadable`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for prefix in Prefix::ALL {
            // There from the start, with zero.
            drop(metrics.records.get_or_create(&labels(Some(prefix))));
        }
        registry.register(
            "drop_records",
            "Packets that the kernel dropped, or passed against audited policies, and logged, by side",
            metrics.records.clone(),
        );
        registry.register(
            "drop_records_lost",
            "Logged packets that never arrived because the agent was too slow",
            metrics.lost.clone(),
        );
        registry.register(
            "drop_records_unreadable",
            "Logged packets that are no IP packets",
            metrics.unreadable.clone(),
        );
        metrics
    }

    /// Counts a record.
    pub(super) fn count_record(&self, prefix: Option<Prefix>) {
        self.records.get_or_create(&labels(prefix)).inc();
    }

    /// Counts packets of which only the numbers are known.
    pub(super) fn count_lost(&self, packets: u32) {
        self.lost.inc_by(packets.into());
    }

    /// Counts a packet that could not be read.
    pub(super) fn count_unreadable(&self) {
        self.unreadable.inc();
    }
}

fn labels(prefix: Option<Prefix>) -> Labels {
    let direction = prefix.map_or("other", Prefix::label);
    Labels { direction }
}
