//! Certificates for tests, fresh each time, and tokens that look like the API server's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// Somebody who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, both in PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "a test's authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's pair for these names and addresses.
    pub fn server(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        self.sign(params, SystemTime::now() + Duration::from_secs(86_400))
    }

    /// A client's pair with this SPIFFE id.
    pub fn client(&self, id: &str, expires: SystemTime) -> Pair {
        self.sign(client(id), expires)
    }

    fn sign(&self, mut params: CertificateParams, expires: SystemTime) -> Pair {
        params.not_after = expires.into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a signature");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A client's pair that nobody vouches for.
pub fn self_signed(id: &str) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let certificate = client(id).self_signed(&key).expect("a certificate");
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

fn client(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = SanType::URI(id.try_into().expect("ASCII"));
    params.subject_alt_names.push(uri);
    params
}

/// A token that says these things of itself. Its signature is worth nothing: who believes it must
/// have been told by somebody else.
pub fn token(subject: &str, audience: &str, expires: SystemTime) -> String {
    let exp = expires
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let claims = format!(r#"{{"sub":"{subject}","aud":["{audience}"],"exp":{exp}}}"#);
    let [header, claims] = [r#"{"alg":"none"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.c2ln")
}
