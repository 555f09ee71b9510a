//! What all VMs of a process share.

use std::collections::BTreeMap;
use std::time::Duration;

/// The severity of a log line, as proxy-wasm numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 0
    Trace,
    /// 1
    Debug,
    /// 2
    Info,
    /// 3
    Warn,
    /// 4
    Error,
    /// 5
    Critical,
}

impl Level {
    pub(super) fn from_abi(level: i32) -> Option<Self> {
        Some(match level {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

/// A line that the filter logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The VM it came from: `canary`, `main` or `worker N`.
    pub vm: String,
    /// How severe.
    pub level: Level,
    /// The text.
    pub message: String,
}

/// A callback that a VM ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The VM: `canary`, `main` or `worker N`.
    pub vm: String,
    /// The export.
    pub name: &'static str,
    /// The host calls it made, in order.
    pub host_calls: Vec<&'static str>,
}

/// What the runs of one callback took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often it ran.
    pub runs: u64,
    /// The instructions it executed, as wasmtime counts its fuel: the same on every machine.
    pub instructions: u64,
    /// The time, host calls included.
    pub time: Duration,
}

/// The kind of a metric, as proxy-wasm numbers them; the filter has no histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Metric {
    pub(super) kind: MetricKind,
    pub(super) value: u64,
}

/// A value of shared data and the number of times it was written.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) value: Vec<u8>,
    pub(super) cas: u32,
}

/// State that outlives VMs.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) shared: BTreeMap<Vec<u8>, Shared>,
    pub(super) metrics: BTreeMap<String, Metric>,
    pub(super) logs: Vec<Log>,
    pub(super) journal: Vec<Callback>,
    pub(super) spent: BTreeMap<&'static str, Spent>,
    pub(super) now_nanoseconds: u64,
}
