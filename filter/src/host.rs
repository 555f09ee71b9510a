//! What the filter asks of Envoy. The only module with host calls.
//!
//! [`Host`] is the seam: the filter is written against it, [`Envoy`] implements it. A host call
//! that fails never fails the filter: it answers "nothing", and the caller stays closed. (The
//! calls that the SDK's own traits offer unwrap such errors, and a trap kills the whole VM.)

use std::time::UNIX_EPOCH;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, Bytes, LogLevel, MetricType};

/// The id of a metric in this VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricId(u32);

/// The host of a proxy-wasm module.
pub trait Host {
    /// The plugin configuration of the current root context, `length` bytes long.
    fn configuration(&self, length: usize) -> Option<Bytes>;

    /// A property of the current stream, such as `["source", "address"]`.
    fn property(&self, path: [&str; 2]) -> Option<Bytes>;

    /// Sets filter state of the current stream; access logs see it as `wasm.NAME`.
    fn set_filter_state(&self, name: &str, value: &str);

    /// Closes the current stream once the running callback has returned.
    fn close_downstream(&self);

    /// Makes another context of this VM the current one; `false` if it is gone.
    fn enter(&self, context: u32) -> bool;

    /// Bytes that outlive this VM.
    fn shared(&self, key: &str) -> Option<Bytes>;

    /// Keeps bytes beyond this VM; `false` if the host refused.
    fn share(&self, key: &str, value: &[u8]) -> bool;

    /// Defines a metric or finds the one of that name.
    fn define_metric(&self, kind: MetricType, name: &str) -> Option<MetricId>;

    /// Adds one to a counter.
    fn increment_metric(&self, metric: MetricId);

    /// Sets a gauge.
    fn record_metric(&self, metric: MetricId, value: u64);

    /// The time in seconds since the epoch.
    fn now(&self) -> u64;

    /// Writes a line to Envoy's log.
    fn log(&self, level: LogLevel, message: &str);
}

/// Envoy, by the proxy-wasm ABI.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envoy;

impl Host for Envoy {
    fn configuration(&self, length: usize) -> Option<Bytes> {
        hostcalls::get_buffer(BufferType::PluginConfiguration, 0, length)
            .ok()
            .flatten()
    }

    fn property(&self, path: [&str; 2]) -> Option<Bytes> {
        hostcalls::get_property(path.to_vec()).ok().flatten()
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        // Only access logs read it: no reason to fail a verdict.
        let _ = hostcalls::set_property(vec![name], Some(value.as_bytes()));
    }

    fn close_downstream(&self) {
        // The one error there is, a stream that is gone, leaves nothing to close.
        let _ = hostcalls::close_downstream();
    }

    fn enter(&self, context: u32) -> bool {
        hostcalls::set_effective_context(context).is_ok()
    }

    fn shared(&self, key: &str) -> Option<Bytes> {
        hostcalls::get_shared_data(key).ok()?.0
    }

    fn share(&self, key: &str, value: &[u8]) -> bool {
        hostcalls::set_shared_data(key, Some(value), None).is_ok()
    }

    fn define_metric(&self, kind: MetricType, name: &str) -> Option<MetricId> {
        hostcalls::define_metric(kind, name).ok().map(MetricId)
    }

    fn increment_metric(&self, metric: MetricId) {
        // An id that this VM defined is always known.
        let _ = hostcalls::increment_metric(metric.0, 1);
    }

    fn record_metric(&self, metric: MetricId, value: u64) {
        // As above.
        let _ = hostcalls::record_metric(metric.0, value);
    }

    fn now(&self) -> u64 {
        hostcalls::get_current_time()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_secs())
    }

    fn log(&self, level: LogLevel, message: &str) {
        // Nothing could be said about a log that does not work.
        let _ = hostcalls::log(level, message);
    }
}
