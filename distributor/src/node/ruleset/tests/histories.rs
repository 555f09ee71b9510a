//! Random histories of a cluster: objects come, change and go, in any order and more than once, and
//! addresses are used again. After every step all engines say what the reference evaluator says of
//! the cluster as it is, worked out from scratch:
//!
//! ```text
//!  events ──▶ Index ──▶ a sidecar's snapshot ──▶ judge ─────────────┐
//!                  └──▶ a node's bundle ──▶ judge ──────────────────┼─▶ reference::judge
//!                                   └──▶ Plan ──▶ nft table ──▶ walk ┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index as Chosen, select};
use proptest::test_runner::TestCaseResult;
use sidewall_policy::compile::Options;
use sidewall_policy::eval::Flow;
use sidewall_policy::model::{self, Cluster, NamespacedName, Pod, TcpPath};
use sidewall_policy::reference;
use sidewall_policy::snapshot::Snapshot;
use sidewall_policy::verify::verify;

use super::flow::{Aim, Targets, aim};
use super::kernel::Kernel;
use super::packet::{Fate, Packet, walk};
use super::scratch::Objects;
use super::verdicts::{is_redirected_from_source, ranges};
use super::worlds;
use crate::cluster::{EndpointPort, EndpointSlice, Event, Object, ObjectRef, Service, ServicePort};
use crate::cluster::{Kind, Target};
use crate::index::{Change, Index};
use crate::node::ruleset::{DELIVER, Existing, Plan, Planner, install, replace, transition};
use crate::node::seen::{has_ports, within};
use crate::snapshots::Recipient;
use crate::testing::config::tried;

/// The node whose table is looked at.
const NODE: &str = "n1";

/// The path of pods that name none: redirection, which has more rules.
const DEFAULT_PATH: TcpPath = TcpPath::NodeProxy;
/// Flows that are tried after every step.
const FLOWS: usize = 24;

/// Events that an index folds together.
type Step = Vec<Event>;

fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        6 => worlds::pod().prop_map(Object::Pod),
        4 => worlds::policy().prop_map(Object::NetworkPolicy),
        2 => select(&worlds::NAMESPACES[..])
            .prop_flat_map(worlds::namespace)
            .prop_map(Object::Namespace),
        1 => select(&[NODE, "n2"][..]).prop_flat_map(worlds::node).prop_map(Object::Node),
        2 => service().prop_map(Object::Service),
        1 => slice().prop_map(Object::EndpointSlice),
    ]
}

/// The name of the `place`th port of a Service.
fn port_name(place: usize) -> Arc<str> {
    ["", "second"][place.min(1)].into()
}

fn service() -> impl Strategy<Value = Service> {
    let target = prop_oneof![
        select(&[53_u16, 80, 8080][..]).prop_map(Target::Number),
        select(&["http", "dns"][..]).prop_map(|name| Target::Name(name.into())),
    ];
    let selector = option::weighted(0.8, worlds::selector());
    (worlds::service(), selector, target).prop_map(|(service, selector, target)| Service {
        id: service.id,
        cluster_ips: service.cluster_ips,
        external_ips: service.external_ips,
        selector,
        ports: (service.ports.iter().enumerate())
            .map(|(place, port)| ServicePort {
                name: port_name(place),
                protocol: port.protocol,
                port: port.port,
                node_port: port.node_port,
                target: target.clone(),
            })
            .collect(),
    })
}

