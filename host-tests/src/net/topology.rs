//! The network itself: namespaces and lines, made from a plan and changed while it runs.

mod batches;
mod key;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use self::batches::Batches;
use self::key::{Key, Kind, control_key, file_name, label};
use super::link::{self, Line};
use super::{Error, External, Netns, Plan, Pod, Service, Wiring, command, service};

/// The control host's IPv4 address, in the range for benchmarks of network devices.
pub const CONTROL_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The control host's IPv6 address.
pub const CONTROL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5157, 0, 0, 0, 0, 0, 1);

/// Numbers the topologies of this process, for several may exist at once.
static TOPOLOGIES: AtomicUsize = AtomicUsize::new(0);

/// A running network. It goes away when dropped, except for namespaces somebody else still holds.
#[derive(Debug)]
pub struct Topology {
    /// Begins the names of its namespaces.
    label: String,
    /// How many hosts it ever had, so that names are never used twice.
    made: usize,
    router: Netns,
    hosts: BTreeMap<Key, Host>,
    owners: BTreeMap<IpAddr, Key>,
    wiring: Wiring,
}

/// Somebody at the end of a line.
#[derive(Debug)]
struct Host {
    netns: Netns,
    addresses: Vec<IpAddr>,
    /// The line's name in its hub.
    device: String,
    /// The node that is the hub; the router for all but pods.
    node: Option<Key>,
}

impl Topology {
    /// Brings a whole network up.
    ///
    /// # Errors
    ///
    /// Fails when names or addresses collide, a pod names no node, or the system refuses; what was
    /// made by then is removed again.
    pub fn build(plan: &Plan) -> Result<Self, Error> {
        let label = format!("lab{}", TOPOLOGIES.fetch_add(1, Ordering::Relaxed));
        let router = Netns::create_forwarding(&format!("{label}-router"))?;
        let mut topology = Self {
            label,
            made: 0,
            router,
            hosts: BTreeMap::new(),
            owners: BTreeMap::new(),
            wiring: plan.wiring,
        };
        let mut batches = Batches::default();
        topology.plan(
            control_key(),
            &[CONTROL_V4.into(), CONTROL_V6.into()],
            None,
            &mut batches,
        )?;
        for node in &plan.nodes {
            topology.plan(
                (Kind::Node, node.name.clone()),
                &node.addresses,
                None,
                &mut batches,
            )?;
        }
        for external in &plan.externals {
            topology.plan(
                (Kind::External, external.name.clone()),
                &external.addresses,
                None,
                &mut batches,
            )?;
        }
        for pod in &plan.pods {
            topology.plan(
                (Kind::Pod, pod.name.clone()),
                &pod.addresses,
                Some(&pod.node),
                &mut batches,
            )?;
        }
        batches.run()?;
        Ok(topology)
    }

    /// The host of the lab's own programs: reachable from everywhere at [`CONTROL_V4`] and
    /// [`CONTROL_V6`], and no part of the cluster.
    #[must_use]
    pub fn control(&self) -> &Netns {
        &self.hosts[&control_key()].netns
    }

    /// A node's namespace.
    ///
    /// # Errors
    ///
    /// Fails when there is no such node.
    pub fn node(&self, name: &str) -> Result<&Netns, Error> {
        self.host(&(Kind::Node, name.to_owned()))
            .map(|host| &host.netns)
    }

    /// A pod's namespace.
    ///
    /// # Errors
    ///
    /// Fails when there is no such pod.
    pub fn pod(&self, name: &str) -> Result<&Netns, Error> {
        self.host(&(Kind::Pod, name.to_owned()))
            .map(|host| &host.netns)
    }

    /// An external host's namespace.
    ///
    /// # Errors
    ///
    /// Fails when there is no such host.
    pub fn external(&self, name: &str) -> Result<&Netns, Error> {
        self.host(&(Kind::External, name.to_owned()))
            .map(|host| &host.netns)
    }

    /// Adds a pod.
    ///
    /// # Errors
    ///
    /// As [`Topology::build`].
    pub fn add_pod(&mut self, pod: &Pod) -> Result<&Netns, Error> {
        self.add(
            &(Kind::Pod, pod.name.clone()),
            &pod.addresses,
            Some(&pod.node),
        )
    }

    /// Adds a host outside the cluster.
    ///
    /// # Errors
    ///
    /// As [`Topology::build`].
    pub fn add_external(&mut self, external: &External) -> Result<&Netns, Error> {
        self.add(
            &(Kind::External, external.name.clone()),
            &external.addresses,
            None,
        )
    }

