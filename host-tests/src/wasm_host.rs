//! A proxy-wasm 0.2.1 host that runs the built filter on wasmtime, as Envoy would.
//!
//! ```text
//!  Process ── shared data, metrics, clock, logs                      (one Envoy)
//!     ├─ canary Vm, made for every accepted or refused configuration and thrown away
//!     ├─ main thread ── Vm
//!     └─ worker threads ── Vm ── roots (carrier, gate) ── streams
//! ```
//!
//! It is state-based: a test says what the world is like (addresses, clock, configuration, faults)
//! and reads back what the filter made of it (logs, metrics, closed streams, filter state, shared
//! data, host calls). No call is predicted, so a new log line breaks no test.
//!
//! It follows Envoy in the order of callbacks, in when closes take effect (after the callback that
//! asked for them) and in what outlives a VM. It is strict where Envoy is lenient: what the filter
//! never calls traps by name, and an import outside the ABI stops the module from loading.

mod data;
mod error;
mod imports;
mod memory;
mod module;
mod process;
pub mod scene;
mod vm;
mod world;

pub use data::{Connection, Fault, Stream, StreamState};
pub use error::{LoadError, Stage, Trap};
pub use module::{ModuleError, module_path};
pub use process::{Plugin, Process, StreamId};
pub use world::{Callback, Level, Log, Spent};
