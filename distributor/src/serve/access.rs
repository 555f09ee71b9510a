//! Who may fetch snapshots, as the command line says it.

use std::path::PathBuf;
use std::sync::Arc;

use sidewall_policy::model::NamespacedName;
use tracing::{info, warn};

use crate::cluster::authority::{ApiServer, ConnectError};
use crate::xds::{Access, Rules, Tls, TlsError, TlsFiles, VerifiedIdentity};

/// With a certificate xDS is served over TLS, to clients that prove who they are.
#[derive(Clone, Debug, clap::Args)]
pub struct AccessArgs {
    /// Serve xDS over TLS with this certificate chain (PEM), and only to clients with a
    /// service-account token or a client certificate; read again at each connection
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Who signs client certificates (PEM); without it only tokens are accepted
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,

    /// The SPIFFE trust domain of client certificates
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,

    /// The audience of service-account tokens
    #[arg(long, value_name = "AUDIENCE", default_value = "sidewall")]
    pub token_audience: String,

    /// The service account of the agents and Envoys of nodes: with a token of it a client gets the
    /// bundle of the node that it runs on
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = account, requires = "tls_cert")]
    pub node_service_account: Option<NamespacedName>,
}

/// Why the distributor cannot tell its clients apart.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody can examine tokens.
    #[error(transparent)]
    Authority(#[from] ConnectError),
}

impl AccessArgs {
    /// Whether clients have to prove who they are.
    pub fn is_verified(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Reads certificates, and finds the API server that examines tokens.
    ///
    /// # Errors
    /// When either cannot be had.
    pub async fn open(self) -> Result<Access, AccessError> {
        let Self {
            tls_cert,
            tls_key,
            client_ca,
            trust_domain,
            token_audience,
            node_service_account,
        } = self;
        let (Some(certificate), Some(key)) = (tls_cert, tls_key) else {
            return Ok(Access::plaintext());
        };
        let tls = Tls::new(TlsFiles {
            certificate,
            key,
            client_ca,
        })?;
        let authority = ApiServer::infer(token_audience.clone()).await?;
        match &node_service_account {
            Some(account) => info!(%account, "nodes are served by tokens of this service account"),
            None => warn!("without --node-service-account no node is served"),
        }
        let rules = Rules {
            audience: token_audience,
            node_account: node_service_account,
            trust_domain,
        };
        Ok(Access {
            tls: Some(tls),
            authenticator: Arc::new(VerifiedIdentity::new(Arc::new(authority), rules)),
        })
    }
}

fn account(text: &str) -> Result<NamespacedName, &'static str> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(NamespacedName::new(namespace, name))
        }
        _ => Err("write NAMESPACE/NAME"),
    }
}