/// Backends that somebody wrote down, for a Service that may or may not be there.
fn slice() -> impl Strategy<Value = EndpointSlice> {
    (worlds::service(), 0..2u8, any::<bool>()).prop_map(|(service, number, owned)| {
        let name = format!("{}-{number}", service.id.name);
        let backends = service.ports.iter().flat_map(|port| &port.backends);
        let addresses: BTreeSet<IpAddr> = backends.map(|backend| backend.ip).collect();
        let port = |(place, port): (usize, &model::ServicePort)| {
            Some(EndpointPort {
                name: port_name(place),
                protocol: port.protocol,
                port: port.backends.first()?.port,
            })
        };
        EndpointSlice {
            id: NamespacedName::new(service.id.namespace, name),
            service: owned.then_some(service.id.name),
            ports: service.ports.iter().enumerate().filter_map(port).collect(),
            addresses: addresses.into_iter().collect(),
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    (object(), 0..4u8).prop_map(|(object, fate)| match fate {
        0 => Event::Delete(object.reference()),
        _ => Event::Apply(object),
    })
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    // The first step is what a distributor finds when it starts.
    (vec(event(), 8..24), vec(vec(event(), 1..6), 1..6)).prop_map(|(first, mut steps)| {
        steps.insert(0, first);
        steps
    })
}

/// The same step as other watches would have told it: what concerns one object keeps its order,
/// objects change places, and some events come twice.
fn told_otherwise(step: &Step, choices: &[Chosen]) -> Step {
    let mut queues: BTreeMap<ObjectRef, VecDeque<Event>> = BTreeMap::new();
    for event in step {
        let reference = match event {
            Event::Apply(object) => object.reference(),
            Event::Delete(reference) => reference.clone(),
            Event::Synced(_) | Event::Report(..) => continue,
        };
        queues
            .entry(reference)
            .or_default()
            .push_back(event.clone());
    }
    let mut told = Vec::new();
    for choice in choices.iter().cycle() {
        queues.retain(|_, queue| !queue.is_empty());
        if queues.is_empty() {
            break;
        }
        let place = choice.index(queues.len());
        let next = queues.values_mut().nth(place).and_then(VecDeque::pop_front);
        told.extend(next.iter().cloned().cycle().take(1 + choice.index(2)));
    }
    told
}

/// An index and what it has handed out.
struct Distributor {
    index: Index,
    snapshots: BTreeMap<Recipient, Vec<u8>>,
}

impl Distributor {
    fn new(options: Options) -> Self {
        Self {
            index: Index::new(options),
            snapshots: BTreeMap::new(),
        }
    }

    fn hand_out(&mut self) {
        for (recipient, change) in self.index.take_changes() {
            match change {
                Change::Snapshot(bytes) => self.snapshots.insert(recipient, bytes),
                Change::Gone => self.snapshots.remove(&recipient),
            };
        }
    }

    fn snapshot(&self, recipient: &Recipient) -> Option<Snapshot> {
        let bytes = self.snapshots.get(recipient)?;
        Some(Snapshot::check(bytes.clone()).expect("what is handed out is good"))
    }
}

/// The kernel of [`NODE`], brought from one table to the next.
struct Node {
    kernel: Kernel,
    planner: Planner,
    plan: Plan,
}

impl Node {
    fn new() -> Self {
        let plan = Plan::new(&ranges(), None);
        let mut kernel = Kernel::default();
        kernel.learn(&plan);
        for step in install(&plan) {
            kernel.run(&step.script);
        }
        Self {
            kernel,
            planner: Planner::default(),
            plan,
        }
    }

    fn follow(&mut self, snapshot: Option<Snapshot>) {
        let snapshot = snapshot.map(Arc::new);
        let plan = self.planner.plan(&ranges(), snapshot.as_ref());
        let anew = Plan::new(&ranges(), snapshot.as_deref());
        assert_eq!(plan, anew, "what the planner remembers changes nothing");
        self.kernel.learn(&plan);
        for step in transition(&self.plan, &plan) {
            self.kernel.run(&step.script);
        }
        self.plan = plan;
    }

    /// An agent that has just started finds the table and makes it its own.
    fn restart(&mut self, snapshot: Option<&Snapshot>) {
        self.plan = Plan::new(&ranges(), snapshot);
        self.kernel.learn(&self.plan);
        let listing = super::listing::of(self.kernel.objects.as_ref().expect("a table"));
        let found = Existing::parse(&listing).expect("what nft would print");
        for step in replace(&found, &self.plan) {
            self.kernel.run(&step.script);
        }
    }

    fn fate(&self, packet: &Packet) -> Fate {
        let objects = self.kernel.objects.as_ref().expect("a table");
        walk(objects, "prerouting", packet, &mut Vec::new())
    }
}

/// The pod that policies mean by an address.
fn owner(cluster: &Cluster, ip: IpAddr) -> Option<&Pod> {
    let claims = |pod: &&Pod| pod.is_selectable() && pod.ips.contains(&ip);
    let claimants = cluster.pods.values().filter(claims);
    claimants.max_by(|a, b| a.claim().cmp(&b.claim()))
}

/// Every pod that some address stands for.
fn owners(cluster: &Cluster) -> BTreeSet<NamespacedName> {
    let ips = cluster.pods.values().flat_map(|pod| &pod.ips);
    ips.filter_map(|ip| Some(owner(cluster, *ip)?.id.clone()))
        .collect()
}

/// From every pod to its node: by chance that is seldom tried.
fn to_own_nodes(cluster: &Cluster) -> Vec<Flow> {
    let mut flows = Vec::new();
    for pod in cluster.pods.values() {
        let node = pod.node.as_ref().and_then(|node| cluster.nodes.get(node));
        for destination in node.iter().flat_map(|node| &node.addresses) {
            let same_family = |ip: &&IpAddr| ip.is_ipv4() == destination.is_ipv4();
            flows.extend(pod.ips.iter().find(same_family).map(|source| Flow {
                source: *source,
                destination: *destination,
                protocol: 6,
                port: 80,
            }));
        }
    }
    flows
}

/// What becomes of the first packet of a flow at [`NODE`]. `None` for what does not come by there as
/// it is: loopback, what the node itself sends, and what goes to an address of the node that the
/// cluster does not know of. The node leaves what still goes to one of `services` to kube-proxy.
fn expected(
    cluster: &Cluster,
    services: &BTreeSet<IpAddr>,
    options: &Options,
    flow: &Flow,
) -> Option<(Packet, Fate)> {
    let flow = Flow {
        source: flow.source.to_canonical(),
        destination: flow.destination.to_canonical(),
        port: if has_ports(flow.protocol) {
            flow.port
        } else {
            0
        },
        ..*flow
    };
    let (source, destination) = (flow.source, flow.destination);
    let of_node = worlds::node_addresses(NODE);
    let known = cluster.nodes.get(NODE).map(|node| &node.addresses);
    let to_node = of_node.contains(&destination);
    if source.is_loopback()
        || destination.is_loopback()
        || source.is_ipv4() != destination.is_ipv4()
        || of_node.contains(&source)
        || to_node && !known.is_some_and(|known| known.contains(&destination))
    {
        return None;
    }
    let packet = Packet {
        to_node,
        ..Packet::first(source, destination, flow.protocol, flow.port)
    };
    let local = |ip| owner(cluster, ip).filter(|pod| pod.node.as_deref() == Some(NODE));
    let ends = [(source, local(source)), (destination, local(destination))];
    let settings = ranges();
    let is_in_range = |ip: IpAddr| within(&settings.pod_cidrs, ip);
    if ends
        .iter()
        .all(|(ip, pod)| pod.is_none() && !is_in_range(*ip))
    {
        return Some((packet, Fate::Passed));
    }
    let opinion = reference::judge(cluster, options, &flow);
    let sides = [
        (ends[0].1, opinion.egress.as_ref()),
        (ends[1].1, opinion.ingress.as_ref()),
    ];
    let mut judged = sides.iter().filter(|(pod, _)| pod.is_some());
    let is_denied = judged.any(|(_, side)| side.is_some_and(|side| !side.allowed));
    let is_stranger = ends
        .iter()
        .any(|(ip, pod)| pod.is_none() && is_in_range(*ip));
    if is_denied || is_stranger {
        return Some((packet, Fate::Dropped));
    }
    let is_carried = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| {
            let namespace = cluster.namespaces.get(&pod.id.namespace);
            TcpPath::of(pod, namespace, DEFAULT_PATH) == TcpPath::NodeProxy
        })
    };
    let is_self = opinion.whole == Some(reference::Why::SelfTraffic);
    let leaves =
        is_redirected_from_source(&settings, destination) && !services.contains(&destination);
    let is_proxied = flow.protocol == 6
        && !is_self
        && !to_node
        && (is_carried(ends[1].1) || leaves && is_carried(ends[0].1));
    let fate = if is_proxied {
        Fate::Delivered(DELIVER)
    } else {
        Fate::Passed
    };
    Some((packet, fate))
}

/// Holds everything that was handed out, and the node's table, to the reference's opinion.
fn hold(
    cluster: &Cluster,
    options: &Options,
    distributor: &Distributor,
    node: Option<&Node>,
    aims: &[Aim],
) -> TestCaseResult {
    let backends_only = Cluster {
        services: BTreeMap::new(),
        ..cluster.clone()
    };
    let services = cluster.services.values();
    let services = services.flat_map(model::Service::addresses).collect();
    let pods = owners(cluster);
    let targets = Targets::of(cluster);
    let aimed = aims.iter().map(|aim| targets.flow(aim));
    for flow in aimed.chain(to_own_nodes(cluster)) {
        let agree = |cluster: &Cluster, recipient: Recipient, subjects: &BTreeSet<_>| {
            let Some(snapshot) = distributor.snapshot(&recipient) else {
                return Err(TestCaseError::fail(format!("{recipient} has no snapshot")));
            };
            verify(cluster, options, (&snapshot, subjects), &flow)
                .map_err(|error| TestCaseError::fail(format!("{recipient}, {flow:?}: {error}")))
        };
        for end in [flow.source, flow.destination] {
            let Some(pod) = owner(cluster, end.to_canonical()) else {
                continue;
            };
            let sidecar = Recipient::Pod(pod.id.clone());
            agree(cluster, sidecar, &BTreeSet::from([pod.id.clone()]))?;
            if let Some(place) = pod.node.as_ref().filter(|_| options.node_plane) {
                let on_node = |id: &&NamespacedName| cluster.pods[*id].node.as_ref() == Some(place);
                let subjects = pods.iter().filter(on_node).cloned().collect();
                agree(&backends_only, Recipient::Node(place.clone()), &subjects)?;
            }
        }
        if let Some(node) = node
            && let Some((packet, fate)) = expected(&backends_only, &services, options, &flow)
        {
            prop_assert_eq!(node.fate(&packet), fate, "{:?}", packet);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(tried(96))]

    #[test]
    fn after_any_history_every_engine_agrees_with_the_reference(
        history in history(),
        choices in vec(any::<Chosen>(), 16),
        aims in vec(aim(), FLOWS),
        (node_plane, enforce_own_node_egress) in any::<(bool, bool)>(),
    ) {
        let options = Options { node_plane, enforce_own_node_egress, tcp_path: DEFAULT_PATH };
        let place = Recipient::Node(NODE.into());
        let (mut here, mut there) = (Distributor::new(options), Distributor::new(options));
        let mut node = node_plane.then(Node::new);
        let mut objects = Objects::default();
        for step in &history {
            for event in step {
                objects.apply(event.clone());
                here.index.apply(event.clone());
            }
            here.hand_out();
            for event in told_otherwise(step, &choices) {
                there.index.apply(event);
                there.hand_out();
            }
            let cluster = objects.cluster();
            prop_assert_eq!(&here.index.cluster(), &cluster);
            prop_assert_eq!(&here.snapshots, &there.snapshots, "told otherwise");
            let sidecars = here.snapshots.keys().filter_map(|recipient| match recipient {
                Recipient::Pod(pod) => Some(pod.clone()),
                Recipient::Node(_) => None,
            });
            prop_assert_eq!(sidecars.collect::<BTreeSet<_>>(), owners(&cluster));
            if let Some(node) = &mut node {
                node.follow(here.snapshot(&place));
            }
            hold(&cluster, &options, &here, node.as_ref(), &aims)?;
        }

        // Whoever starts now finds the objects in whatever order, and a table from before.
        let mut restarted = Distributor::new(options);
        for object in objects.0.values().rev() {
            restarted.index.apply(Event::Apply(object.clone()));
        }
        for kind in Kind::ALL {
            restarted.index.apply(Event::Synced(kind));
        }
        restarted.hand_out();
        prop_assert_eq!(&restarted.snapshots, &here.snapshots);
        if let Some(node) = &mut node {
            node.restart(restarted.snapshot(&place).as_ref());
            hold(&objects.cluster(), &options, &restarted, Some(node), &aims)?;
        }
    }
}
