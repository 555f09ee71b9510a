//! The yardstick of benches: a network filter on the same SDK that lets every connection pass.
//!
//! What it costs Envoy is the price of having a wasm filter at all; what Sidewall costs on top is
//! its own. It must never do anything.

use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::ContextType;

mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(super::Root));
    }}
}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_stream_context(&self, _context: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

struct Stream;

impl Context for Stream {}

impl StreamContext for Stream {}
