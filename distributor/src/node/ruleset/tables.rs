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

use sidewall_policy::model::{Direction, Protocol};
use sidewall_policy::snapshot::{PortRange, TableRules};

use super::object::{
    Action, Element, End, Family, Key, KeyType, Layer, Match, Name, Object, Rule, Verdict,
};
use super::plan::Objects;
use super::{base, names};

/// Adds tables to a plan and remembers which are there.
pub(super) struct Tables {
    /// Egress to the own node is judged, too.
    enforces_own_node_egress: bool,
    /// The chain of each table of the snapshot.
    known: HashMap<(Direction, u32), Name>,
    /// What was made for a direction and its policies; usually one.
    made: HashMap<(Direction, Policies), Vec<(Content, Name)>>,
}

/// Namespaces and names.
type Policies = Vec<(String, String)>;

/// What tells tables of the same policies apart: named ports may differ.
#[derive(PartialEq)]
struct Content {
    hosts: Vec<Element>,
    ranges: Vec<Element>,
}

impl Tables {
    /// None yet.
    pub fn new(enforces_own_node_egress: bool) -> Self {
        Self {
            enforces_own_node_egress,
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
        let mut classes = HashMap::new();
        let mut class = |class: u32| -> Name {
            let chain = classes.entry(class);
            chain
                .or_insert_with(|| class_chain(objects, direction, &table.class(class)))
                .clone()
        };
        let hosts = table.hosts();
        let ranges = table.ranges();
        let mut content = Content {
            hosts: hosts
                .map(|(ip, id)| Element::entry(Key::Address(ip), class(id)))
                .collect(),
            ranges: ranges
                .map(|(first, last, id)| Element::entry(Key::Range(first, last), class(id)))
                .collect(),
        };
        content.hosts.sort_unstable_by_key(|element| element.key);

        let policies: Policies = table
            .policies()
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .collect();
        let comment = describe(direction, &policies);
        let alike = self.made.entry((direction, policies)).or_default();
        if let Some((_, chain)) = alike.iter().find(|(known, _)| *known == content) {
            return chain.clone();
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
        alike.push((content, chain.clone()));
        chain
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
    for family in Family::ALL {
        let prefix = names::of_family(format_args!("{direction}_hosts"), family);
        let name: Name = format!("{prefix}_{}_{}", place.namespace, place.identity).into();
        let key = KeyType::Address(family);
        let hosts = Object::set(Layer::Hosts, key, true, of(family, &content.hosts))
            .commented(place.comment.clone());
        objects.insert(name.clone(), hosts);
        rules.push(Rule::always(Verdict::Lookup(peer, family, name)));
    }
    for family in Family::ALL {
        let ranges = of(family, &content.ranges);
        if ranges.is_empty() {
            continue;
        }
        let map = Object::set(Layer::Ranges, KeyType::Range(family), true, ranges);
        let prefix = names::of_family("ranges", family);
        let name = objects.intern(format_args!("{direction}_{prefix}"), map);
        rules.push(Rule::always(Verdict::Lookup(peer, family, name)));
    }
    let denied = names::of_direction(direction, "_drop");
    rules.push(Rule::always(Verdict::Goto(denied)));
    let chain = Object::chain(Layer::Tables, rules).commented(place.comment.clone());
    objects.intern(format_args!("{direction}_{}", place.namespace), chain)
}

fn of(family: Family, elements: &[Element]) -> Vec<Element> {
    let belongs = |element: &&Element| match element.key {
        Key::Address(ip) | Key::Range(ip, _) => Family::of(ip) == family,
        _ => false,
    };
    elements.iter().filter(belongs).cloned().collect()
}

/// The chain that allows these ports and drops the rest.
fn class_chain(objects: &mut Objects, direction: Direction, ports: &[PortRange]) -> Name {
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
        rules.push(allow(Match::PortIn(objects.intern("ports", set))));
    }
    if is_whole(None) {
        rules.push(allow(Match::ProtocolNotIn(base::ported())));
    }
    rules.push(Rule::always(Verdict::Goto(denied)));
    let chain = Object::chain(Layer::Classes, rules);
    objects.intern(format_args!("{direction}_class"), chain)
}
