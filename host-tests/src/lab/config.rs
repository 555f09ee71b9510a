//! How a lab is started.

use std::path::PathBuf;
use std::time::Duration;

use sidewall_distributor::node::ruleset::DeniedTcp;

use super::{KubeProxy, Plane, Redirect, Source};
use crate::envoy::template;
use crate::net::Wiring;

/// What a lab is made of. At least one source of manifests is needed.
#[derive(Clone, Debug)]
pub struct LabConfig {
    pub(super) folders: Vec<PathBuf>,
    pub(super) manifests: Vec<(String, String)>,
    pub(super) plane: Plane,
    pub(super) source: Source,
    pub(super) workers: u32,
    pub(super) probe_timeout: Duration,
    pub(super) probe_width: usize,
    pub(super) enforce_own_node_egress: bool,
    pub(super) redirect: Redirect,
    pub(super) denied_tcp: DeniedTcp,
    pub(super) kube_proxy: Option<KubeProxy>,
    pub(super) sidecar: SidecarTemplate,
    pub(super) relayed: bool,
    pub(super) wiring: Wiring,
}

/// What sidecars are started with: templates with the placeholders of `envoy/` and `${SIDEWALL_FOLDER}`,
/// the folder that the files are put into.
#[derive(Clone, Debug)]
pub struct SidecarTemplate {
    /// The bootstrap.
    pub bootstrap: String,
    /// Further files, by name.
    pub files: Vec<(String, String)>,
}

impl Default for SidecarTemplate {
    /// What users deploy.
    fn default() -> Self {
        Self {
            bootstrap: template::SIDECAR.to_owned(),
            files: Vec::new(),
        }
    }
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            manifests: Vec::new(),
            plane: Plane::default(),
            source: Source::default(),
            workers: 1,
            probe_timeout: Duration::from_secs(1),
            probe_width: 16,
            enforce_own_node_egress: false,
            redirect: Redirect::default(),
            denied_tcp: DeniedTcp::default(),
            kube_proxy: None,
            sidecar: SidecarTemplate::default(),
            relayed: false,
            wiring: Wiring::default(),
        }
    }
}

impl LabConfig {
    /// The manifests of a folder, which is copied first.
    #[must_use]
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(path.into());
        self
    }

    /// One more manifest file.
    #[must_use]
    pub fn manifest(mut self, file: impl Into<String>, yaml: impl Into<String>) -> Self {
        self.manifests.push((file.into(), yaml.into()));
        self
    }

    /// What enforces; sidecars by default.
    #[must_use]
    pub fn plane(mut self, plane: Plane) -> Self {
        self.plane = plane;
        self
    }

    /// Where the distributor reads the cluster; from the folder by default.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Worker threads of each Envoy; 1 by default.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// How long one probe may take; a second by default.
    #[must_use]
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// How many probes run at the same time; 16 by default.
    #[must_use]
    pub fn probe_width(mut self, width: usize) -> Self {
        self.probe_width = width.max(1);
        self
    }

    /// Starts the distributor with `--enforce-own-node-egress`.
    #[must_use]
    pub fn enforce_own_node_egress(mut self) -> Self {
        self.enforce_own_node_egress = true;
        self
    }

    /// The pods whose TCP connections a node redirects to its Envoy; none by default.
    #[must_use]
    pub fn redirect(mut self, redirect: Redirect) -> Self {
        self.redirect = redirect;
        self
    }

    /// What nodes do with new TCP connections that a policy denies; they drop them by default.
    #[must_use]
    pub fn denied_tcp(mut self, denied_tcp: DeniedTcp) -> Self {
        self.denied_tcp = denied_tcp;
        self
    }

    /// Runs Kubernetes' own kube-proxy on the nodes, which follows the API server as the distributor then does.
    #[must_use]
    pub fn kube_proxy(mut self, mode: KubeProxy) -> Self {
        self.kube_proxy = Some(mode);
        self.source = Source::Kube;
        self
    }

    /// Puts a relay in front of the distributor, as a Service: [`super::Lab::relay`],
    /// [`super::Lab::replica`].
    #[must_use]
    pub fn relayed(mut self) -> Self {
        self.relayed = true;
        self
    }

    /// Hangs the pods of each node on a bridge.
    #[must_use]
    pub fn bridged(mut self) -> Self {
        self.wiring = Wiring::Bridged;
        self
    }

    /// Sidecars that are started with something else than `envoy/sidecar.yaml`.
    #[must_use]
    pub fn sidecar(mut self, template: SidecarTemplate) -> Self {
        self.sidecar = template;
        self
    }
}
