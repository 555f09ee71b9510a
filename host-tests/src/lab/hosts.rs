//! Everything of a lab that lives in namespaces: the network, the servers, and what enforces.

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::node::NodePlane;
use super::proxy::Proxy;
use super::spec::Party;
use super::world::{Pod, World};
use super::{Error, ranges};
use crate::net::{self, Netns, Topology};
use crate::probe::{Protocol, Server, parallel};

pub(super) use kit::Kit;

/// How many pods are set up at the same time.
const WIDTH: usize = 4;

/// The network with everybody on it.
#[derive(Debug)]
pub(super) struct Hosts {
    kit: Kit,
    world: World,
    sidecars: BTreeMap<String, Arc<Proxy>>,
    /// What enforces on each node that has pods; none in a lab of sidecars.
    nodes: BTreeMap<String, NodePlane>,
    /// The pod ranges that those were told, if nodes enforce.
    ranges: Option<BTreeMap<String, Vec<IpNet>>>,
    /// By namespace, protocol and port.
    servers: BTreeMap<(String, Protocol, u16), Server>,
    externals: BTreeSet<IpAddr>,
    // Dropped last: the others hold on to its namespaces.
    topology: Topology,
}

impl Hosts {
    /// Builds the network with every pod, redirected, its servers up and its sidecar not started.
    /// What enforces on nodes, if they do, is not started either.
    pub(super) fn build(
        kit: Kit,
        world: World,
        has_node_plane: bool,
        wiring: net::Wiring,
    ) -> Result<Self, Error> {
        let plan = net::Plan {
            nodes: world
                .nodes
                .iter()
                .map(|(name, addresses)| net::Node::new(name, addresses.clone()))
                .collect(),
            pods: own_network(&world)
                .map(|(name, pod)| net::Pod::new(name, &pod.node, pod.addresses.clone()))
                .collect(),
            externals: Vec::new(),
            wiring,
        };
        let topology = Topology::build(&plan)?;
        let mut hosts = Self {
            kit,
            world: World::default(),
            sidecars: BTreeMap::new(),
            nodes: BTreeMap::new(),
            ranges: None,
            servers: BTreeMap::new(),
            externals: BTreeSet::new(),
            topology,
        };
        if has_node_plane {
            let ranges = ranges::of(&world)?;
            for name in ranges.keys() {
                let netns = hosts.topology.node(name)?.clone();
                let plane = hosts.kit.node(name, &world.nodes, &ranges, netns)?;
                hosts.nodes.insert(name.clone(), plane);
            }
            hosts.ranges = Some(ranges);
        }
        let names = world.pods.keys().cloned().collect();
        hosts.take_in(world, names)?;
        Ok(hosts)
    }

