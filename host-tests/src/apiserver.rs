//! An API server to test against: as much of Kubernetes' own as kube-rs and `kubectl` need.
//!
//! ```text
//!  HTTP ──▶ request ──▶ discovery                what there is
//!                  ├──▶ admission ──▶ store      objects, revisions, history
//!                  ├──▶ watch ◀──────────┘       events, bookmarks, 410 Gone
//!                  ├──▶ events                   events.k8s.io, kept as the core's
//!                  └──▶ tokens                   TokenReview
//! ```
//!
//! It keeps the objects in memory and speaks plain HTTP to whoever asks. Objects are decoded,
//! defaulted, checked, listed in pages and watched as the real one does; a Pod's status is written
//! through its own path alone, and a Pod on a node is gone when a kubelet says so
//! (`kubectl delete --force`). It does more than the real one in one thing: a namespace takes its
//! objects along, for no controller runs here. There is no access control, no server-side apply and no
//! dry run; who asks for those is refused.
//!
//! It fails on demand: it can be killed and started again, forget its history, answer with errors,
//! slowly, or break watches in the middle of an object.

mod admission;
mod answer;
mod discovery;
mod events;
mod faults;
mod kubectl;
mod patch;
mod request;
mod resource;
mod selector;
mod server;
mod store;
mod tokens;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::net::{self, Netns};
use faults::Faults;
pub use faults::Writes;
pub use kubectl::{Kubectl, KubectlError};
use resource::Resource;
use server::Server;
use store::{Key, Store};
pub use tokens::Token;
use tokens::Tokens;

/// Namespaces that every API server makes by itself.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Why an API server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network namespace that it was to be in.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// Its socket or its thread.
    #[error("the API server stand-in on {address}: {step}: {source}")]
    Server {
        /// Where.
        address: SocketAddr,
        /// What was attempted, such as `listening`.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// An object that it refuses.
    #[error("{object}: {message}")]
    Refused {
        /// Which object.
        object: String,
        /// Why, in the server's words.
        message: String,
    },
}

/// An API server. Dropping it ends it.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    server: Mutex<Server>,
    address: SocketAddr,
}

/// What all connections, and all lives of a server, have in common.
#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    /// The store's revision, for those who wait for the next one.
    changed: tokio::sync::watch::Sender<u64>,
    tokens: Mutex<Tokens>,
    faults: Faults,
}

