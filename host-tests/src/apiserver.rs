//! An API server to test against, which fails on demand: it can be killed and started again, forget its
//! history, answer with errors, slowly, or break watches in the middle of an object.
//!
//! ```text
//!  HTTP ──▶ server ──▶ standin      as much of Kubernetes' own as kube-rs and kubectl need
//!             ▲   └──▶ real         Kubernetes' own, where KUBEBUILDER_ASSETS names it
//!          faults
//! ```
//!
//! It speaks plain HTTP to whoever asks. Who brings a token is told what that allows by the real one; everybody
//! else may do everything.

mod answer;
mod faults;
mod kubectl;
mod place;
mod real;
mod resource;
mod server;
mod standin;
mod tokens;

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::net::{self, Netns};
use faults::Faults;
pub use faults::Writes;
pub use kubectl::{Kubectl, KubectlError};
use real::Real;
pub use real::RealError;
use server::Server;
use standin::{StandIn, objects};
pub use tokens::{SigningError, Token};

/// Namespaces that every API server makes by itself.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Why an API server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network namespace that it was to be in.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// Its socket or its thread.
    #[error("the API server on {address}: {step}: {source}")]
    Server {
        /// Where.
        address: SocketAddr,
        /// What was attempted, such as `listening`.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Kubernetes' own.
    #[error("the API server of KUBEBUILDER_ASSETS: {0}")]
    Real(#[from] RealError),
    /// A token.
    #[error(transparent)]
    Signing(#[from] SigningError),
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
    backend: Backend,
    faults: Arc<Faults>,
    server: Mutex<Server>,
    address: SocketAddr,
}

/// Who knows the answers.
#[derive(Debug)]
enum Backend {
    StandIn(Arc<StandIn>),
    Real(Box<Real>),
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
        let faults = Arc::new(Faults::default());
        let backend = match env::var_os(real::ASSETS) {
            Some(assets) => Backend::Real(Box::new(Real::start(&PathBuf::from(assets))?)),
            None => Backend::StandIn(Arc::new(StandIn::new(Arc::clone(&faults)))),
        };
        let (server, address) = Server::reserve(address, netns)?;
        let this = Self {
            backend,
            faults,
            server: Mutex::new(server),
            address,
        };
        if let Backend::StandIn(_) = this.backend {
            for name in BUILT_IN {
                this.put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))?;
            }
        }
        this.restart()?;
        Ok(this)
    }

    /// Whether this is Kubernetes' own API server.
    #[must_use]
    pub fn is_real(&self) -> bool {
        matches!(self.backend, Backend::Real(_))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients are told.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig that leads here, for somebody who may do everything.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_of(&json!({}))
    }

    /// A kubeconfig that leads here, for the bearer of a token. The stand-in asks nobody for it.
    pub fn kubeconfig_with(&self, token: &str) -> String {
        self.kubeconfig_of(&json!({ "token": token }))
    }

    fn kubeconfig_of(&self, user: &Value) -> String {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "tests", "cluster": { "server": self.url() } }],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "user" } }],
            "current-context": "tests",
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
        self.server().start(&self.faults, &self.backend)
    }

    /// Forgets how the objects came to be what they are: watches that have not seen the present state
    /// must list anew (410 Gone).
    ///
    /// # Errors
    /// When the real one does not come back.
    pub fn compact(&self) -> Result<(), Error> {
        match &self.backend {
            Backend::StandIn(it) => {
                it.compact();
                Ok(())
            }
            Backend::Real(real) => Ok(real.compact().map_err(RealError::Refused)?),
        }
    }

    /// Begins to count revisions anew, as after a backup was put back: what clients have seen is ahead.
    ///
    /// # Errors
    /// When the real one does not come back.
    pub fn rewind(&self) -> Result<(), Error> {
        match &self.backend {
            Backend::StandIn(it) => {
                it.rewind();
                Ok(())
            }
            Backend::Real(real) => Ok(real.rewind().map_err(RealError::Refused)?),
        }
    }

    /// Whether a watch of forgotten history is refused with the status 410, instead of being told by an
    /// event. The real one does as it does.
    pub fn refuse_expired_watches(&self, by_status: bool) {
        self.faults.set_gone_by_status(by_status);
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
        self.faults.fail(Some((code, retry_after)));
        Ok(())
    }

    /// Refuses everything about a resource, such as `pods`, from now on (403).
    pub fn forbid(&self, resource: &str) {
        self.faults.forbid(Some(resource));
    }

    /// What becomes of requests that would change something, from now on.
    pub fn set_writes(&self, writes: Writes) {
        self.faults.set_writes(writes);
    }

    /// Answers as it should again, and at once.
    pub fn recover(&self) {
        self.faults.set_writes(Writes::Done);
        self.faults.fail(None);
        self.faults.forbid(None);
        self.faults.set_delay(Duration::ZERO);
        self.faults.set_hasty(false);
        self.faults.cut(0);
    }

    /// Ends every watch as soon as it has said what there is to say.
    pub fn end_watches_at_once(&self) {
        self.faults.set_hasty(true);
    }

    /// Takes this long for every answer from now on.
    pub fn delay(&self, delay: Duration) {
        self.faults.set_delay(delay);
    }

    /// Sends only the first half of each of the next `events` of watches, and breaks their connections.
    pub fn cut_watches(&self, events: u32) {
        self.faults.cut(events);
    }

    /// How many answers have been given or begun so far.
    pub fn requests(&self) -> u64 {
        self.faults.requests()
    }

    /// A token that means this, which a TokenReview knows from now on.
    ///
    /// # Errors
    /// When it cannot be signed, or the account cannot be made that it is of.
    pub fn issue(&self, meaning: Token) -> Result<String, Error> {
        match &self.backend {
            Backend::StandIn(it) => Ok(it.issue(meaning)?),
            Backend::Real(real) => {
                let uid = real.account(&meaning.namespace, &meaning.service_account);
                Ok(real.sign(&meaning, &uid.map_err(RealError::Refused)?)?)
            }
        }
    }

    /// Creates an object, or replaces it, with its status: as all controllers, kubelets and users together
    /// would.
    ///
    /// # Errors
    /// When the server would refuse it.
    pub fn put(&self, object: &Value) -> Result<(), Error> {
        refused(
            object,
            match &self.backend {
                Backend::StandIn(it) => objects::put(it, object),
                Backend::Real(real) => real.put(object),
            },
        )
    }

    /// Writes the status of an object that is there, as its kubelet or controller would.
    ///
    /// # Errors
    /// When there is no such object, or it has no status.
    pub fn put_status(&self, object: &Value) -> Result<(), Error> {
        refused(
            object,
            match &self.backend {
                Backend::StandIn(it) => objects::put_status(it, object),
                Backend::Real(real) => real.put_status(object),
            },
        )
    }

    /// Stores an object as it is: one that an older server let in, or a newer one has more fields for.
    ///
    /// # Errors
    /// When it is of a kind that is not served, or has no name.
    pub fn put_unchecked(&self, object: &Value) -> Result<(), Error> {
        refused(
            object,
            match &self.backend {
                Backend::StandIn(it) => objects::put_unchecked(it, object),
                Backend::Real(real) => real.put_unchecked(object),
            },
        )
    }

    /// Removes an object, of whatever kind, at once. `id` is its name, with its namespace in front if it
    /// has one.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove(&self, api_version: &str, kind: &str, id: &str) -> Result<(), Error> {
        let (namespace, name) = id.split_once('/').unwrap_or(("default", id));
        let metadata = json!({ "namespace": namespace, "name": name });
        let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
        refused(
            &object,
            match &self.backend {
                Backend::StandIn(it) => objects::remove(it, &object),
                Backend::Real(real) => real.remove(&object),
            },
        )
    }

    /// Every object as it is now.
    ///
    /// # Errors
    /// When the real one does not answer.
    pub fn objects(&self) -> Result<Vec<Value>, Error> {
        match &self.backend {
            Backend::StandIn(it) => Ok(it.objects()),
            Backend::Real(real) => Ok(real.objects().map_err(RealError::Refused)?),
        }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(object: &Value, outcome: Result<(), String>) -> Result<(), Error> {
    outcome.map_err(|message| Error::Refused {
        object: describe(object),
        message,
    })
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
