//! Real identities: a token that the API server accepts, or a certificate that the handshake did.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use sidewall_policy::model::NamespacedName;

use super::reviews::Reviews;
use super::token::Token;
use super::{Authenticator, Caller, Identity, Proof, Refusal, claim, spiffe, token};
use crate::authority::{Authority, Bearer, Review};
use crate::snapshots::Recipient;
use crate::xds::certificate::ClientCertificate;

/// Streams end this long before their tokens at the most: the pods of one deployment were given
/// theirs within the same second, and would all come back within the same second.
const SPREAD: Duration = Duration::from_secs(60);

/// Whom to believe.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What tokens must be meant for.
    pub audience: String,
    /// The service account of the agents and Envoys of nodes; nobody is one without it.
    pub node_account: Option<NamespacedName>,
    /// The SPIFFE trust domain of client certificates.
    pub trust_domain: String,
}

/// Believes the API server, and the client CA.
///
/// A token decides if there is one, for it names a pod; a certificate names a service account only.
/// Either way the claim in `node.id` must be true: it is not needed, but a client that is mistaken
/// about itself is better told than served.
pub struct VerifiedIdentity {
    reviews: Reviews,
    rules: Rules,
}

impl VerifiedIdentity {
    /// Asks `authority` and goes by `rules`.
    pub fn new(authority: Arc<dyn Authority>, rules: Rules) -> Self {
        Self {
            reviews: Reviews::new(authority),
            rules,
        }
    }

    async fn identify(&self, caller: Caller<'_>) -> Result<Identity, Refusal> {
        let claimed = claim::recipient(caller.node_id)?;
        let now = SystemTime::now();
        let token = token::shown(caller.metadata, &self.rules.audience, now)?;
        match (token, caller.certificate) {
            (Some(token), _) => self.by_token(claimed, &token, now).await,
            (None, Some(certificate)) => self.by_certificate(claimed, certificate).await,
            (None, None) => Err(Refusal::NoCredentials),
        }
    }

    async fn by_token(
        &self,
        claimed: Recipient,
        token: &Token<'_>,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        let bearer = match self.reviews.review(token).await? {
            Review::Authenticated(bearer) => bearer,
            Review::Rejected(reason) => return Err(Refusal::TokenRejected(reason)),
        };
        let proved = proved(&bearer, &claimed, self.rules.node_account.as_ref())?;
        if proved != claimed {
            return Err(Refusal::OtherRecipient { claimed, proved });
        }
        let is_pod = matches!(proved, Recipient::Pod(_));
        Ok(Identity {
            recipient: proved,
            pod_uid: bearer.pod_uid.filter(|_| is_pod),
            proof: Proof::Token,
            until: Some(stream_end(token, now)),
        })
    }

    async fn by_certificate(
        &self,
        claimed: Recipient,
        certificate: &ClientCertificate,
    ) -> Result<Identity, Refusal> {
        let trust_domain = &self.rules.trust_domain;
        let account = certificate
            .uri
            .as_deref()
            .map_err(|&reason| reason.to_owned())
            .and_then(|uri| spiffe::account(uri, trust_domain))
            .map_err(|reason| Refusal::CertificateName {
                trust_domain: trust_domain.clone(),
                reason,
            })?;
        let Recipient::Pod(pod) = claimed else {
            return Err(Refusal::CertificateForNode(claimed));
        };
        // Elsewhere it cannot be, so nobody is asked.
        let found = if pod.namespace == account.namespace {
            let question = self.reviews.authority().account_of(&pod);
            self.reviews.in_turn(question).await?
        } else {
            None
        };
        if found.as_ref() != Some(&account) {
            let claimed = pod;
            return Err(Refusal::OtherAccount { claimed, account });
        }
        Ok(Identity {
            recipient: Recipient::Pod(pod),
            pod_uid: None,
            proof: Proof::Certificate,
            // Its connection ends with the certificate.
            until: None,
        })
    }
}

impl Authenticator for VerifiedIdentity {
    fn authenticate<'a>(&'a self, caller: Caller<'a>) -> BoxFuture<'a, Result<Identity, Refusal>> {
        Box::pin(self.identify(caller))
    }
}

/// Whom a token stands for, of those it could: a claim to be a node makes it one of a node.
fn proved(
    bearer: &Bearer,
    claimed: &Recipient,
    node_account: Option<&NamespacedName>,
) -> Result<Recipient, Refusal> {
    let account = &bearer.account;
    let unbound = |missing, remedy| Refusal::TokenUnbound {
        account: account.clone(),
        missing,
        remedy,
    };
    match claimed {
        Recipient::Pod(_) => {
            let pod = bearer.pod.clone().ok_or_else(|| {
                unbound(
                    "pod",
                    "mount it as a projected volume, which binds it to its pod",
                )
            })?;
            let pod = NamespacedName::new(account.namespace.clone(), pod);
            Ok(Recipient::Pod(pod))
        }
        Recipient::Node(_) if node_account != Some(account) => Err(Refusal::NotANode {
            claimed: claimed.clone(),
            account: account.clone(),
        }),
        Recipient::Node(_) => {
            let remedy =
                "it needs to be bound to a pod, and API servers of Kubernetes 1.30 or later";
            let node = bearer.node.clone().ok_or_else(|| unbound("node", remedy))?;
            Ok(Recipient::Node(node))
        }
    }
}

/// When a stream has to end: with its token, or a little before, at a moment that is its own.
fn stream_end(token: &Token<'_>, now: SystemTime) -> SystemTime {
    let rest = token.expires.duration_since(now).unwrap_or_default();
    let early = (rest / 10).min(SPREAD) * u32::from(token.digest[0]) / 256;
    token.expires - early
}

#[cfg(test)]
mod tests;