impl ApiServer {
    /// Starts one with the namespaces of an empty cluster, on a free port of the loopback address.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start() -> Result<Self, Error> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), None)
    }

    /// The same at an address of a network namespace.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn start_at(address: SocketAddr, netns: Option<Netns>) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            changed: tokio::sync::watch::Sender::new(0),
            tokens: Mutex::default(),
            faults: Faults::default(),
        });
        let (server, address) = Server::reserve(address, netns)?;
        let this = Self {
            shared,
            server: Mutex::new(server),
            address,
        };
        for name in BUILT_IN {
            this.put(
                &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
            )?;
        }
        this.restart()?;
        Ok(this)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients are told.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "stand-in", "cluster": { "server": self.url() } }],
            "users": [{ "name": "anybody", "user": {} }],
            "contexts": [{ "name": "stand-in", "context": { "cluster": "stand-in", "user": "anybody" } }],
            "current-context": "stand-in",
        });
        format!("{config:#}\n")
    }

    /// Ends it at once: connections break off, new ones are refused. Its objects are kept.
    pub fn kill(&self) {
        self.server().stop();
    }

    /// Starts it again where it was, if it does not run.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn restart(&self) -> Result<(), Error> {
        self.server().start(&self.shared)
    }

    /// Forgets how the objects came to be what they are: watches that have not seen the present state
    /// must list anew (410 Gone).
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    /// Begins to count revisions anew, as after a backup was put back: what clients have seen is ahead.
    pub fn rewind(&self) {
        self.shared.store().rewind();
    }

    /// Whether a watch of forgotten history is refused with the status 410, instead of being told by an
    /// event.
    pub fn refuse_expired_watches(&self, by_status: bool) {
        self.shared.faults.set_gone_by_status(by_status);
    }

    /// Answers every request with this status from now on, and with what `Retry-After` says, in seconds.
    ///
    /// # Errors
    /// When it is not a status of an error.
    pub fn fail(&self, status: u16, retry_after: Option<u32>) -> Result<(), Error> {
        let code = StatusCode::from_u16(status).ok();
        let code = code.filter(|code| code.is_client_error() || code.is_server_error());
        let code = code.ok_or_else(|| Error::Refused {
            object: format!("status {status}"),
            message: "is not one of an error".to_owned(),
        })?;
        self.shared.faults.fail(Some((code, retry_after)));
        Ok(())
    }

    /// Refuses everything about a resource, such as `pods`, from now on (403).
    pub fn forbid(&self, resource: &str) {
        self.shared.faults.forbid(Some(resource));
    }

    /// What becomes of requests that would change something, from now on.
    pub fn set_writes(&self, writes: Writes) {
        self.shared.faults.set_writes(writes);
    }

    /// Answers as it should again, and at once.
    pub fn recover(&self) {
        self.shared.faults.set_writes(Writes::Done);
        self.shared.faults.fail(None);
        self.shared.faults.forbid(None);
        self.shared.faults.set_delay(Duration::ZERO);
        self.shared.faults.set_hasty(false);
        self.shared.faults.cut(0);
    }

    /// Ends every watch as soon as it has said what there is to say.
    pub fn end_watches_at_once(&self) {
        self.shared.faults.set_hasty(true);
    }

    /// Takes this long for every answer from now on.
    pub fn delay(&self, delay: Duration) {
        self.shared.faults.set_delay(delay);
    }

    /// Sends only the first half of each of the next `events` of watches, and breaks their connections.
    pub fn cut_watches(&self, events: u32) {
        self.shared.faults.cut(events);
    }

    /// How many answers have been given or begun so far.
    pub fn requests(&self) -> u64 {
        self.shared.faults.requests()
    }

    /// Makes a token known.
    pub fn add_token(&self, token: impl Into<String>, meaning: Token) {
        self.shared.tokens().insert(token.into(), meaning);
    }

    /// Forgets a token.
    pub fn remove_token(&self, token: &str) {
        self.shared.tokens().remove(token);
    }

    /// Creates an object, or replaces it, with its status: as all controllers, kubelets and users together
    /// would.
    ///
    /// # Errors
    /// When the server would refuse it.
    pub fn put(&self, object: &Value) -> Result<(), Error> {
        request::put(&self.shared, object).map_err(|message| Error::Refused {
            object: describe(object),
            message,
        })
    }

    /// Writes the status of an object that is there, as its kubelet or controller would.
    ///
    /// # Errors
    /// When there is no such object, or it has no status.
    pub fn put_status(&self, object: &Value) -> Result<(), Error> {
        request::put_status(&self.shared, object).map_err(|message| Error::Refused {
            object: describe(object),
            message,
        })
    }

    /// Stores an object as it is: one that an older server let in, or a newer one has more fields for.
    ///
    /// # Errors
    /// When it is of a kind that is not served, or has no name.
    pub fn put_unchecked(&self, object: &Value) -> Result<(), Error> {
        request::put_unchecked(&self.shared, object).map_err(|message| Error::Refused {
            object: describe(object),
            message,
        })
    }

    /// Removes an object, of whatever kind, at once.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove(&self, api_version: &str, kind: &str, id: &str) -> Result<(), Error> {
        request::remove(&self.shared, api_version, kind, id).map_err(|message| Error::Refused {
            object: format!("{kind} {id}"),
            message,
        })
    }

    /// Every object as it is now.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let store = self.shared.store();
        store.objects().map(|object| Value::clone(object)).collect()
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        // A change is whole, or has not happened, wherever a holder panicked.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes watches.
    fn announce(&self, store: &Store) {
        self.changed.send_replace(store.revision());
    }
}

fn describe(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("(none)").to_owned();
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!(
            "{} {namespace}/{}",
            text(&object["kind"]),
            text(&metadata["name"])
        ),
        None => format!("{} {}", text(&object["kind"]), text(&metadata["name"])),
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
