//! The server's side of TLS: certificate, key and client CA from files, as they are now.
//!
//! The files are read again at each connection. That costs less than the handshake does, follows
//! every way in which a file can change, the swap of a mounted Secret among them, and needs no
//! watch that could fall silent. Open connections keep what they were made with. Files that do not
//! fit together, as when a rotation is half written, are not taken: the last good ones stay.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tracing::{error, info};

/// Where certificate and keys are; PEM, all of them.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain of the server, its own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients; without it they are not asked for any.
    pub client_ca: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// One does not hold what it should.
    #[error("{path}: holds no {what} in PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Where it goes wrong.
        source: pem::Error,
    },
    /// Each is well, together they are not.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The client CA cannot be used.
    #[error("{path}: cannot be used as client CA: {reason}")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The server's TLS configuration, which follows its files.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the last good configuration was made from.
    contents: Contents,
    config: Arc<ServerConfig>,
    /// What was wrong with the files when they were read last: said once.
    failure: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// When they cannot be used as they are.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = read(&files)?;
        let config = Arc::new(configure(&files, &contents)?);
        let state = Mutex::new(State {
            contents,
            config,
            failure: None,
        });
        Ok(Self { files, state })
    }

    /// The configuration for the next connection. Reads files.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.changed(&state.contents) {
            Ok(None) => state.failure = None,
            Ok(Some((contents, config))) => {
                info!(certificate = %self.files.certificate.display(), "new certificates are in use from the next connection on");
                *state = State {
                    contents,
                    config,
                    failure: None,
                };
            }
            Err(failure) => {
                let failure = failure.to_string();
                if state.failure.as_ref() != Some(&failure) {
                    error!("the last good certificates stay in use: {failure}");
                    state.failure = Some(failure);
                }
            }
        }
        Arc::clone(&state.config)
    }

    fn changed(&self, known: &Contents) -> Result<Option<(Contents, Arc<ServerConfig>)>, TlsError> {
        let contents = read(&self.files)?;
        if contents == *known {
            return Ok(None);
        }
        let config = configure(&self.files, &contents)?;
        Ok(Some((contents, Arc::new(config))))
    }
}

fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|source| TlsError::Read {
            path: path.clone(),
            source,
        })
    };
    Ok(Contents {
        certificate: read(&files.certificate)?,
        key: read(&files.key)?,
        client_ca: files.client_ca.as_ref().map(read).transpose()?,
    })
}

fn configure(files: &TlsFiles, contents: &Contents) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate, &contents.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|source| not_pem(&files.key, "private key", source))?;
    let pair = |source| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let verified = match (&files.client_ca, &contents.client_ca) {
        (Some(path), Some(bytes)) => {
            let refused = |reason: String| TlsError::ClientCa {
                path: path.clone(),
                reason,
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, bytes)? {
                let added = roots.add(certificate);
                added.map_err(|error| refused(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                // A token will do instead.
                .allow_unauthenticated()
                .build()
                .map_err(|error: VerifierBuilderError| refused(error.to_string()))?;
            versions.with_client_cert_verifier(verifier)
        }
        _ => versions.with_no_client_auth(),
    };
    let mut config = verified.with_single_cert(chain, key).map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would bring a certificate back that was not verified again. Handshakes are
    // rare here: connections last for hours.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificate";
    let all: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|source| not_pem(path, what, source))?;
    if all.is_empty() {
        return Err(not_pem(path, what, pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn not_pem(path: &Path, what: &'static str, source: pem::Error) -> TlsError {
    TlsError::Pem {
        path: path.to_owned(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests;
