//! Tokens of service accounts: what they mean, and how they are signed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// Who says that it has issued a token.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc";

/// How long before its end a token was issued.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A service-account token as an API server issues it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whom it was made for; none means the API server itself.
    pub audiences: Vec<String>,
    /// Its account's namespace.
    pub namespace: String,
    /// Its account's name.
    pub service_account: String,
    /// The pod that it is bound to, with the pod's uid.
    pub pod: Option<(String, String)>,
    /// The node that it is bound to or that its pod runs on, with the node's uid.
    pub node: Option<(String, String)>,
    /// From when on it is not valid any more.
    pub expires: Option<SystemTime>,
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// No key.
    #[error("a key for service-account tokens: {0}")]
    Key(#[from] rcgen::Error),
    /// No signature.
    #[error("a service-account token: {0}")]
    Signature(#[from] jsonwebtoken::errors::Error),
}

/// Signs tokens as an API server does.
#[derive(Debug)]
pub(super) struct Signer {
    key: KeyPair,
}

impl Signer {
    /// With a key of its own.
    pub(super) fn new() -> Result<Self, SigningError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        Ok(Self { key })
    }

    /// Its private and its public key, in PEM.
    pub(super) fn pems(&self) -> [String; 2] {
        [self.key.serialize_pem(), self.key.public_key_pem()]
    }

    /// A token that means this; `uid` is its account's.
    pub(super) fn sign(&self, token: &Token, uid: &str) -> Result<String, SigningError> {
        let key = EncodingKey::from_ec_der(self.key.serialized_der());
        let header = Header::new(Algorithm::ES256);
        Ok(jsonwebtoken::encode(&header, &claims(token, uid), &key)?)
    }
}

fn claims(token: &Token, uid: &str) -> Value {
    let bound = |it: &Option<(String, String)>| {
        let (name, uid) = it.as_ref()?;
        Some(json!({ "name": name, "uid": uid }))
    };
    let (namespace, account) = (&token.namespace, &token.service_account);
    let expires = token.expires.unwrap_or(SystemTime::now() + LIFETIME);
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    let default = [ISSUER.to_owned()];
    let audiences = match token.audiences.as_slice() {
        [] => &default,
        given => given,
    };
    let mut claims = json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "aud": audiences,
        "exp": seconds(expires),
        "iat": seconds(expires - LIFETIME),
        "nbf": seconds(expires - LIFETIME),
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": { "name": account, "uid": uid },
        },
    });
    for (what, it) in [("pod", bound(&token.pod)), ("node", bound(&token.node))] {
        if let Some(it) = it {
            claims["kubernetes.io"][what] = it;
        }
    }
    claims
}
