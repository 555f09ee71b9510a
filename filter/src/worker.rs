//! The filter's state on one worker thread: the snapshot in force and the connections it admitted.
//!
//! Never holds a snapshot that did not pass `Snapshot::check`, and never admits without one.

use proxy_wasm::types::LogLevel;
use sidewall_policy::eval::{Decision, Verdict};
use sidewall_policy::record::{NO_ADDRESS, NO_SNAPSHOT, Record};
use sidewall_policy::snapshot::Snapshot;

use crate::address;
use crate::host::Host;
use crate::metrics::{Metrics, Outcome, Receipt};
use crate::role::Role;
use crate::streams::{Ends, Streams, TCP};

/// Where the bytes of the snapshot in force are kept for VMs that are built anew.
pub const SHARED_KEY: &str = "sidewall.snapshot";

/// The filter state that tells access logs the verdict and, after a space, the policies that decided:
/// `allow shop/db`, `deny shop/db,shop/default-deny`, or `allow` alone where no rule was needed. One
/// state and not two, because every connection pays for each.
pub const DECISION_STATE: &str = "sidewall_decision";

/// Everything that the roots and streams of one VM share.
#[derive(Debug, Default)]
pub struct Worker {
    snapshot: Option<Snapshot>,
    streams: Streams,
    metrics: Option<Metrics>,
    /// Kept for its allocation.
    summary: String,
}

impl Worker {
    /// Takes the plugin configuration, `length` bytes long, of a root context. `false` refuses it:
    /// Envoy then keeps the configuration it had.
    pub fn configure(&mut self, host: &impl Host, root: u32, length: usize) -> bool {
        let configuration = host.configuration(length).unwrap_or_default();
        match Role::of(&configuration) {
            Ok(Role::Carrier) => self.apply(host, root, configuration),
            Ok(Role::Gate) => {
                self.restore(host);
                true
            }
            Err(unknown) => {
                host.log(LogLevel::Error, &format!("sidewall: {unknown}"));
                false
            }
        }
    }

    /// Puts a snapshot in force, or refuses it and keeps the one before.
    fn apply(&mut self, host: &impl Host, root: u32, bytes: Vec<u8>) -> bool {
        let Some(snapshot) = self.check(host, bytes) else {
            return false;
        };
        // Only what passed the check: a canary runs this too, and shared data is for all threads.
        if !host.share(SHARED_KEY, snapshot.bytes()) {
            host.log(
                LogLevel::Error,
                "sidewall: shared data refused the snapshot; after a trap this worker stays closed \
                 until the next push",
            );
        }
        let cut = self.cut(host, root, &snapshot);
        host.log(
            LogLevel::Info,
            &format!(
                "sidewall: snapshot {} in force: {} subjects, {} live connections kept, {cut} cut",
                snapshot.revision(),
                snapshot.subjects().count(),
                self.streams.len(),
            ),
        );
        let metrics = self.metrics(host);
        metrics.count_snapshot(host, Receipt::Applied);
        metrics.set_timestamp(host, host.now());
        self.snapshot = Some(snapshot);
        true
    }

    /// Fetches the snapshot back into a VM that was built anew, for which Envoy runs the gates'
    /// configuration only. A gate without a snapshot is legal: it waits, closed.
    fn restore(&mut self, host: &impl Host) {
        self.metrics(host);
        if self.snapshot.is_some() {
            return;
        }
        let Some(bytes) = host.shared(SHARED_KEY) else {
            return;
        };
        if let Some(snapshot) = self.check(host, bytes) {
            host.log(
                LogLevel::Info,
                &format!("sidewall: snapshot {} restored", snapshot.revision()),
            );
            self.metrics(host).count_snapshot(host, Receipt::Restored);
            self.snapshot = Some(snapshot);
        }
    }

