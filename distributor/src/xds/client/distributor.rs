//! Where the server is, and how it is spoken to.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};

use super::credentials::Credentials;
use super::exchange::Broken;

/// A peer that is silent for this long is asked whether it is still there ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// ... and is taken for gone if it does not say so: policy would change without this client.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Enough for one lost SYN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A server's address, and credentials if it is spoken to over TLS.
#[derive(Clone, Debug)]
pub struct Distributor {
    endpoint: Uri,
    credentials: Option<Credentials>,
}

/// Address and credentials do not fit.
#[derive(Debug, thiserror::Error)]
pub enum DistributorError {
    /// A token would be sent in plain text.
    #[error("--distributor {0}: a token is not sent in plain text; write https://")]
    Plaintext(Uri),
    /// The server would turn us away, or be believed without reason.
    #[error("--distributor {0}: https:// needs --xds-ca and --xds-token")]
    Credentials(Uri),
    /// Neither plain text nor TLS.
    #[error("--distributor {0}: write http://HOST:PORT or https://HOST:PORT")]
    Scheme(Uri),
}

impl Distributor {
    /// The server at `endpoint`: `https` with credentials, `http` without.
    ///
    /// # Errors
    /// When the two do not fit.
    pub fn new(endpoint: Uri, credentials: Option<Credentials>) -> Result<Self, DistributorError> {
        match (endpoint.scheme_str(), &credentials) {
            (Some("http"), None) | (Some("https"), Some(_)) => Ok(Self {
                endpoint,
                credentials,
            }),
            (Some("http"), Some(_)) => Err(DistributorError::Plaintext(endpoint)),
            (Some("https"), None) => Err(DistributorError::Credentials(endpoint)),
            _ => Err(DistributorError::Scheme(endpoint)),
        }
    }

    /// A new connection, and what to show on it.
    pub(super) async fn connect(&self) -> Result<(Channel, Option<MetadataValue<Ascii>>), Broken> {
        let unreachable = |error| Broken::unreachable(&self.endpoint, &error);
        let mut endpoint = Endpoint::from(self.endpoint.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let mut authorization = None;
        if let Some(credentials) = &self.credentials {
            authorization = Some(credentials.authorization()?);
            endpoint = endpoint
                .tls_config(credentials.tls()?)
                .map_err(unreachable)?;
        }
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok((channel, authorization))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_tls_and_tls_needs_a_token() {
        let credentials = Credentials {
            ca: "/ca".into(),
            token: "/token".into(),
            server_name: None,
        };
        let new = |endpoint: &'static str, credentials| {
            let distributor = Distributor::new(Uri::from_static(endpoint), credentials);
            distributor.map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(new("http://a:1", None), Ok(()));
        assert_eq!(new("https://a:1", Some(credentials.clone())), Ok(()));
        for (endpoint, credentials, reason) in [
            (
                "http://a:1",
                Some(credentials),
                "a token is not sent in plain text",
            ),
            ("https://a:1", None, "needs --xds-ca and --xds-token"),
            ("ftp://a:1", None, "write http://"),
            ("a:1", None, "write http://"),
        ] {
            let refusal = new(endpoint, credentials).unwrap_err();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