    /// Removes a pod: its line and routes at once, its namespace with the last handle on it. Its
    /// name and addresses are free again afterwards.
    ///
    /// # Errors
    ///
    /// Fails when there is no such pod or the system refuses.
    pub fn remove_pod(&mut self, name: &str) -> Result<(), Error> {
        let key = (Kind::Pod, name.to_owned());
        let pod = self.host(&key)?;
        let mut batches = Batches::default();
        batches.router(&self.router, &link::no_routes_to(&pod.addresses));
        if let Some(node) = &pod.node {
            let mut script = format!("link del {}\n", pod.device);
            if self.wiring == Wiring::Bridged {
                script.push_str(&link::no_routes_by_bridge(&pod.addresses));
            }
            batches.node(&self.host(node)?.netns, &script);
        }
        batches.run()?;
        self.forget(&key);
        Ok(())
    }

    /// Replaces all Services on every node, in one transaction a node. Connections that were
    /// translated before keep their backend.
    ///
    /// # Errors
    ///
    /// Fails when `nft` refuses.
    pub fn set_services(&self, services: &[Service]) -> Result<(), Error> {
        let mut running = Vec::new();
        for ((kind, _), host) in &self.hosts {
            if *kind == Kind::Node {
                let mut nft = host.netns.command("nft");
                nft.args(["-f", "-"]);
                running.push(command::start(
                    nft,
                    service::rules(services, &host.addresses),
                )?);
            }
        }
        running
            .into_iter()
            .try_for_each(|nft| nft.wait().map_err(Error::from))
    }

    fn host(&self, key: &Key) -> Result<&Host, Error> {
        self.hosts
            .get(key)
            .ok_or_else(|| Error::Unknown { host: label(key) })
    }

    fn add(
        &mut self,
        key: &Key,
        addresses: &[IpAddr],
        node: Option<&str>,
    ) -> Result<&Netns, Error> {
        let mut batches = Batches::default();
        self.plan(key.clone(), addresses, node, &mut batches)?;
        if let Err(error) = batches.run() {
            self.forget(key);
            return Err(error);
        }
        self.host(key).map(|host| &host.netns)
    }

    /// Enters a host into the books, makes its namespace and writes down what `ip` is to do.
    fn plan(
        &mut self,
        key: Key,
        addresses: &[IpAddr],
        node: Option<&str>,
        batches: &mut Batches,
    ) -> Result<(), Error> {
        self.admit(&key, addresses)?;
        self.made += 1;
        let node = node.map(|name| (Kind::Node, name.to_owned()));
        let hub = node.as_ref().map(|node| self.host(node)).transpose()?;

        let device = format!("{}{}", key.0.prefix(), self.made);
        let name = format!("{}-{}-{}", self.label, self.made, file_name(&key.1));
        let netns = match (key.0, self.wiring) {
            (Kind::Node, Wiring::Routed) => Netns::create_forwarding(&name)?,
            (Kind::Node, Wiring::Bridged) => Netns::create_bridging(&name)?,
            _ => Netns::create(&name)?,
        };

        let line = Line {
            device: &device,
            leaf: netns.name(),
            addresses,
            gateway: key.0.gateway(),
            bridged: key.0 == Kind::Pod && self.wiring == Wiring::Bridged,
        };
        match hub {
            Some(hub) => {
                batches.router(&self.router, &link::routes_to(addresses, &hub.device));
                batches.node(&hub.netns, &line.at_hub(&hub.addresses));
            }
            None => batches.router(&self.router, &line.at_hub(&[])),
        }
        if key.0 == Kind::Node {
            batches.node(&netns, &line.at_leaf());
            if self.wiring == Wiring::Bridged {
                batches.node(&netns, &link::bridge());
            }
        } else {
            batches.leaf(&netns, &line.at_leaf());
        }
        self.owners
            .extend(addresses.iter().map(|address| (*address, key.clone())));
        self.hosts.insert(
            key,
            Host {
                netns,
                addresses: addresses.to_vec(),
                device,
                node,
            },
        );
        Ok(())
    }

    /// Checks a name and addresses before anything is made of them.
    fn admit(&self, key: &Key, addresses: &[IpAddr]) -> Result<(), Error> {
        let host = label(key);
        if self.hosts.contains_key(key) {
            return Err(Error::Exists { host });
        }
        if addresses.is_empty() {
            return Err(Error::NoAddress { host });
        }
        for address in addresses {
            if let Some(owner) = self.owners.get(address) {
                return Err(Error::AddressTaken {
                    host,
                    address: *address,
                    owner: label(owner),
                });
            }
        }
        Ok(())
    }

    fn forget(&mut self, key: &Key) {
        self.hosts.remove(key);
        self.owners.retain(|_, owner| owner != key);
    }
}
