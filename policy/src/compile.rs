//! From policies to tables that answer in one look-up, however many policies there are.
//!
//! ```text
//!  policies that select the pods of a group
//!     │ per direction: every peer of every rule
//!     ▼
//!  contributions (rule, ports) on addresses ──pieces──▶ hosts and disjoint ranges ─▶ port classes
//!     │                                                                                │
//!     └────────── services: each backend judged by the finished table ◀────────────────┘
//! ```
//!
//! Pods of one namespace with the same selected policies and the same resolved named ports share
//! one [`Group`]: a thousand replicas compile once. Nothing here depends on time or on the order
//! of its input, so that equal state compiles to equal bytes.

mod group;
mod hosts;
mod pieces;
mod ports;
mod scan;
mod services;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use group::{Group, GroupKey, GroupTables};
pub use hosts::Hosts;
pub(crate) use ports::OTHER_PROTOCOLS;
pub use ports::{PortEntry, PortSpan, protocol_code};
pub use scan::ClusterScan;
pub use services::{Family, JudgedServices, ServiceKey, ServiceTable, ServiceVerdict};
pub(crate) use table::NO_CLASS;
pub use table::{RuleRef, Table};

use crate::model::{Cluster, NamespacedName, Pod, PodPeer, TcpPath};
use crate::snapshot::{Bundle, SubjectEntry, pending_address};

/// Choices that hold for a whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// The node plane stands behind the sidecars, so that a Service with allowed and denied
    /// backends may pass here: the node judges the backend that was really chosen.
    pub node_plane: bool,
    /// Judge egress to the pod's own node instead of always allowing it (`semantics G7`).
    pub enforce_own_node_egress: bool,
    /// The path of pods without a sidecar when neither they nor their namespaces name one.
    pub tcp_path: TcpPath,
}

/// What the compiler asks about pods. An index answers from its caches, [`ClusterScan`] by looking
/// at every pod.
pub trait PodSource {
    /// Visits every selectable pod that a peer of a policy in `namespace` matches.
    fn visit_matching(&self, namespace: &str, peer: &PodPeer, visit: &mut dyn FnMut(&Pod));

    /// Visits every selectable pod of the cluster.
    fn visit_all(&self, visit: &mut dyn FnMut(&Pod));

    /// Whether this selectable pod is the one that an address it claims stands for
    /// (`semantics H7`).
    fn owns(&self, pod: &Pod, ip: IpAddr) -> bool;
}

/// Compiles one bundle from a whole cluster: the straightforward way, without caches.
///
/// Subjects that are unknown, not selectable or without an address are left out: they are closed,
/// for an address that no snapshot knows is denied.
pub fn compile_snapshot(
    cluster: &Cluster,
    subjects: &[NamespacedName],
    options: &Options,
) -> Vec<u8> {
    compile(cluster, subjects, options, |_| None)
}

/// The same for a node: pods that have no address yet are there with their pending address
/// (`semantics H16`).
pub fn compile_node_snapshot(
    cluster: &Cluster,
    subjects: &[NamespacedName],
    options: &Options,
) -> Vec<u8> {
    compile(cluster, subjects, options, |pod| {
        let uid = pod.pending()?;
        Some(pending_address(uid).into())
    })
}

fn compile(
    cluster: &Cluster,
    subjects: &[NamespacedName],
    options: &Options,
    pending: impl Fn(&Pod) -> Option<IpAddr>,
) -> Vec<u8> {
    let scan = ClusterScan::new(cluster);
    let services = Arc::new(ServiceTable::new(cluster.services.values()));
    let mut groups: BTreeMap<GroupKey, Arc<Group>> = BTreeMap::new();
    let mut bundle = Bundle::new(*options, services);
    for pod in subjects.iter().filter_map(|id| cluster.pods.get(id)) {
        let key = GroupKey::of(
            pod,
            cluster.policies.values(),
            cluster.namespaces.get(&pod.id.namespace),
        );
        let group = groups.entry(key).or_insert_with_key(|key| {
            Arc::new(Group::compile(
                key,
                |id| cluster.policies.get(id),
                &scan,
                bundle.services(),
            ))
        });
        let ips: Vec<IpAddr> = pod
            .ips
            .iter()
            .copied()
            .filter(|ip| pod.is_selectable() && scan.owns(pod, *ip))
            .chain(pending(pod))
            .collect();
        if ips.is_empty() {
            continue;
        }
        let node_addresses = pod
            .node
            .as_ref()
            .and_then(|name| cluster.nodes.get(name))
            .map_or_else(Vec::new, |node| node.addresses.clone());
        bundle.add(SubjectEntry {
            id: pod.id.clone(),
            ips,
            node_addresses,
            tcp_path: TcpPath::of(
                pod,
                cluster.namespaces.get(&pod.id.namespace),
                options.tcp_path,
            ),
            group: Arc::clone(group),
        });
    }
    bundle.encode()
}
