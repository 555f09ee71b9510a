//! As much of Kubernetes' API server as kube-rs and `kubectl` need, with its objects in memory.
//!
//! ```text
//!  request ──▶ discovery                what there is
//!         ├──▶ admission ──▶ store      objects, revisions, history
//!         ├──▶ watch ◀──────────┘       events, bookmarks, 410 Gone
//!         ├──▶ events                   events.k8s.io, kept as the core's
//!         └──▶ tokens                   TokenReview
//! ```
//!
//! Objects are decoded, defaulted, checked, listed in pages and watched as the real one does; a Pod's
//! status is written through its own path alone, and a Pod on a node is gone when a kubelet says so
//! (`kubectl delete --force`). It does more than the real one in one thing: a namespace takes its
//! objects along, for no controller runs here. There is no access control, no server-side apply and no
//! dry run; who asks for those is refused.

mod admission;
mod discovery;
mod events;
pub(super) mod objects;
mod patch;
pub(super) mod request;
mod selector;
mod store;
mod tokens;
mod watch;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::faults::Faults;
use super::resource::Resource;
use super::tokens::{Signer, SigningError, Token};
use store::{Key, Store};
use tokens::Tokens;

/// What all connections, and all lives of a server, have in common.
#[derive(Debug)]
pub(super) struct StandIn {
    store: Mutex<Store>,
    /// The store's revision, for those who wait for the next one.
    changed: tokio::sync::watch::Sender<u64>,
    tokens: Mutex<Tokens>,
    faults: Arc<Faults>,
}

impl StandIn {
    pub(super) fn new(faults: Arc<Faults>) -> Self {
        Self {
            store: Mutex::default(),
            changed: tokio::sync::watch::Sender::new(0),
            tokens: Mutex::default(),
            faults,
        }
    }

    pub(super) fn compact(&self) {
        self.store().compact();
    }

    pub(super) fn rewind(&self) {
        self.store().rewind();
    }

    pub(super) fn objects(&self) -> Vec<Value> {
        let store = self.store();
        store.objects().map(|object| Value::clone(object)).collect()
    }

    /// A token that means this from now on.
    pub(super) fn issue(&self, meaning: Token) -> Result<String, SigningError> {
        // What it says of itself is read by clients; who believes it asks for a review.
        let token = Signer::new()?.sign(&meaning, "")?;
        self.tokens().insert(token.clone(), meaning);
        Ok(token)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A change is whole, or has not happened, wherever a holder panicked.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes watches.
    fn announce(&self, store: &Store) {
        self.changed.send_replace(store.revision());
    }
}

/// Where a namespace is.
fn namespace(name: &str) -> Key {
    Key {
        resource: Resource::namespaces(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}
