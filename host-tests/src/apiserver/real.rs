//! Kubernetes' own API server and its etcd, which the front stands before so that they can fail on demand.
//!
//! ```text
//!  front ──▶ forward ──▶ kube-apiserver ──▶ etcd
//!                             ▲              ▲
//!               objects ──────┘   history ───┘   past the API server: what it would refuse
//! ```
//!
//! They listen on loopback addresses of the network namespace that this process is in. Nothing else of a
//! cluster runs: no controller, no scheduler, no kubelet.

pub(super) mod forward;
mod history;
mod objects;
mod process;

use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use kube::{Client, Config};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use super::tokens::{ISSUER, Signer, SigningError, Token};
use forward::Callers;
use process::Process;

/// Names the folder with the binaries `kube-apiserver` and `etcd`, as Kubernetes' own test tools have it.
pub(super) const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// Within this time it starts, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who may do everything.
const ADMIN_TOKEN: &str = "of-the-tests-alone";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    /// A file or a program.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key for tokens.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// A client for it.
    #[error("a client: {0}")]
    Client(#[from] kube::Error),
    /// It does not do what it should.
    #[error("{0}")]
    Refused(String),
    /// It does not come up.
    #[error("{program} is not ready after {waited:?} ({last}); the end of its log:\n{log}")]
    NotReady {
        /// Which of the two.
        program: &'static str,
        /// How long that was waited for.
        waited: Duration,
        /// What it said the last time.
        last: String,
        /// The last lines that it wrote.
        log: String,
    },
}

/// How often other ports are tried.
const ATTEMPTS: usize = 3;

/// A pair of them that runs. Dropping it ends both.
pub(super) struct Real {
    assets: PathBuf,
    folder: TempDir,
    ports: Ports,
    /// The API server first: it goes before what it stands on.
    processes: Mutex<Option<[Process; 2]>>,
    signer: Signer,
    /// For what tests do by themselves, past the front.
    runtime: Runtime,
    client: Client,
    etcd: Client,
}

impl Debug for Real {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Real")
            .field("assets", &self.assets)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    api: u16,
    etcd: u16,
    peers: u16,
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RealError {
    let what = what.into();
    move |source| RealError::System { what, source }
}

impl Real {
    /// Starts both, with the namespaces of an empty cluster.
    pub(super) fn start(assets: &Path) -> Result<Self, RealError> {
        // They are told their ports, which somebody else may take before they do.
        let is_taken = |error: &RealError| matches!(error, RealError::NotReady { log, .. } if log.contains("address already in use"));
        let mut attempts = (1..ATTEMPTS).map(|_| Self::try_to_start(assets));
        let untaken = attempts.find(|attempt| !attempt.as_ref().is_err_and(is_taken));
        untaken.unwrap_or_else(|| Self::try_to_start(assets))
    }

    fn try_to_start(assets: &Path) -> Result<Self, RealError> {
        let folder = TempDir::new().map_err(system("a folder for the API server"))?;
        let signer = Signer::new()?;
        let [private, public] = signer.pems();
        let tokens = format!("{ADMIN_TOKEN},tests,0,\"system:masters\"\n");
        for (file, content) in [
            ("sa.key", private),
            ("sa.pub", public),
            ("tokens.csv", tokens),
        ] {
            let path = folder.path().join(file);
            fs::write(&path, content).map_err(system(path.display().to_string()))?;
        }
        let ports = Ports::free().map_err(system("free ports on 127.0.0.1"))?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(system("a runtime"))?;
        let (client, etcd) = {
            let _within = runtime.enter();
            (
                client(ports, Some(ADMIN_TOKEN))?,
                Client::try_from(Config::new(uri("http", ports.etcd)))?,
            )
        };
        let this = Self {
            assets: assets.to_owned(),
            folder,
            ports,
            processes: Mutex::new(None),
            signer,
            runtime,
            client,
            etcd,
        };
        this.restart()?;
        Ok(this)
    }

    /// Clients of whoever stands before it, for the runtime that this is called in.
    pub(super) fn callers(&self) -> Result<Callers, RealError> {
        Ok(Callers {
            anybody: client(self.ports, Some(ADMIN_TOKEN))?,
            bearer: client(self.ports, None)?,
        })
    }

    /// Signs a token of an account with this uid.
    pub(super) fn sign(&self, token: &Token, uid: &str) -> Result<String, SigningError> {
        self.signer.sign(token, uid)
    }

