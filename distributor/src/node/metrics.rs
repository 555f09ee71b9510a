//! What the agent counts, and the kernel's own counters as they are at a scrape.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use xxhash_rust::xxh3::xxh3_64;

use super::ruleset::{COUNTERS, Tallies};

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
    /// `sidewall_node_unredirected_pods`: pods that ask for redirection where no Envoy takes their connections.
    pub(super) unredirected: Gauge,
    /// `sidewall_node_firewall_chains`: chains of others that redirection bypasses, or that stop it.
    firewalls: Family<OfEffect, Gauge>,
    /// `sidewall_node_table_generation`: changes of the table since the agent started.
    pub(super) generation: Gauge,
}

/// How a chain of others and redirection get into each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Redirected TCP does not meet it.
    Bypassed,
    /// It drops redirected TCP.
    Blocks,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEffect {
    effect: &'static str,
}

impl Metrics {
    pub(super) fn set_firewalls(&self, effect: Effect, chains: usize) {
        let effect = match effect {
            Effect::Bypassed => "bypassed",
            Effect::Blocks => "blocks",
        };
        let gauge = self.firewalls.get_or_create(&OfEffect { effect });
        gauge.set(i64::try_from(chains).unwrap_or(i64::MAX));
    }

    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            // 1 ms to 8 s.
            apply_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            failures: Counter::default(),
            repairs: Counter::default(),
            cut: Counter::default(),
            scan_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            unredirected: Gauge::default(),
            firewalls: Family::default(),
            generation: Gauge::default(),
        };
        let Self {
            apply_seconds,
            failures,
            repairs,
            cut,
            scan_seconds,
            unredirected,
            firewalls,
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
            "unredirected_pods",
            "Pods that ask for redirection on a node without --proxy-port: the kernel decides alone",
            unredirected,
        );
        registry.register(
            "firewall_chains",
            "Chains of others that do not apply to redirected TCP (bypassed) or drop it (blocks)",
            firewalls,
        );
        registry.register(
            "table_generation",
            "Changes of the table since the agent started",
            generation,
        );
        metrics
    }
}

/// Which first packets a counter of single policies counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPolicies {
    direction: &'static str,
    verdict: &'static str,
    /// All that isolate the pods together, as `namespace/name`, comma-separated.
    policies: String,
}

/// The longest list of policies in a label, in bytes. What is longer ends with a hash.
const LONGEST_LABEL: usize = 512;

/// The kernel's counters, as metrics of one scrape.
pub(super) fn of_kernel(packets: &BTreeMap<String, u64>, tallies: &Tallies) -> Registry {
    let mut registry = Registry::with_prefix("sidewall_node");
    let count = |name: &str| packets.get(name).copied().unwrap_or_default();
    for (name, help) in COUNTERS {
        let counter: Counter = Counter::default();
        counter.inc_by(count(name));
        registry.register(format!("{name}_packets"), help, counter);
    }
    let of_policies = Family::<OfPolicies, Counter>::default();
    for (name, tally) in tallies {
        // One that a change took away while the kernel listed them has no count, not a count of 0.
        let Some(count) = packets.get(&**name) else {
            continue;
        };
        let labels = OfPolicies {
            direction: tally.direction.as_str(),
            verdict: tally.verdict.as_str(),
            policies: label(&tally.policies),
        };
        of_policies.get_or_create(&labels).inc_by(*count);
    }
    registry.register(
        "policy_packets",
        "First packets that a side with these policies allows, and packets that it denies or would deny",
        of_policies,
    );
    registry
}

/// The names, cut where the label gets too long, and still another one for other names.
fn label(policies: &[String]) -> String {
    let all = policies.join(",");
    if all.len() <= LONGEST_LABEL {
        return all;
    }
    let end = all.floor_char_boundary(LONGEST_LABEL);
    let kept = all.get(..end).unwrap_or_default();
    format!(
        "{kept}… ({} in all, {:016x})",
        policies.len(),
        xxh3_64(all.as_bytes())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_policies_stay_apart() {
        let list = |last: &str| {
            let names = (0..40).map(|number| format!("a-namespace/a-policy-with-a-name-{number}"));
            names.chain([last.to_owned()]).collect::<Vec<_>>()
        };
        let (one, other) = (label(&list("x/y")), label(&list("x/z")));
        assert_ne!(one, other);
        assert!(one.len() < LONGEST_LABEL + 64, "{one}");
        assert_eq!(label(&["a/b".to_owned(), "a/c".to_owned()]), "a/b,a/c");
    }
}
