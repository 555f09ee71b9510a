//! What a client shows and what it trusts: read from files for every attempt, since both rotate.

use std::fs;
use std::io;
use std::path::PathBuf;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig};

/// Files for a connection over TLS.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who signs the server's certificate; PEM.
    pub ca: PathBuf,
    /// The service-account token, as the kubelet renews it.
    pub token: PathBuf,
    /// The name that the server's certificate is for; none if it is the host that is dialled.
    pub server_name: Option<String>,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{0}: holds no token")]
    Token(PathBuf),
}

impl Credentials {
    /// How to connect.
    pub(super) fn tls(&self) -> Result<ClientTlsConfig, CredentialsError> {
        let ca = Certificate::from_pem(read(&self.ca)?);
        let tls = ClientTlsConfig::new().ca_certificate(ca);
        Ok(match &self.server_name {
            Some(name) => tls.domain_name(name),
            None => tls,
        })
    }

    /// What to show on a new stream.
    pub(super) fn authorization(&self) -> Result<MetadataValue<Ascii>, CredentialsError> {
        let token = read(&self.token)?;
        let not_a_token = || CredentialsError::Token(self.token.clone());
        let token = std::str::from_utf8(&token).map_err(|_| not_a_token())?;
        let token = token.trim();
        if token.is_empty() {
            return Err(not_a_token());
        }
        let mut header: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| not_a_token())?;
        // Kept out of logs, and out of compression tables.
        header.set_sensitive(true);
        Ok(header)
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Read {
        path: path.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials {
            ca: folder.path().join("ca.crt"),
            token: folder.path().join("token"),
            server_name: None,
        };
        let missing = credentials.authorization().unwrap_err().to_string();
        assert!(missing.contains("token: cannot be read"), "{missing}");
        for text in ["", " \n", "a\nb"] {
            fs::write(&credentials.token, text).unwrap();
            let refusal = credentials.authorization().unwrap_err().to_string();
            assert!(refusal.ends_with("holds no token"), "{text:?}: {refusal}");
        }
        fs::write(&credentials.token, "abc.def.ghi\n").unwrap();
        let header = credentials.authorization().unwrap();
        assert_eq!(header, "Bearer abc.def.ghi");
        assert!(!format!("{header:?}").contains("abc"), "{header:?}");
    }
}
