//! What is read from a client's certificate, after the handshake has verified its chain.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The certificate of a client whose chain leads to the client CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its one URI among the subject's alternative names, or why there is none.
    pub uri: Result<String, &'static str>,
    /// When it expires.
    pub not_after: SystemTime,
}

/// A certificate that passed the handshake and cannot be read all the same.
#[derive(Debug, thiserror::Error)]
#[error("the client's certificate cannot be read: {0}")]
pub(super) struct Unreadable(String);

impl ClientCertificate {
    /// Reads what matters here.
    ///
    /// # Errors
    /// When it is no X.509.
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, Unreadable> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| Unreadable(error.to_string()))?;
        let not_after = certificate.validity().not_after.timestamp();
        Ok(Self {
            uri: uri(&certificate),
            not_after: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(not_after).unwrap_or_default()),
        })
    }
}

/// A SPIFFE certificate has exactly one URI: of two, nobody could say which it stands for.
fn uri(certificate: &X509Certificate<'_>) -> Result<String, &'static str> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| "its alternative names cannot be read")?;
    let mut uris = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        (Some(_), Some(_)) => Err("it has more than one URI"),
        (None, _) => Err("it has no URI"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[SanType]) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().unwrap();
        ClientCertificate::read(params.self_signed(&key).unwrap().der()).unwrap()
    }

    fn san_uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn one_uri_is_its_name() {
        let dns = SanType::DnsName("db.shop".try_into().unwrap());
        let read = certificate(&[dns, san_uri("spiffe://cluster.local/ns/shop/sa/db")]);
        assert_eq!(
            read.uri.as_deref(),
            Ok("spiffe://cluster.local/ns/shop/sa/db")
        );
        let new_year = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_542_400);
        assert_eq!(read.not_after, new_year);
    }

    #[test]
    fn none_or_two_are_no_name() {
        assert_eq!(certificate(&[]).uri, Err("it has no URI"));
        let two = certificate(&[san_uri("spiffe://a/b"), san_uri("spiffe://a/c")]);
        assert_eq!(two.uri, Err("it has more than one URI"));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let refused = ClientCertificate::read(&CertificateDer::from(vec![1, 2, 3])).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("the client's certificate cannot be read")
        );
    }
}
