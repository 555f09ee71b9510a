//! The NetworkPolicy engine of Sidewall.
//!
//! ```text
//!  spec ──admit──▶ model ──compile──▶ snapshot (bytes) ──check──▶ Snapshot ──judge──▶ Decision
//!                    │                                                                   ▲
//!                    └───────────────────── reference (slow, obvious) ──────────────────┘
//!                                                            verify: are both equal?
//! ```
//!
//! Pure: no I/O, no clock, no async, no Kubernetes client types. The same crate runs inside the
//! proxy-wasm filter, where a panic would be an outage, so [`snapshot`] and [`eval`] have no
//! panicking path: malformed bytes are refused once, by [`snapshot::Snapshot::check`], and
//! evaluation after that can neither fail nor allocate.
//!
//! Rows such as `semantics D2` in comments are those of docs/semantics.md.

pub mod admit;
pub mod compile;
pub mod eval;
pub mod model;
pub mod record;
pub mod reference;
pub mod snapshot;
pub mod spec;
pub mod verify;
