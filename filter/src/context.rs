//! The callbacks that Envoy makes, handed to the [`Worker`] of the VM.

use std::cell::RefCell;

use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, PeerType};

use crate::host::Envoy;
use crate::worker::Worker;

thread_local! {
    /// Outlives root contexts: a push makes a new root in the same VM, and streams that were
    /// created under the old one must see the new snapshot at once.
    static WORKER: RefCell<Worker> = RefCell::new(Worker::default());
}

/// Runs `work` with the worker. `None` if the worker is at work already: Envoy defers what a
/// callback asks for, so it does not call back into a running callback; were it to, the answer
/// must be closed rather than a panic.
fn with_worker<T>(work: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    WORKER.with(|worker| {
        worker
            .try_borrow_mut()
            .ok()
            .map(|mut worker| work(&mut worker))
    })
}

/// A root context: a carrier or a gate.
#[derive(Debug)]
pub struct Root {
    context: u32,
}

impl Root {
    /// The root context of this id.
    pub fn new(context: u32) -> Self {
        Self { context }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, length: usize) -> bool {
        with_worker(|worker| worker.configure(&Envoy, self.context, length)).unwrap_or(false)
    }

    fn create_stream_context(&self, context: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Stream { context }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

/// One downstream connection.
#[derive(Debug)]
pub struct Stream {
    context: u32,
}

impl Context for Stream {}

impl StreamContext for Stream {
    fn on_new_connection(&mut self) -> Action {
        match with_worker(|worker| worker.admit(&Envoy, self.context)) {
            Some(true) => Action::Continue,
            Some(false) | None => Action::Pause,
        }
    }

    /// A closing connection must not be cut any more: its stream may be gone when Envoy acts on it.
    fn on_downstream_close(&mut self, _peer: PeerType) {
        with_worker(|worker| worker.forget(self.context));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        with_worker(|worker| worker.forget(self.context));
    }
}
