//! What goes into a snapshot, before it becomes bytes.

use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::{Group, Options, ServiceTable};
use crate::model::{NamespacedName, TcpPath};

/// A pod to judge for.
#[derive(Clone, Debug)]
pub struct SubjectEntry {
    /// Its name.
    pub id: NamespacedName,
    /// The addresses that stand for it.
    pub ips: Vec<IpAddr>,
    /// The addresses of its node (`semantics G9`).
    pub node_addresses: Vec<IpAddr>,
    /// Who carries its TCP.
    pub tcp_path: TcpPath,
    /// Its compiled body. Bodies that are equal are stored once.
    pub group: Arc<Group>,
}

impl SubjectEntry {
    /// The addresses that egress of the subject may always go to, as backends of services too:
    /// its own (`semantics G3`) and, unless it is judged, its node's (`semantics G7`).
    pub(super) fn exempt(&self, options: Options) -> Vec<IpAddr> {
        let mut addresses = self.ips.clone();
        if !options.enforce_own_node_egress {
            addresses.extend(&self.node_addresses);
        }
        addresses
    }
}

/// Subjects that travel together: one pod for a sidecar, all local pods for a node.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub(super) options: Options,
    pub(super) services: Arc<ServiceTable>,
    /// Services whose addresses are written without a verdict.
    pub(super) named: Option<Arc<ServiceTable>>,
    pub(super) subjects: Vec<SubjectEntry>,
}

impl Bundle {
    /// An empty bundle. Every group that is added must have been compiled with these services.
    pub fn new(options: Options, services: Arc<ServiceTable>) -> Self {
        Self {
            options,
            services,
            named: None,
            subjects: Vec::new(),
        }
    }

    /// Writes the addresses of these services into the snapshot, which judges them like all others: for a node, which
    /// must know a service's address when it sees one and judges backends. Replaces the services of [`Bundle::new`].
    pub fn name_services(&mut self, services: Arc<ServiceTable>) {
        self.services = Arc::default();
        self.named = Some(services);
    }

    /// The services that groups are compiled with.
    pub fn services(&self) -> &ServiceTable {
        &self.services
    }

    /// Adds a subject.
    pub fn add(&mut self, subject: SubjectEntry) {
        self.subjects.push(subject);
    }
}
