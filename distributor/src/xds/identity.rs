//! Who is at the other end of a stream: the seam between "somebody connected" and "this pod" or
//! "this node".
//!
//! ```text
//!  node.id ───────claim─┐
//!  bearer token ──token─┼─▶ VerifiedIdentity ─▶ Identity, or Refusal
//!  certificate ──spiffe─┘        │
//!                             reviews ─▶ Authority: the API server
//! ```
//!
//! The stream loop asks an [`Authenticator`] and serves what it answers; it never reads a name from
//! a request itself. Whatever is not proved is refused: a claim alone is worth something in plain
//! text only, where nothing better is to be had (docs/adr/0010).

mod claim;
mod refusal;
mod reviews;
mod spiffe;
mod token;
mod verified;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use tonic::metadata::MetadataMap;

use super::certificate::ClientCertificate;
use crate::snapshots::Recipient;
pub use refusal::Refusal;
pub use verified::{Rules, VerifiedIdentity};

/// What a client shows when it opens a stream.
#[derive(Debug)]
pub struct Caller<'a> {
    /// The metadata of the call: where a bearer token would be.
    pub metadata: &'a MetadataMap,
    /// What it showed in the handshake, signed by the client CA.
    pub certificate: Option<&'a ClientCertificate>,
    /// `node.id` of the first request: a claim, not a proof.
    pub node_id: &'a str,
}

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose snapshot it gets.
    pub recipient: Recipient,
    /// Which of all pods of that name, if its token says so.
    pub pod_uid: Option<Arc<str>>,
    /// What makes us believe it.
    pub proof: Proof,
    /// When the proof has to be given again, on a new stream.
    pub until: Option<SystemTime>,
}

/// What an identity rests on, strongest first; printed as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token that the API server has bound to this pod, or to a pod of this node.
    Token,
    /// A certificate of this pod's service account.
    Certificate,
    /// Nothing: it says so.
    Claim,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Claim => "claim",
        })
    }
}

/// Decides who a client is, and so which snapshot it may have.
pub trait Authenticator: Send + Sync + 'static {
    /// Who is at the other end, or why nobody is served. Called once a stream, before anything is sent.
    fn authenticate<'a>(&'a self, caller: Caller<'a>) -> BoxFuture<'a, Result<Identity, Refusal>>;
}

/// Believes `node.id`. For development on one machine: [`crate::serve`] permits it on loopback,
/// or elsewhere only when the operator asked for it by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaintextIdentity;

impl Authenticator for PlaintextIdentity {
    fn authenticate<'a>(&'a self, caller: Caller<'a>) -> BoxFuture<'a, Result<Identity, Refusal>> {
        let identity = claim::recipient(caller.node_id).map(|recipient| Identity {
            recipient,
            pod_uid: None,
            proof: Proof::Claim,
            until: None,
        });
        Box::pin(std::future::ready(identity))
    }
}
