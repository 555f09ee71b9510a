//! What a history leaves behind, worked out from scratch: the last word on each object counts, and
//! backends are looked up among all pods and slices. Nothing of the index is in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sidewall_policy::model::{Backend, Cluster, Phase, Pod, Service, ServicePort};

use crate::cluster::{self, EndpointSlice, Event, Object, ObjectRef, Target};

/// The objects that there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects(pub(super) BTreeMap<ObjectRef, Object>);

impl Objects {
    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Apply(object) => {
                self.0.insert(object.reference(), object);
            }
            Event::Delete(reference) => {
                self.0.remove(&reference);
            }
            Event::Synced(_) | Event::Report(..) => {}
        }
    }

    /// The cluster of these objects.
    pub(super) fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for object in self.0.values().cloned() {
            match object {
                Object::Namespace(each) => {
                    cluster.namespaces.insert(each.name.clone(), each);
                }
                Object::Node(each) => {
                    cluster.nodes.insert(each.name.clone(), each);
                }
                Object::Pod(each) => {
                    cluster.pods.insert(each.id.clone(), each);
                }
                Object::NetworkPolicy(each) => {
                    cluster.policies.insert(each.id.clone(), each);
                }
                Object::Service(each) => {
                    let service = self.resolved(&each);
                    cluster.services.insert(each.id, service);
                }
                Object::EndpointSlice(_) => {}
            }
        }
        cluster
    }

    fn resolved(&self, service: &cluster::Service) -> Service {
        let port = |port: &cluster::ServicePort| ServicePort {
            protocol: port.protocol,
            port: port.port,
            node_port: port.node_port,
            backends: self.backends(service, port),
        };
        Service {
            id: service.id.clone(),
            cluster_ips: service.cluster_ips.clone(),
            external_ips: service.external_ips.clone(),
            ports: service.ports.iter().map(port).collect(),
        }
    }

    fn backends(&self, service: &cluster::Service, port: &cluster::ServicePort) -> Vec<Backend> {
        let slices = self.0.values().filter_map(|object| match object {
            Object::EndpointSlice(slice) => Some(slice),
            _ => None,
        });
        let is_its = |slice: &&EndpointSlice| {
            slice.id.namespace == service.id.namespace
                && slice.service.as_ref() == Some(&service.id.name)
        };
        let slices: Vec<&EndpointSlice> = slices.filter(is_its).collect();
        let mut found = Vec::new();
        for slice in &slices {
            for end in &slice.ports {
                if end.name == port.name && end.protocol == port.protocol {
                    found.extend(at(&slice.addresses, end.port));
                }
            }
        }
        if slices.is_empty() {
            for pod in self.pods() {
                let is_selected = pod.id.namespace == service.id.namespace
                    && pod.phase != Phase::Terminal
                    && (service.selector.as_ref()).is_some_and(|it| it.matches(&pod.labels));
                if !is_selected {
                    continue;
                }
                match &port.target {
                    Target::Number(number) => found.extend(at(&pod.ips, *number)),
                    Target::Name(name) => {
                        for number in pod.resolve_port(name, port.protocol) {
                            found.extend(at(&pod.ips, number));
                        }
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.0.values().filter_map(|object| match object {
            Object::Pod(pod) => Some(pod),
            _ => None,
        })
    }
}

fn at(addresses: &[IpAddr], port: u16) -> impl Iterator<Item = Backend> {
    addresses.iter().map(move |ip| Backend { ip: *ip, port })
}
