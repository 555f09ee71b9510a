//! The proxy-wasm filter of Sidewall: a thin adapter between Envoy and [`sidewall_policy::eval`].
//!
//! ```text
//!  carrier  on_configure(snapshot) ──check──▶ Worker ◀──judge── on_new_connection  gate, gate, gate…
//!           (one a process)                     │ cut live streams               (one a chain)
//!                                               └──▶ shared data ──▶ a VM that is built anew
//! ```
//!
//! One module, loaded twice into one VM. Its plugin configuration says which [`role`] a root has:
//! a *carrier* receives snapshots, a *gate* stands in front of every chain that carries traffic.
//! Everything both need lives in a [`worker::Worker`], one for each VM and so for each thread.
//!
//! What it never does: decide without a checked snapshot (it is closed before the first one), look
//! at payload, talk to the network, or panic. A trap kills a VM with all its connections, hence the
//! lints below; what is left can only run out of memory.
//!
//! [`host`] is the one module that calls Envoy; the others are pure and run natively in tests.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

pub mod address;
pub mod context;
pub mod host;
pub mod metrics;
pub mod role;
pub mod streams;
pub mod worker;

/// The module's start function, in a module of its own because the SDK's macro documents nothing.
mod entry {
    use crate::context::Root;

    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|context| Box::new(Root::new(context)));
    }}
}