    /// Makes the network what the manifests say now. Pods that moved are taken down and set up
    /// anew; sidecars of new pods are started.
    pub(super) fn reconcile(&mut self, world: World) -> Result<(), Error> {
        if world.nodes != self.world.nodes || world.pod_cidrs != self.world.pod_cidrs {
            let differs = |name: &&String| {
                world.nodes.get(*name) != self.world.nodes.get(*name)
                    || world.pod_cidrs.get(*name) != self.world.pod_cidrs.get(*name)
            };
            let name = world
                .nodes
                .keys()
                .chain(self.world.nodes.keys())
                .find(differs);
            return Err(Error::NodesChanged(name.cloned().unwrap_or_default()));
        }
        let stays =
            |name: &String, pod: &Pod| world.pods.get(name).is_some_and(|new| pod.can_become(new));
        let gone: Vec<_> = self
            .world
            .pods
            .iter()
            .filter(|(name, pod)| !stays(name, pod))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            self.take_down(name)?;
        }
        let new: BTreeSet<_> = world
            .pods
            .keys()
            .filter(|name| !self.world.pods.contains_key(*name))
            .cloned()
            .collect();
        for name in &new {
            let pod = &world.pods[name];
            if !pod.host_network {
                self.admit(name, pod)?;
                self.topology
                    .add_pod(&net::Pod::new(name, &pod.node, pod.addresses.clone()))?;
            }
        }
        self.take_in(world, new.clone())?;
        for name in &new {
            if let Some(sidecar) = self.sidecars.get(name) {
                sidecar.start()?;
            }
        }
        Ok(())
    }

    /// Nodes that enforce know their pods' ranges from the start: whoever is outside of them would
    /// go unjudged.
    fn admit(&self, name: &str, pod: &Pod) -> Result<(), Error> {
        let Some(ranges) = &self.ranges else {
            return Ok(());
        };
        let ranges = ranges.get(&pod.node).map_or(&[][..], Vec::as_slice);
        let is_inside = |address| ranges.iter().any(|range| range.contains(address));
        if pod.addresses.iter().all(is_inside) {
            return Ok(());
        }
        Err(Error::OutOfRange {
            pod: name.to_owned(),
            node: pod.node.clone(),
        })
    }

    fn take_down(&mut self, name: &str) -> Result<(), Error> {
        self.sidecars.remove(name);
        let netns = self.netns(&Party::Pod(name.to_owned()))?;
        let pod = self.world.pods.remove(name);
        if pod.is_some_and(|pod| !pod.host_network) {
            self.servers.retain(|(host, ..), _| host != netns.name());
            self.topology.remove_pod(name)?;
        }
        Ok(())
    }

    /// Accepts a world whose pods are on the network: translates its Services, and sets up the new
    /// pods and every server.
    fn take_in(&mut self, world: World, new: BTreeSet<String>) -> Result<(), Error> {
        if self.kit.translates && world.dnat() != self.world.dnat() {
            self.topology.set_services(&world.dnat())?;
        }
        self.world = world;
        let mut redirected = Vec::new();
        for name in new {
            let pod = &self.world.pods[&name];
            if pod.sidecar {
                let netns = self.topology.pod(&name)?.clone();
                let sidecar = self.kit.sidecar(&name, pod, netns.clone())?;
                self.sidecars.insert(name.clone(), Arc::new(sidecar));
                redirected.push((name, netns));
            }
        }
        let sidewall = &self.kit.sidewall;
        for done in parallel(&redirected, WIDTH, |(name, netns)| {
            kit::redirect(sidewall, name, netns)
        }) {
            done?;
        }
        let declared = |(name, pod): (&String, &Pod)| {
            let name = name.clone();
            let ports = pod.ports.clone();
            ports
                .into_iter()
                .map(move |port| (name.clone(), port.protocol, port.number))
        };
        let declared: Vec<_> = self.world.pods.iter().flat_map(declared).collect();
        for (name, protocol, port) in declared {
            self.serve(&Party::Pod(name), protocol, port)?;
        }
        Ok(())
    }

    /// What there is.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// The `sidewall` binary.
    pub(super) fn sidewall(&self) -> &Path {
        &self.kit.sidewall
    }

    /// Where the distributor runs.
    pub(super) fn control(&self) -> &Netns {
        self.topology.control()
    }

    /// The sidecars of all pods that have one.
    pub(super) fn sidecars(&self) -> Vec<(String, Arc<Proxy>)> {
        self.sidecars
            .iter()
            .map(|(name, sidecar)| (name.clone(), Arc::clone(sidecar)))
            .collect()
    }

    /// One pod's sidecar.
    pub(super) fn sidecar(&self, pod: &str) -> Result<Arc<Proxy>, Error> {
        self.sidecars.get(pod).cloned().ok_or_else(|| {
            if self.world.pods.contains_key(pod) {
                Error::NoSidecar(pod.to_owned())
            } else {
                Error::Unknown(format!("pod {pod}"))
            }
        })
    }

    /// What enforces on nodes, by their names.
    pub(super) fn nodes(&self) -> &BTreeMap<String, NodePlane> {
        &self.nodes
    }

    /// The namespaces of all nodes, by their names.
    pub(super) fn node_namespaces(&self) -> Result<Vec<(String, Netns)>, Error> {
        let names = self.world.nodes.keys();
        names
            .map(|name| Ok((name.clone(), self.topology.node(name)?.clone())))
            .collect()
    }

    /// What enforces on one node.
    pub(super) fn node(&self, name: &str) -> Result<NodePlane, Error> {
        self.nodes.get(name).cloned().ok_or_else(|| {
            if self.world.nodes.contains_key(name) {
                Error::NoNodePlane(name.to_owned())
            } else {
                Error::Unknown(format!("node {name}"))
            }
        })
    }

    /// The namespace somebody speaks from. A host outside the cluster comes into being by this.
    pub(super) fn netns(&mut self, party: &Party) -> Result<Netns, Error> {
        Ok(match party {
            Party::Node(name) => self.topology.node(name)?.clone(),
            Party::Pod(name) => match self.pod(name)? {
                pod if pod.host_network => self.topology.node(&pod.node)?.clone(),
                _ => self.topology.pod(name)?.clone(),
            },
            Party::External(address) => {
                if self.externals.contains(address) {
                    self.topology.external(&party.to_string())?.clone()
                } else {
                    let netns = self
                        .topology
                        .add_external(&net::External::new(party.to_string(), [*address]))?
                        .clone();
                    self.externals.insert(*address);
                    netns
                }
            }
        })
    }

    /// A pod by name.
    pub(super) fn pod(&self, name: &str) -> Result<&Pod, Error> {
        self.world
            .pods
            .get(name)
            .ok_or_else(|| Error::Unknown(format!("pod {name}")))
    }

    /// Somebody's addresses.
    pub(super) fn addresses(&self, party: &Party) -> Result<Vec<IpAddr>, Error> {
        match party {
            Party::Pod(name) => self.pod(name).map(|pod| pod.addresses.clone()),
            Party::Node(name) => {
                let addresses = self.world.nodes.get(name).cloned();
                addresses.ok_or_else(|| Error::Unknown(format!("node {name}")))
            }
            Party::External(address) => Ok(vec![*address]),
        }
    }

    /// Who has an address; a host outside the cluster if nobody else does.
    pub(super) fn owner(&self, address: IpAddr) -> Party {
        let pod = own_network(&self.world).find(|(_, pod)| pod.addresses.contains(&address));
        let node = || {
            self.world
                .nodes
                .iter()
                .find(|(_, addresses)| addresses.contains(&address))
        };
        match (pod, node()) {
            (Some((name, _)), _) => Party::Pod(name.clone()),
            (None, Some((name, _))) => Party::Node(name.clone()),
            (None, None) => Party::External(address),
        }
    }

    /// Makes sure that somebody serves a port, and returns what the server calls itself.
    pub(super) fn serve(
        &mut self,
        party: &Party,
        protocol: Protocol,
        port: u16,
    ) -> Result<String, Error> {
        let netns = self.netns(party)?;
        let key = (netns.name().to_owned(), protocol, port);
        if !self.servers.contains_key(&key) {
            let server = Server::start(&netns, &format!("{party}:{port}"), protocol, port)?;
            self.servers.insert(key.clone(), server);
        }
        Ok(self.servers[&key].identity().to_owned())
    }

    /// Every server of somebody.
    pub(super) fn servers(&mut self, party: &Party) -> Result<Vec<&Server>, Error> {
        let netns = self.netns(party)?;
        Ok(self
            .servers
            .iter()
            .filter(|((host, ..), _)| host == netns.name())
            .map(|(_, server)| server)
            .collect())
    }
}

/// Pods that do not share their node's network.
fn own_network(world: &World) -> impl Iterator<Item = (&String, &Pod)> {
    world.pods.iter().filter(|(_, pod)| !pod.host_network)
}
