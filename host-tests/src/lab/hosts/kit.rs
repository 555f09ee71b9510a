//! What is set up in namespaces: Envoys beside pods and on nodes, agents, and pods' redirection.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use sidewall_distributor::node::ruleset::DeniedTcp;

use super::super::node::{Agent, NodePlane, Place};
use super::super::proxy::Proxy;
use super::super::world::Pod;
use super::super::{Error, LabConfig, SidecarTemplate, control, distributor};
use crate::envoy::{self, Artifact, artifact, template};
use crate::net::Netns;
use crate::sandbox;

/// Where the bootstrap of a node's Envoy listens, `envoy/node.yaml`.
const PROXY_PORT: u16 = 15_100;

/// The files that hosts run, where every user can reach them.
#[derive(Clone, Debug)]
pub(in super::super) struct Kit {
    pub(super) sidewall: PathBuf,
    envoy: PathBuf,
    filter: PathBuf,
    /// A folder for each Envoy and a log of each agent go in here.
    directory: PathBuf,
    workers: u32,
    /// Nodes have Envoys, and agents hand TCP to them.
    redirected: bool,
    denied_tcp: DeniedTcp,
    /// The lab translates Services, where no kube-proxy does.
    pub(super) translates: bool,
    sidecar: SidecarTemplate,
}

impl Kit {
    /// Finds the files and puts them within reach of Envoy's user, who may not enter the
    /// repository.
    pub(in super::super) fn gather(directory: &Path, config: &LabConfig) -> Result<Self, Error> {
        let built = Artifact::Filter.find().map_err(envoy::Error::from)?;
        let sidewall = Artifact::Sidewall.find().map_err(envoy::Error::from)?;
        let envoy =
            artifact::install_envoy(&sandbox::scratch().join("bin")).map_err(envoy::Error::from)?;
        let filter = directory.join("sidewall_filter.wasm");
        fs::copy(&built, &filter).map_err(|source| Error::File {
            step: "copying",
            path: built,
            source,
        })?;
        Ok(Self {
            sidewall,
            envoy,
            filter,
            directory: directory.to_owned(),
            workers: config.workers,
            redirected: config.redirect.has_envoys(),
            denied_tcp: config.denied_tcp,
            translates: config.kube_proxy.is_none(),
            sidecar: config.sidecar.clone(),
        })
    }

    /// A pod's sidecar, not started.
    pub(super) fn sidecar(&self, name: &str, pod: &Pod, netns: Netns) -> Result<Proxy, Error> {
        let address = first(&pod.addresses, || format!("pod {name}"))?;
        self.envoy(
            &self.sidecar.bootstrap,
            &self.sidecar.files,
            control(address.is_ipv4()),
            Seat {
                name: format!("sidecar of {name}"),
                node_id: format!(
                    "sidecar~{address}~{}.{}~cluster.local",
                    pod.name, pod.namespace
                ),
                netns,
                net_admin: false,
                folder: self.directory.join("sidecars").join(name.replace('/', "_")),
            },
        )
    }

    /// What enforces on a node, not started.
    pub(super) fn node(
        &self,
        name: &str,
        nodes: &BTreeMap<String, Vec<IpAddr>>,
        ranges: &BTreeMap<String, Vec<IpNet>>,
        netns: Netns,
    ) -> Result<NodePlane, Error> {
        let addresses = nodes.get(name).map_or(&[][..], Vec::as_slice);
        let address = first(addresses, || format!("node {name}"))?;
        let distributor = control(address.is_ipv4());
        let mut cluster: BTreeSet<_> = ranges.values().flatten().copied().collect();
        cluster.extend(nodes.values().flatten().copied().map(IpNet::from));
        let place = Place {
            node: name,
            distributor: SocketAddr::new(distributor, distributor::XDS_PORT),
            control_planes: [true, false]
                .map(|is_v4| SocketAddr::new(control(is_v4), distributor::XDS_PORT)),
            pod_cidrs: ranges.get(name).map_or(&[], Vec::as_slice),
            cluster_cidrs: &Vec::from_iter(cluster),
            proxy_port: self.redirected.then_some(PROXY_PORT),
            denied_tcp: self.denied_tcp,
        };
        let agent = Agent::new(&place, netns.clone(), &self.sidewall, &self.directory);
        let envoy = || {
            self.envoy(
                template::NODE,
                &[],
                distributor,
                Seat {
                    name: format!("Envoy of node {name}"),
                    node_id: format!("node~{name}"),
                    netns,
                    // It binds its clients' addresses and marks what it sends.
                    net_admin: true,
                    folder: self.directory.join("nodes").join(name),
                },
            )
        };
        let envoy = self.redirected.then(envoy).transpose()?;
        Ok(NodePlane {
            agent: Arc::new(agent),
            envoy: envoy.map(Arc::new),
        })
    }

    fn envoy(
        &self,
        bootstrap: &str,
        files: &[(String, String)],
        distributor: IpAddr,
        seat: Seat,
    ) -> Result<Proxy, Error> {
        let filter = link(&self.filter, &seat.folder)?;
        let values = [
            ("SIDEWALL_HOST", distributor.to_string()),
            ("SIDEWALL_PORT", distributor::XDS_PORT.to_string()),
            ("SIDEWALL_WASM", filter.display().to_string()),
            ("SIDEWALL_FOLDER", seat.folder.display().to_string()),
        ];
        let render = |text: &str| {
            let is_asked_for = |name: &str| text.contains(&format!("${{{name}}}"));
            let values: Vec<_> = values
                .iter()
                .filter(|(name, _)| is_asked_for(name))
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            template::render(text, &values).map_err(envoy::Error::from)
        };
        for (name, text) in files {
            let path = seat.folder.join(name);
            fs::write(&path, render(text)?).map_err(|source| Error::File {
                step: "writing",
                path,
                source,
            })?;
        }
        let bootstrap = render(&template::plaintext(bootstrap))?;
        let Seat {
            name,
            node_id,
            netns,
            net_admin,
            folder,
        } = seat;
        Ok(Proxy::new(envoy::Spec {
            name,
            binary: self.envoy.clone(),
            netns,
            bootstrap,
            node_id,
            workers: self.workers,
            net_admin,
            folder,
        }))
    }
}

/// What tells one Envoy from another.
struct Seat {
    name: String,
    node_id: String,
    netns: Netns,
    net_admin: bool,
    folder: PathBuf,
}

/// The address that somebody is known by: the first, of IPv4 if there is one.
fn first(addresses: &[IpAddr], who: impl FnOnce() -> String) -> Result<IpAddr, Error> {
    let address = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first());
    let address = address.copied();
    address.ok_or_else(|| Error::Unknown(format!("address of {}", who())))
}

/// Makes the filter appear in an Envoy's folder. Each has a link of its own, so that a test can
/// give one of them another file.
fn link(filter: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let path = folder.join("sidewall_filter.wasm");
    let made = fs::create_dir_all(folder).and_then(|()| match symlink(filter, &path) {
        // The folder of a pod of that name that went before.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    });
    match made {
        Ok(()) => Ok(path),
        Err(source) => Err(Error::File {
            step: "linking the filter at",
            path,
            source,
        }),
    }
}

/// Runs `sidewall redirect` in a pod, as its init container would.
pub(super) fn redirect(sidewall: &Path, pod: &str, netns: &Netns) -> Result<(), Error> {
    let output = netns.command(sidewall).arg("redirect").output();
    let output = output.map_err(|source| Error::File {
        step: "starting",
        path: sidewall.to_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Command {
        what: format!("`sidewall redirect` in pod {pod}"),
        status: output.status,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
