//! One direction of a group of pods as chains, sets and maps.
//!
//! ```text
//!  table chain ─▶ hosts map (hash) ──▶ class chain ─▶ set of ports ─▶ return: allowed
//!       │              │ not in it         ▲                └─▶ drop
//!       ├──────────▶ ranges map ───────────┘
//!       └──────────▶ drop
//! ```
//!
//! Tables that are equal share one chain, and so do classes: pods that come and go change elements.

use std::collections::HashMap;
use std::sync::Arc;

use sidewall_policy::model::{Direction, Protocol};
use sidewall_policy::snapshot::{PortRange, Snapshot, TableRules};

use super::object::{
    Action, Element, End, Family, Key, KeyType, Layer, Match, Name, Named, Object, Rule, Verdict,
};
use super::plan::Objects;
use super::{base, names};

/// Adds tables to a plan and remembers which are there.
pub(super) struct Tables<'a> {
    /// Egress to the own node is judged, too.
    enforces_own_node_egress: bool,
    /// The plan before this one.
    earlier: Option<Earlier<'a>>,
    /// The chain of each table of the snapshot.
    known: HashMap<(Direction, u32), Name>,
    /// What was made.
    pub made: MadeTables,
}

/// What was made for a direction and its policies; usually one.
pub(super) type MadeTables = HashMap<(Direction, Policies), Vec<Made>>;

/// Namespaces and names.
type Policies = Vec<(String, String)>;

/// A table of a snapshot in a plan.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// Which it is.
    id: u32,
    content: Content,
    chain: Name,
}

/// What of a table says nothing of where it stands.
#[derive(Clone, Debug)]
struct Content {
    /// From hosts to classes, for each family.
    hosts: [Arc<Object>; 2],
    /// From ranges to classes, for each family that has some.
    ranges: [Option<Name>; 2],
    /// Those maps of ranges, the classes' chains, and their ports.
    parts: Vec<Named>,
}

/// A plan that was made before.
#[derive(Clone, Copy)]
pub(super) struct Earlier<'a> {
    pub snapshot: &'a Snapshot,
    pub made: &'a MadeTables,
}

impl<'a> Tables<'a> {
    /// None yet.
    pub fn new(enforces_own_node_egress: bool, earlier: Option<Earlier<'a>>) -> Self {
        Self {
            enforces_own_node_egress,
            earlier,
            known: HashMap::new(),
            made: HashMap::new(),
        }
    }

    /// The chain that judges a direction of a pod of this namespace.
    pub fn chain(
        &mut self,
        objects: &mut Objects,
        direction: Direction,
        namespace: &str,
        table: TableRules<'_>,
    ) -> Name {
        if !table.is_isolated() {
            return names::of_direction(direction, "_open");
        }
        if let Some(chain) = self.known.get(&(direction, table.id())) {
            return chain.clone();
        }
        let chain = self.make(objects, direction, namespace, table);
        self.known.insert((direction, table.id()), chain.clone());
        chain
    }

    fn make(
        &mut self,
        objects: &mut Objects,
        direction: Direction,
        namespace: &str,
        table: TableRules<'_>,
    ) -> Name {
        let policies: Policies = table
            .policies()
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .collect();
        let comment = describe(direction, &policies);
        let key = (direction, policies);
        let content = self
            .earlier
            .and_then(|earlier| earlier.content(&key, table))
            .filter(|content| objects.adopt(&content.parts))
            .unwrap_or_else(|| Content::new(objects, direction, &comment, table));
        let alike = self.made.entry(key).or_default();
        // Named ports may tell tables of the same policies apart.
        if let Some(known) = alike.iter().find(|known| known.content.is_like(&content)) {
            return known.chain.clone();
        }
        // Pods come in the order of their names, so the first of their tables remains the first.
        let identity = names::hash(&format!(
            "{comment}{:?}{}",
            table.policies().collect::<Vec<_>>(),
            alike.len()
        ));
        let chain = table_chain(
            objects,
            direction,
            &Place {
                namespace: names::piece(namespace),
                identity,
                comment,
                exempts_node: !self.enforces_own_node_egress,
            },
            &content,
        );
        alike.push(Made {
            id: table.id(),
            content,
            chain: chain.clone(),
        });
        chain
    }
}

impl Earlier<'_> {
    /// What was made of a table that said the same.
    fn content(self, key: &(Direction, Policies), table: TableRules<'_>) -> Option<Content> {
        let made = self.made.get(key)?;
        let said_the_same = |made: &&Made| self.snapshot.table(made.id).says_the_same(table);
        made.iter()
            .find(said_the_same)
            .map(|made| made.content.clone())
    }
}

