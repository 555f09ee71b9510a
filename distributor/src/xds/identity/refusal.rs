//! Why a client was turned away.

use sidewall_policy::model::NamespacedName;
use tonic::{Code, Status};

use crate::authority::Unavailable;
use crate::snapshots::Recipient;

/// Why a client was turned away. Sent to it as the status of its stream, so it tells nothing that
/// the client did not bring along.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What the client claims cannot be read: it has to change its configuration.
    #[error(
        "node.id {id:?} names no pod and no node: {reason}; use sidecar~IP~POD.NAMESPACE~DOMAIN, NAMESPACE/POD or node~NAME"
    )]
    MalformedId {
        /// The id as the client sent it.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// On a stream whose identity is settled, another one was claimed.
    #[error("node.id was {first:?} when the stream began and cannot become {now:?}")]
    ChangedId {
        /// The first claim.
        first: String,
        /// The later one.
        now: String,
    },
    /// Nothing was shown.
    #[error(
        "no credentials: send a service-account token as \"authorization: Bearer TOKEN\", or connect with a client certificate"
    )]
    NoCredentials,
    /// What was shown as a token is none.
    #[error("the authorization header holds no service-account token: {0}")]
    MalformedToken(&'static str),
    /// The token is out of date.
    #[error("the token has expired; mount it as a projected volume, which the kubelet renews")]
    TokenExpired,
    /// The token is meant for somebody else.
    #[error("the token is for the audiences {found:?}, not for {expected:?}")]
    TokenAudience {
        /// For whom it is.
        found: Vec<String>,
        /// For whom it should be.
        expected: String,
    },
    /// The API server does not accept the token.
    #[error("the API server does not accept the token: {0}")]
    TokenRejected(String),
    /// The token says less than is needed.
    #[error("the token of {account} names no {missing}; {remedy}")]
    TokenUnbound {
        /// Whose it is.
        account: NamespacedName,
        /// What it does not name.
        missing: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The proof is of one, the claim is of another.
    #[error("node.id claims {claimed}, but the token is of {proved}")]
    OtherRecipient {
        /// Who the client says it is.
        claimed: Recipient,
        /// Who it is.
        proved: Recipient,
    },
    /// A node's bundle is for those who were appointed to enforce it.
    #[error(
        "node.id claims {claimed}, but {account} is not the service account of the node plane (--node-service-account)"
    )]
    NotANode {
        /// The node.
        claimed: Recipient,
        /// Who asks for it.
        account: NamespacedName,
    },
    /// The certificate names no service account of this mesh.
    #[error(
        "the client certificate is not spiffe://{trust_domain}/ns/NAMESPACE/sa/SERVICE-ACCOUNT: {reason}"
    )]
    CertificateName {
        /// The trust domain that is served.
        trust_domain: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate names a node.
    #[error(
        "node.id claims {0}, and a client certificate names no node: send a service-account token"
    )]
    CertificateForNode(Recipient),
    /// The pod is none of the certificate's service account, or there is no such pod. Which of them,
    /// a stranger need not know.
    #[error(
        "node.id claims {claimed}, which is no pod of the certificate's service account {account}"
    )]
    OtherAccount {
        /// The pod.
        claimed: NamespacedName,
        /// Whose certificate it is.
        account: NamespacedName,
    },
    /// Nobody can say whether the proof is good: refused, and worth another attempt.
    #[error("cannot tell who this is: {0}")]
    Unavailable(#[from] Unavailable),
}

impl Refusal {
    /// The label under which it is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MalformedId { .. } => "malformed-id",
            Self::ChangedId { .. } => "changed-id",
            Self::NoCredentials => "no-credentials",
            Self::MalformedToken(_) => "malformed-token",
            Self::TokenExpired => "token-expired",
            Self::TokenAudience { .. } => "token-audience",
            Self::TokenRejected(_) => "token-rejected",
            Self::TokenUnbound { .. } => "token-unbound",
            Self::OtherRecipient { .. } => "other-recipient",
            Self::NotANode { .. } => "not-a-node",
            Self::CertificateName { .. } => "certificate-name",
            Self::CertificateForNode(_) => "certificate-for-node",
            Self::OtherAccount { .. } => "other-account",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// As the client hears it.
    pub(in crate::xds) fn status(&self) -> Status {
        let code = match self {
            Self::MalformedId { .. } => Code::InvalidArgument,
            Self::NoCredentials
            | Self::MalformedToken(_)
            | Self::TokenExpired
            | Self::TokenAudience { .. }
            | Self::TokenRejected(_) => Code::Unauthenticated,
            Self::ChangedId { .. }
            | Self::TokenUnbound { .. }
            | Self::OtherRecipient { .. }
            | Self::NotANode { .. }
            | Self::CertificateName { .. }
            | Self::CertificateForNode(_)
            | Self::OtherAccount { .. } => Code::PermissionDenied,
            Self::Unavailable(_) => Code::Unavailable,
        };
        Status::new(code, self.to_string())
    }
}
