//! The seam between those who must know who a client is and whoever can vouch for it.
//!
//! [`crate::xds`] asks through this trait alone, so that it needs no Kubernetes client and its tests
//! no API server. [`crate::cluster`] answers.

use std::sync::Arc;

use futures::future::BoxFuture;
use sidewall_policy::model::NamespacedName;

/// What became of a token that was shown to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Review {
    /// It is genuine, in force, and meant for us.
    Authenticated(Bearer),
    /// It is not, for this reason.
    Rejected(String),
}

/// Whom a service-account token was issued to, as the API server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The service account.
    pub account: NamespacedName,
    /// The pod that the token is bound to, in the account's namespace. The API server has compared
    /// uids: it is the pod of that name that exists now.
    pub pod: Option<Arc<str>>,
    /// The uid of that pod: which of all that have had its name.
    pub pod_uid: Option<Arc<str>>,
    /// The node that this pod runs on. API servers say so from Kubernetes 1.30 on.
    pub node: Option<Arc<str>>,
}

/// Nobody could be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server does not say: {0}")]
pub struct Unavailable(pub String);

/// Who can vouch for clients: the API server.
pub trait Authority: Send + Sync + 'static {
    /// Has a token examined.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Review, Unavailable>>;

    /// The service account that a pod runs as; `None` if there is no such pod.
    fn account_of<'a>(
        &'a self,
        pod: &'a NamespacedName,
    ) -> BoxFuture<'a, Result<Option<NamespacedName>, Unavailable>>;
}