impl Content {
    fn new(
        objects: &mut Objects,
        direction: Direction,
        comment: &Name,
        table: TableRules<'_>,
    ) -> Self {
        let mut parts = Vec::new();
        let mut classes = HashMap::new();
        let mut class = |id: u32| -> Name {
            let chain = classes.entry(id);
            chain
                .or_insert_with(|| class_chain(objects, &mut parts, direction, &table.class(id)))
                .clone()
        };
        let hosts = Family::ALL.map(|family| {
            let hosts = table.hosts().filter(|(ip, _)| Family::of(*ip) == family);
            let entries = hosts.map(|(ip, id)| Element::entry(Key::Address(ip), class(id)));
            let key = KeyType::Address(family);
            let map = Object::set(Layer::Hosts, key, true, entries.collect());
            Arc::new(map.commented(comment.clone()))
        });
        let ranges = Family::ALL.map(|family| {
            let ranges = table.ranges().filter(|(ip, ..)| Family::of(*ip) == family);
            let entries =
                ranges.map(|(first, last, id)| Element::entry(Key::Range(first, last), class(id)));
            (family, entries.collect::<Vec<_>>())
        });
        let ranges = ranges.map(|(family, entries)| {
            (!entries.is_empty()).then(|| {
                let map = Object::set(Layer::Ranges, KeyType::Range(family), true, entries);
                let prefix = names::of_family("ranges", family);
                objects.part(&mut parts, format_args!("{direction}_{prefix}"), map)
            })
        });
        Self {
            hosts,
            ranges,
            parts,
        }
    }

    /// Whether it judges alike: what is named by content is told by its name.
    fn is_like(&self, other: &Self) -> bool {
        self.hosts == other.hosts && self.ranges == other.ranges
    }
}

/// `egress of shop/deny, shop/web`.
fn describe(direction: Direction, policies: &[(String, String)]) -> Name {
    let names: Vec<String> = policies
        .iter()
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect();
    names::comment(&format!("{direction} of {}", names.join(", ")))
}

/// Where a table's objects go and what they are called.
struct Place {
    namespace: String,
    /// Remains when hosts and ranges change.
    identity: String,
    comment: Name,
    exempts_node: bool,
}

fn table_chain(
    objects: &mut Objects,
    direction: Direction,
    place: &Place,
    content: &Content,
) -> Name {
    let peer = End::peer(direction);
    let mut rules = Vec::new();
    if direction == Direction::Egress && place.exempts_node {
        let open = Verdict::Goto(names::of_direction(direction, "_open"));
        rules.push(Rule::new(vec![Match::ToNode], Vec::new(), open));
    }
    for (family, hosts) in Family::ALL.into_iter().zip(&content.hosts) {
        let prefix = names::of_family(format_args!("{direction}_hosts"), family);
        let name: Name = format!("{prefix}_{}_{}", place.namespace, place.identity).into();
        objects.insert(name.clone(), Arc::clone(hosts));
        rules.push(Rule::always(Verdict::Lookup(peer, family, name)));
    }
    for (family, ranges) in Family::ALL.into_iter().zip(&content.ranges) {
        if let Some(name) = ranges {
            rules.push(Rule::always(Verdict::Lookup(peer, family, name.clone())));
        }
    }
    let denied = names::of_direction(direction, "_drop");
    rules.push(Rule::always(Verdict::Goto(denied)));
    let chain = Object::chain(Layer::Tables, rules).commented(place.comment.clone());
    let (name, _) = objects.intern(format_args!("{direction}_{}", place.namespace), chain);
    name
}

/// The chain that allows these ports and drops the rest. What it is made of becomes `parts`.
fn class_chain(
    objects: &mut Objects,
    parts: &mut Vec<Named>,
    direction: Direction,
    ports: &[PortRange],
) -> Name {
    let open = names::of_direction(direction, "_open");
    let denied = names::of_direction(direction, "_drop");
    if ports.is_empty() {
        return denied;
    }
    let is_whole = |protocol: Option<Protocol>| {
        let whole = PortRange {
            protocol,
            low: 0,
            high: u16::MAX,
        };
        ports.contains(&whole)
    };
    if is_whole(None) && Protocol::ALL.into_iter().all(|each| is_whole(Some(each))) {
        return open;
    }
    let allow = |condition| {
        let count = Action::Count(base::allowed(direction));
        Rule::new(vec![condition], vec![count], Verdict::Return)
    };
    let mut rules = Vec::new();
    let members: Vec<Element> = ports
        .iter()
        .filter_map(|range| Some(Key::Ports(range.protocol?, range.low, range.high)))
        .map(Element::member)
        .collect();
    if !members.is_empty() {
        let set = Object::set(Layer::Ports, KeyType::Ports, false, members);
        rules.push(allow(Match::PortIn(objects.part(parts, "ports", set))));
    }
    if is_whole(None) {
        rules.push(allow(Match::ProtocolNotIn(base::ported())));
    }
    rules.push(Rule::always(Verdict::Goto(denied)));
    let chain = Object::chain(Layer::Classes, rules);
    objects.part(parts, format_args!("{direction}_class"), chain)
}
