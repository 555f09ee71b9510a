//! The whole table as data.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use sidewall_policy::model::{Direction, TcpPath};
use sidewall_policy::snapshot::{PodRules, Snapshot, TableRules};

use super::object::{
    Body, Element, Family, Key, KeyType, Layer, Name, Named, Object, Refusal, Tally,
};
use super::tables::{Earlier, MadeTables, Purpose, Tables};
use super::{base, names, text};

/// What the table depends on beside the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The ranges that this node's pods get their addresses from. Whatever in them is no pod of the
    /// snapshot is closed.
    pub pod_cidrs: Vec<IpNet>,
    /// The ranges of all pods of the cluster, and of its nodes, whose ports lead to pods.
    pub cluster_cidrs: Vec<IpNet>,
    /// Where pods' sidecars find the distributor, as they dial it, before any DNAT. Their egress to
    /// there is always allowed: a sidecar that may not ask for its snapshot would never open, and
    /// never learn that the policy has changed.
    pub control_planes: Vec<SocketAddr>,
    /// Where the node Envoy listens; `None` where none runs, and the kernel decides alone for every pod.
    pub proxy_port: Option<u16>,
    /// The log group that drops are told to.
    pub nflog_group: u16,
    /// What becomes of new TCP connections that a policy denies.
    pub denied_tcp: DeniedTcp,
}

/// What becomes of a new TCP connection that a policy denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DeniedTcp {
    /// The kernel drops its packets: the client tries again until it gives up, and gets through if a policy allows
    /// it meanwhile
    #[default]
    Drop,
    /// The kernel refuses it with a TCP reset, as a closed port does
    Reset,
    /// The kernel refuses it with ICMP "administratively prohibited"
    Prohibited,
}

impl DeniedTcp {
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Drop => None,
            Self::Reset => Some(Refusal::Reset),
            Self::Prohibited => Some(Refusal::Prohibited),
        }
    }
}

/// Everything the table shall hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) objects: BTreeMap<Name, Arc<Object>>,
}

impl Plan {
    /// The table for a node's snapshot; before the first one everything of the pod ranges is
    /// closed.
    pub fn new(settings: &Settings, snapshot: Option<&Snapshot>) -> Self {
        Self::with(settings, snapshot, None).0
    }

    fn with(
        settings: &Settings,
        snapshot: Option<&Snapshot>,
        earlier: Option<Earlier<'_>>,
    ) -> (Self, MadeTables) {
        let mut objects = Objects::default();
        for (name, object) in base::objects(settings) {
            objects.insert(name, object.into());
        }
        let mut pods = Pods::default();
        let mut made = MadeTables::default();
        if let Some(snapshot) = snapshot {
            let mut tables = Tables::new(snapshot.enforces_own_node_egress(), earlier);
            for pod in snapshot.pods() {
                pods.add(&mut objects, &mut tables, settings, &pod);
            }
            made = tables.made;
            if settings.proxy_port.is_some() {
                let addresses = snapshot.service_addresses().into_iter();
                pods.services = addresses
                    .map(|it| Element::member(Key::Address(it)))
                    .collect();
            }
        }
        pods.finish(&mut objects, settings);
        (Self { objects: objects.0 }, made)
    }
}

/// The counters of single policies, by their names in the kernel.
pub(crate) type Tallies = Vec<(Name, Arc<Tally>)>;

impl Plan {
    /// The counters of single policies: one for each table of the snapshot and verdict.
    pub(crate) fn tallies(&self) -> Tallies {
        let tally = |(name, object): (&Name, &Arc<Object>)| match &object.body {
            Body::Counter(Some(tally)) => Some((name.clone(), Arc::clone(tally))),
            _ => None,
        };
        self.objects.iter().filter_map(tally).collect()
    }
}

/// Makes the same plans as [`Plan::new`], and sooner: tables that the snapshot before had, too, are
/// taken from there.
#[derive(Debug, Default)]
pub struct Planner {
    last: Option<(Arc<Snapshot>, MadeTables)>,
}

impl Planner {
    /// The table for a node's snapshot.
    pub fn plan(&mut self, settings: &Settings, snapshot: Option<&Arc<Snapshot>>) -> Plan {
        let earlier = self.last.as_ref();
        let earlier = earlier.map(|(snapshot, made)| Earlier { snapshot, made });
        let (plan, made) = Plan::with(settings, snapshot.map(Arc::as_ref), earlier);
        self.last = snapshot.map(|snapshot| (Arc::clone(snapshot), made));
        plan
    }
}

/// Objects while they are collected.
#[derive(Default)]
pub(super) struct Objects(BTreeMap<Name, Arc<Object>>);

impl Objects {
    /// Adds an object under a name of its own.
    pub fn insert(&mut self, name: Name, object: Arc<Object>) {
        let before = self.0.insert(name, object);
        debug_assert!(before.is_none(), "each name is given once");
    }