    /// Ends both at once, whatever they are doing, and starts them again.
    fn restart(&self) -> Result<(), RealError> {
        self.restart_on(|| Ok(()), || Ok(()))
    }

    /// The same; while neither runs `prepare` is called, and `seed` when etcd alone runs.
    fn restart_on(
        &self,
        prepare: impl FnOnce() -> Result<(), RealError>,
        seed: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), RealError> {
        let mut processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(processes.take());
        prepare()?;
        let mut etcd = self.start_etcd()?;
        self.until(&mut etcd, || self.revision().map(drop))?;
        seed().map_err(RealError::Refused)?;
        let mut api_server = self.start_api_server()?;
        self.until(&mut api_server, || {
            let ready = self.get("/readyz").and_then(expect_ok);
            ready.and_then(|()| self.get("/api/v1/namespaces/default").and_then(expect_ok))
        })?;
        *processes = Some([api_server, etcd]);
        Ok(())
    }

    fn start_etcd(&self) -> Result<Process, RealError> {
        let clients = self.ports.etcd_url();
        let peers = format!("http://127.0.0.1:{}", self.ports.peers);
        let data = self.data();
        self.spawn(
            "etcd",
            &[
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={clients}"),
                format!("--advertise-client-urls={clients}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                // What is in it is worth nothing tomorrow, and it is put back in one piece.
                "--unsafe-no-fsync".to_owned(),
                "--max-txn-ops=100000".to_owned(),
            ],
        )
    }

    fn start_api_server(&self) -> Result<Process, RealError> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        self.spawn(
            "kube-apiserver",
            &[
                format!("--etcd-servers={}", self.ports.etcd_url()),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={}", self.ports.api),
                format!("--cert-dir={}", file("certificates")),
                format!("--token-auth-file={}", file("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                format!("--service-account-issuer={ISSUER}"),
                format!("--service-account-signing-key-file={}", file("sa.key")),
                format!("--service-account-key-file={}", file("sa.pub")),
                "--service-cluster-ip-range=10.96.0.0/12,fd00:96::/108".to_owned(),
                "--allow-privileged=true".to_owned(),
                // It refuses to look for an address where there is none but the loopback's; nobody uses this.
                "--advertise-address=192.0.2.1".to_owned(),
                // It waits for a controller that would make accounts, and there are no kubelets.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
            ],
        )
    }

    fn spawn(&self, program: &'static str, arguments: &[String]) -> Result<Process, RealError> {
        let assets = self.assets.display();
        let log = self.folder.path().join(format!("{program}.log"));
        Process::spawn(&self.assets, program, arguments, log)
            .map_err(system(format!("{program} of {ASSETS}={assets}")))
    }

    fn until(
        &self,
        process: &mut Process,
        holds: impl Fn() -> Result<(), String>,
    ) -> Result<(), RealError> {
        let started = Instant::now();
        while let Err(last) = holds() {
            if started.elapsed() > PATIENCE || process.has_ended() {
                return Err(RealError::NotReady {
                    program: process.name(),
                    waited: started.elapsed(),
                    last,
                    log: process.last_words(),
                });
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Where etcd keeps everything.
    fn data(&self) -> PathBuf {
        self.folder.path().join("etcd")
    }
}

impl Ports {
    fn free() -> std::io::Result<Self> {
        // All at the same time, so that they are different ones.
        let listeners: [TcpListener; 3] = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let port = |listener: &TcpListener| Ok::<_, std::io::Error>(listener.local_addr()?.port());
        Ok(Self {
            api: port(&listeners[0])?,
            etcd: port(&listeners[1])?,
            peers: port(&listeners[2])?,
        })
    }

    fn etcd_url(self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }
}

fn client(ports: Ports, token: Option<&str>) -> Result<Client, kube::Error> {
    let mut config = Config::new(uri("https", ports.api));
    // It signs its certificate itself, and is on the loopback interface.
    config.accept_invalid_certs = true;
    config.auth_info.token = token.map(|token| token.to_owned().into());
    Client::try_from(config)
}

fn uri(scheme: &str, port: u16) -> axum::http::Uri {
    format!("{scheme}://127.0.0.1:{port}")
        .parse()
        .expect("the address of a port")
}

fn expect_ok((status, text): (StatusCode, serde_json::Value)) -> Result<(), String> {
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("{status}: {text}"))
    }
}
