//! A server that verifies its clients, and clients that show what they are told to.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use futures::future::BoxFuture;
use sidewall_policy::model::NamespacedName;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::authority::{Authority, Bearer, Review, Unavailable};
use crate::metrics::RefusalReason;
use crate::testing::pki::{self, Pair};
use crate::xds::tests::kit::{Running, Sidecar, first};
use crate::xds::{Access, Rules, Tls, TlsFiles, VerifiedIdentity};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// An API server that knows the tokens it issued.
#[derive(Default)]
pub(super) struct Registrar {
    issued: Mutex<BTreeMap<String, Review>>,
    accounts: Mutex<BTreeMap<NamespacedName, NamespacedName>>,
    away: AtomicBool,
}

impl Registrar {
    /// A token of a pod of the namespace `default` on `node`, with `account`.
    pub(super) fn issue(&self, account: &str, pod: &str, node: &str, lives: Duration) -> String {
        let token = pki::token(pod, "sidewall", SystemTime::now() + lives);
        let bearer = Bearer {
            account: NamespacedName::new("default", account),
            pod: Some(pod.into()),
            pod_uid: Some(format!("uid of {pod}").into()),
            node: Some(node.into()),
        };
        self.says(&token, Review::Authenticated(bearer));
        token
    }

    pub(super) fn says(&self, token: &str, review: Review) {
        self.issued.lock().unwrap().insert(token.to_owned(), review);
    }

    /// A pod of the namespace `default` runs as this account.
    pub(super) fn runs(&self, pod: &str, account: &str) {
        let name = |name: &str| NamespacedName::new("default", name);
        let mut accounts = self.accounts.lock().unwrap();
        accounts.insert(name(pod), name(account));
    }

    pub(super) fn is_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn answer<T>(&self, answer: T) -> Result<T, Unavailable> {
        if self.away.load(Ordering::Relaxed) {
            return Err(Unavailable("connection refused".to_owned()));
        }
        Ok(answer)
    }
}

impl Authority for Registrar {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Review, Unavailable>> {
        let unknown = || Review::Rejected("invalid bearer token".to_owned());
        let issued = self.issued.lock().unwrap().get(token).cloned();
        let answer = self.answer(issued.unwrap_or_else(unknown));
        Box::pin(std::future::ready(answer))
    }

    fn account_of<'a>(
        &'a self,
        pod: &'a NamespacedName,
    ) -> BoxFuture<'a, Result<Option<NamespacedName>, Unavailable>> {
        let account = self.accounts.lock().unwrap().get(pod).cloned();
        Box::pin(std::future::ready(self.answer(account)))
    }
}

/// A server over TLS and who vouches for what.
pub(super) struct Guarded {
    pub(super) running: Running,
    pub(super) registrar: Arc<Registrar>,
    /// Who signs the server's certificate.
    pub(super) server_ca: pki::Authority,
    /// Who signs the clients'.
    pub(super) client_ca: pki::Authority,
    pub(super) folder: TempDir,
}

impl Guarded {
    pub(super) async fn start() -> Self {
        let (server_ca, client_ca) = (pki::Authority::new(), pki::Authority::new());
        let folder = tempfile::tempdir().unwrap();
        let registrar = Arc::new(Registrar::default());
        let path = |name: &str| folder.path().join(name);
        fs::write(path("client-ca.crt"), client_ca.pem()).unwrap();
        put_pair(&folder, &server_ca.server(&["127.0.0.1"]));
        let tls = Tls::new(TlsFiles {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            client_ca: Some(path("client-ca.crt")),
        });
        let rules = Rules {
            audience: "sidewall".to_owned(),
            node_account: Some(NamespacedName::new("default", "node")),
            trust_domain: "cluster.local".to_owned(),
        };
        let authority = Arc::clone(&registrar);
        let access = Access {
            tls: Some(tls.unwrap()),
            authenticator: Arc::new(VerifiedIdentity::new(authority, rules)),
        };
        let running = Running::start_with(access).await;
        Self {
            running,
            registrar,
            server_ca,
            client_ca,
            folder,
        }
    }

    /// Puts another certificate where the server finds it.
    pub(super) fn rotate(&self, pair: &Pair) {
        put_pair(&self.folder, pair);
    }

    /// Connects with a certificate, if one is given.
    pub(super) async fn dial(
        &self,
        server_ca: &pki::Authority,
        certificate: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(server_ca.pem()));
        if let Some(pair) = certificate {
            tls = tls.identity(Identity::from_pem(&pair.certificate, &pair.key));
        }
        let address = format!("https://{}", self.running.address);
        Endpoint::from_shared(address)?
            .tls_config(tls)?
            .connect()
            .await
    }

    /// Opens a stream as `node_id`, with a token, a certificate, both, or nothing.
    pub(super) async fn open(
        &self,
        node_id: &str,
        token: Option<&str>,
        certificate: Option<&Pair>,
    ) -> Result<Sidecar, tonic::Status> {
        let channel = self.dial(&self.server_ca, certificate).await;
        let channel = channel.map_err(|error| tonic::Status::from_error(error.into()))?;
        let client = ExtensionConfigDiscoveryServiceClient::new(channel);
        let authorization = token.map(|token| format!("Bearer {token}"));
        Sidecar::open(client, first(node_id), authorization.as_deref()).await
    }

    /// How often somebody was turned away for this reason.
    pub(super) fn refusals(&self, reason: &'static str) -> u64 {
        let label = RefusalReason { reason };
        self.running.metrics.refusals.get_or_create(&label).get()
    }
}

fn put_pair(folder: &TempDir, pair: &Pair) {
    fs::write(folder.path().join("tls.crt"), &pair.certificate).unwrap();
    fs::write(folder.path().join("tls.key"), &pair.key).unwrap();
}