    /// Adds an object named by its content, unless it is there already. Different contents never
    /// share a name, even with equal hashes.
    pub fn intern(&mut self, prefix: impl Display, object: Object) -> Named {
        let mut content = String::new();
        text::declare(&mut content, "", &object);
        let mut name: Name = format!("{prefix}_{}", names::hash(&content)).into();
        while self.0.get(&name).is_some_and(|known| **known != object) {
            name = format!("{name}x").into();
        }
        let object = self.0.entry(name.clone()).or_insert(object.into());
        (name, Arc::clone(object))
    }

    /// The same, and remembers it as a part of something.
    pub fn part(&mut self, parts: &mut Vec<Named>, prefix: impl Display, object: Object) -> Name {
        let part = self.intern(prefix, object);
        let name = part.0.clone();
        parts.push(part);
        name
    }

    /// Adds objects that were named by their content before; none of them if that has another name
    /// here.
    pub fn adopt(&mut self, objects: &[Named]) -> bool {
        let fits = |(name, object): &Named| self.0.get(name).is_none_or(|known| known == object);
        let fit = objects.iter().all(fits);
        if fit {
            self.0.extend(objects.iter().cloned());
        }
        fit
    }
}

/// What is looked up by a pod's own address.
#[derive(Default)]
struct Pods {
    egress: Vec<Element>,
    ingress: Vec<Element>,
    audited_egress: Vec<Element>,
    audited_ingress: Vec<Element>,
    proxied: Vec<Element>,
    services: Vec<Element>,
    sidecars: Vec<Element>,
    others: Vec<Element>,
    same: Vec<Element>,
}

impl Pods {
    fn add(
        &mut self,
        objects: &mut Objects,
        tables: &mut Tables<'_>,
        settings: &Settings,
        pod: &PodRules<'_>,
    ) {
        let comment = names::comment(&format!("{}/{}", pod.name.namespace, pod.name.name));
        let mut chain = |direction, purpose, table| {
            tables.chain(objects, (direction, purpose), pod.name.namespace, table)
        };
        let egress = chain(Direction::Egress, Purpose::Enforce, pod.egress);
        let ingress = chain(Direction::Ingress, Purpose::Enforce, pod.ingress);
        let mut audit = |direction, table: Option<_>| {
            let table = table.filter(|table: &TableRules<'_>| table.is_isolated());
            table.map(|table| chain(direction, Purpose::Audit, table))
        };
        let audited_egress = audit(Direction::Egress, pod.audit_egress);
        let audited_ingress = audit(Direction::Ingress, pod.audit_ingress);
        for address in pod.addresses.iter().copied() {
            let entry = |chain: &Name| Element {
                key: Key::Address(address),
                comment: Some(comment.clone()),
                goto: Some(chain.clone()),
            };
            self.egress.push(entry(&egress));
            self.ingress.push(entry(&ingress));
            self.audited_egress
                .extend(audited_egress.as_ref().map(entry));
            self.audited_ingress
                .extend(audited_ingress.as_ref().map(entry));
            let member = Element::member(Key::Address(address));
            match pod.tcp_path {
                TcpPath::NodeProxy => self.proxied.push(member.clone()),
                TcpPath::Sidecar => self.sidecars.push(member.clone()),
                TcpPath::Kernel => {}
            }
            if !settings
                .pod_cidrs
                .iter()
                .any(|cidr| cidr.contains(&address))
            {
                self.others.push(member);
            }
            let of_one_family = |other: &&IpAddr| Family::of(**other) == Family::of(address);
            let pairs = pod.addresses.iter().filter(of_one_family);
            let pairs = pairs.map(|other| Element::member(Key::Pair(address, *other)));
            self.same.extend(pairs);
        }
    }

    fn finish(self, objects: &mut Objects, settings: &Settings) {
        let mut add = |name: &str, key: fn(Family) -> KeyType, is_map, elements: Vec<Element>| {
            for family in Family::ALL {
                let belongs = |element: &&Element| match element.key {
                    Key::Address(ip) | Key::Pair(ip, _) => Family::of(ip) == family,
                    _ => false,
                };
                let elements = elements.iter().filter(belongs).cloned().collect();
                let set = Object::set(Layer::Pods, key(family), is_map, elements);
                objects.insert(names::of_family(name, family), set.into());
            }
        };
        add("egress_pods", KeyType::Address, true, self.egress);
        add("ingress_pods", KeyType::Address, true, self.ingress);
        let (egress, ingress) = (self.audited_egress, self.audited_ingress);
        add("egress_audited_pods", KeyType::Address, true, egress);
        add("ingress_audited_pods", KeyType::Address, true, ingress);
        if settings.proxy_port.is_some() {
            add("proxied", KeyType::Address, false, self.proxied);
            add("services", KeyType::Address, false, self.services);
        }
        add("sidecars", KeyType::Address, false, self.sidecars);
        add("other_pods", KeyType::Address, false, self.others);
        add("same_pod", KeyType::Pair, false, self.same);
    }
}