    /// The checked snapshot; `None`, counted and logged, if there is any doubt.
    fn check(&mut self, host: &impl Host, bytes: Vec<u8>) -> Option<Snapshot> {
        let length = bytes.len();
        match Snapshot::check(bytes) {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                host.log(
                    LogLevel::Error,
                    &format!(
                        "sidewall: snapshot of {length} bytes refused: {error}; what was in force \
                         before stays in force"
                    ),
                );
                self.metrics(host).count_snapshot(host, Receipt::Refused);
                None
            }
        }
    }

    /// Closes the live connections that `snapshot` denies; says how many.
    fn cut(&mut self, host: &impl Host, root: u32, snapshot: &Snapshot) -> usize {
        let denied = self
            .streams
            .take(|ends| snapshot.judge(&ends.flow()).verdict == Verdict::Deny);
        let mut cut: usize = 0;
        for (context, ends) in denied {
            if !host.enter(context) {
                continue;
            }
            let decision = snapshot.judge(&ends.flow());
            self.metrics(host).count_cut(host, decision.direction());
            report(host, &explained(snapshot, ends, &decision).cut());
            host.close_downstream();
            cut = cut.saturating_add(1);
        }
        host.enter(root);
        cut
    }

    /// Judges the new connection of the current stream. `false`: it is denied and being closed.
    pub fn admit(&mut self, host: &impl Host, context: u32) -> bool {
        let source = host.property(["source", "address"]);
        let destination = host.property(["destination", "address"]);
        let ends = ends(source.as_deref(), destination.as_deref());

        let (Some(snapshot), Some(ends)) = (&self.snapshot, ends) else {
            let revision = self.snapshot.as_ref().map(Snapshot::revision);
            let reason = if revision.is_none() {
                NO_SNAPSHOT
            } else {
                NO_ADDRESS
            };
            let source = source.as_deref().map(printed);
            let destination = destination.as_deref().map(printed);
            let record = Record::closed(source, destination, TCP, reason, revision);
            self.metrics(host)
                .count_connection(host, None, Outcome::Deny);
            report(host, &record);
            host.close_downstream();
            return false;
        };

        let decision = snapshot.judge(&ends.flow());
        let outcome = match decision.verdict {
            Verdict::Deny => Outcome::Deny,
            Verdict::Allow if decision.would_deny() => Outcome::Audit,
            Verdict::Allow => Outcome::Allow,
        };
        if outcome == Outcome::Allow {
            summarise_allow(&mut self.summary, snapshot, &decision);
            host.set_filter_state(DECISION_STATE, &self.summary);
        } else {
            report(host, &explained(snapshot, ends, &decision));
        }
        defined(&mut self.metrics, host).count_connection(host, decision.direction(), outcome);
        if outcome == Outcome::Deny {
            host.close_downstream();
            return false;
        }
        self.streams.insert(context, ends);
        true
    }

    /// Forgets a connection that ended.
    pub fn forget(&mut self, context: u32) {
        self.streams.remove(context);
    }

    fn metrics(&mut self, host: &impl Host) -> &Metrics {
        defined(&mut self.metrics, host)
    }
}

/// The metrics of this VM, defined at its first configuration.
fn defined<'a>(metrics: &'a mut Option<Metrics>, host: &impl Host) -> &'a Metrics {
    metrics.get_or_insert_with(|| Metrics::define(host))
}

fn ends(source: Option<&[u8]>, destination: Option<&[u8]>) -> Option<Ends> {
    Some(Ends {
        source: address::parse(source?)?,
        destination: address::parse(destination?)?,
    })
}

fn printed(property: &[u8]) -> String {
    String::from_utf8_lossy(property).into_owned()
}

fn explained(snapshot: &Snapshot, ends: Ends, decision: &Decision) -> Record {
    Record::new(
        ends.source.to_string(),
        ends.destination.to_string(),
        TCP,
        snapshot.explain(&ends.flow(), decision),
        snapshot.revision(),
    )
}

/// Words an allow as [`Record::summary`] words the rest, without a record or its cost.
fn summarise_allow(summary: &mut String, snapshot: &Snapshot, decision: &Decision) {
    summary.clear();
    summary.push_str("allow");
    let mut separator = " ";
    for (namespace, name) in snapshot.allowed_by(decision) {
        for part in [separator, namespace, "/", name] {
            summary.push_str(part);
        }
        separator = ",";
    }
}

/// Logs a record and gives the current stream's access log its summary.
fn report(host: &impl Host, record: &Record) {
    host.log(LogLevel::Warn, &record.line());
    host.set_filter_state(DECISION_STATE, &record.summary());
}

#[cfg(test)]
mod tests;
