//! Services and the backends behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sidewall_policy::compile::ServiceTable;
use sidewall_policy::model::{self, Backend, NamespacedName, Phase, Pod};

use super::in_namespace;
use super::pods::Pods;
use crate::cluster::{EndpointPort, EndpointSlice, Service, ServicePort, Target};

/// Services, EndpointSlices, and what they come to.
#[derive(Debug, Default)]
pub(super) struct Services {
    services: BTreeMap<NamespacedName, Service>,
    slices: BTreeMap<NamespacedName, EndpointSlice>,
    /// The slices of each service, by its name.
    by_service: BTreeMap<NamespacedName, BTreeSet<NamespacedName>>,
    /// Services with the backends that were worked out last.
    resolved: BTreeMap<NamespacedName, model::Service>,
    /// The same as the compiler wants them.
    table: Arc<ServiceTable>,
}

/// What of the table of all services is different now.
#[derive(Debug, Default)]
pub(super) struct TableChange {
    /// More than backends: everybody who judges services has to look at all of them again.
    pub(super) is_laid_out_anew: bool,
    /// Where backends are different.
    pub(super) places: Vec<usize>,
    /// Whose snapshots may depend on those backends whatever its policies say: pods, and the pods
    /// of nodes, that are among them or that the service's addresses belong to.
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl TableChange {
    /// Whether nothing is.
    pub(super) fn is_none(&self) -> bool {
        !self.is_laid_out_anew && self.places.is_empty()
    }
}

impl Services {
    /// The name of every Service.
    pub(super) fn ids(&self) -> impl Iterator<Item = &NamespacedName> {
        self.services.keys()
    }

    /// Adds, replaces or removes a Service.
    pub(super) fn set(&mut self, id: &NamespacedName, service: Option<Service>) {
        match service {
            Some(service) => self.services.insert(id.clone(), service),
            None => self.services.remove(id),
        };
    }

    /// Adds, replaces or removes an EndpointSlice. Returns the services whose backends it changes.
    pub(super) fn set_slice(
        &mut self,
        id: &NamespacedName,
        slice: Option<EndpointSlice>,
    ) -> Vec<NamespacedName> {
        let owner = |slice: &EndpointSlice| {
            let service = slice.service.as_ref()?;
            Some(NamespacedName::new(
                Arc::clone(&slice.id.namespace),
                Arc::clone(service),
            ))
        };
        let now = slice.as_ref().and_then(owner);
        let before = match slice {
            Some(slice) => self.slices.insert(id.clone(), slice),
            None => self.slices.remove(id),
        };
        let before = before.as_ref().and_then(owner);
        if let Some(service) = &before
            && let Some(slices) = self.by_service.get_mut(service)
        {
            slices.remove(id);
            if slices.is_empty() {
                self.by_service.remove(service);
            }
        }
        if let Some(service) = &now {
            let slices = self.by_service.entry(service.clone()).or_default();
            slices.insert(id.clone());
        }
        before.into_iter().chain(now).collect()
    }

    /// The services of a pod's namespace that select it, as it was or as it is.
    pub(super) fn selecting(
        &self,
        namespace: &Arc<str>,
        pods: [Option<&Pod>; 2],
    ) -> Vec<NamespacedName> {
        in_namespace(&self.services, namespace)
            .filter(|(_, service)| {
                let selector = service.selector.as_ref();
                let selects = |pod: &&Pod| selector.is_some_and(|it| it.matches(&pod.labels));
                pods.iter().flatten().any(selects)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Takes in services that were worked out again. Returns what of the table is different now.
    pub(super) fn update(
        &mut self,
        resolved: Vec<(NamespacedName, Option<model::Service>)>,
    ) -> TableChange {
        let mut change = TableChange::default();
        for (id, service) in resolved {
            let known = self.resolved.get(&id);
            if known == service.as_ref() {
                continue;
            }
            if let (Some(old), Some(new)) = (known, &service)
                && let Some(places) = Arc::make_mut(&mut self.table).set_backends(new)
            {
                change.places.extend(places);
                change
                    .addresses
                    .extend([old, new].into_iter().flat_map(touched));
            } else {
                change.is_laid_out_anew = true;
            }
            match service {
                Some(service) => self.resolved.insert(id, service),
                None => self.resolved.remove(&id),
            };
        }
        if change.is_laid_out_anew {
            let table = ServiceTable::new(self.resolved.values());
            change.is_laid_out_anew = !change.places.is_empty() || *self.table != table;
            self.table = Arc::new(table);
        }
        change
    }

    /// Every service port of the cluster.
    pub(super) fn table(&self) -> Arc<ServiceTable> {
        Arc::clone(&self.table)
    }

    /// Works out the backends of a service: those of its EndpointSlices if there are any, else
    /// what the endpoints controller would make of the pods of its namespace.
    pub(super) fn resolve(&self, id: &NamespacedName, pods: &Pods) -> Option<model::Service> {
        let service = self.services.get(id)?;
        let backends = |port: &ServicePort| match self.by_service.get(id) {
            Some(slices) => {
                let slices = slices.iter().filter_map(|slice| self.slices.get(slice));
                of_slices(port, slices)
            }
            None => of_pods(service, port, pods.in_namespace(&id.namespace)),
        };
        Some(model::Service {
            id: id.clone(),
            cluster_ips: service.cluster_ips.clone(),
            external_ips: service.external_ips.clone(),
            ports: service
                .ports
                .iter()
                .map(|port| model::ServicePort {
                    protocol: port.protocol,
                    port: port.port,
                    node_port: port.node_port,
                    backends: backends(port),
                })
                .collect(),
        })
    }
}

/// The addresses whose owners know a service because of who they are.
fn touched(service: &model::Service) -> impl Iterator<Item = IpAddr> {
    let backends = service.ports.iter().flat_map(|port| &port.backends);
    let backends = backends.map(|backend| backend.ip);
    let addresses = service.cluster_ips.iter().chain(&service.external_ips);
    backends.chain(addresses.copied())
}

fn of_slices<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> Vec<Backend> {
    let backends = slices.flat_map(|slice| {
        let leads_here = |it: &&EndpointPort| it.name == port.name && it.protocol == port.protocol;
        slice.ports.iter().filter(leads_here).flat_map(|number| {
            let port = number.port;
            slice
                .addresses
                .iter()
                .map(move |ip| Backend { ip: *ip, port })
        })
    });
    in_order(backends)
}

fn of_pods<'a>(
    service: &Service,
    port: &ServicePort,
    pods: impl Iterator<Item = &'a Pod>,
) -> Vec<Backend> {
    let Some(selector) = &service.selector else {
        return Vec::new();
    };
    let selected = pods.filter(|pod| pod.phase != Phase::Terminal && selector.matches(&pod.labels));
    let backends = selected.flat_map(|pod| {
        let numbers: Vec<u16> = match &port.target {
            Target::Number(number) => vec![*number],
            // The first container's is meant, but which one is first is not known here: all must
            // be allowed.
            Target::Name(name) => pod.resolve_port(name, port.protocol).collect(),
        };
        numbers
            .into_iter()
            .flat_map(|port| pod.ips.iter().map(move |ip| Backend { ip: *ip, port }))
    });
    in_order(backends)
}

/// Sorted and without repetition, so that equal state compiles to equal bytes.
fn in_order(backends: impl Iterator<Item = Backend>) -> Vec<Backend> {
    let mut backends: Vec<Backend> = backends.collect();
    backends.sort_unstable();
    backends.dedup();
    backends
}
