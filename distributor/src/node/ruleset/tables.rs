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
    Action, Body, Element, End, Family, Key, KeyType, Layer, Match, Name, Named, Object, Rule,
    Tally, TallyVerdict, Verdict,
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
    known: HashMap<(Direction, Purpose, u32), Name>,
    /// What was made.
    pub made: MadeTables,
}

/// What was made for a direction and its policies; usually one.
pub(super) type MadeTables = HashMap<(Direction, Purpose, Policies), Vec<Made>>;

/// What a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Packets that it does not allow are dropped.
    Enforce,
    /// Packets that it does not allow are counted and logged, and pass.
    Audit,
}

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
        side: (Direction, Purpose),
        namespace: &str,
        table: TableRules<'_>,
    ) -> Name {
        let (direction, purpose) = side;
        if !table.is_isolated() {
            return purpose.open(direction);
        }
        let key = (direction, purpose, table.id());
        if let Some(chain) = self.known.get(&key) {
            return chain.clone();
        }
        let chain = self.make(objects, side, namespace, table);
        self.known.insert(key, chain.clone());
        chain
    }

    fn make(
        &mut self,
        objects: &mut Objects,
        (direction, purpose): (Direction, Purpose),
        namespace: &str,
        table: TableRules<'_>,
    ) -> Name {
        let policies: Policies = table
            .policies()
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .collect();
        let comment = describe(direction, purpose, &policies);
        let owner = Owner {
            direction,
            purpose,
            namespace: names::piece(namespace),
            hash: names::hash(&format!("{purpose:?}{policies:?}")),
        };
        let key = (direction, purpose, policies);
        let content = self
            .earlier
            .and_then(|earlier| earlier.content(&key, table))
            .filter(|content| objects.adopt(&content.parts))
            .unwrap_or_else(|| Content::new(objects, &owner, &comment, &key.2, table));
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
            &Place {
                owner,
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
    fn content(
        self,
        key: &(Direction, Purpose, Policies),
        table: TableRules<'_>,
    ) -> Option<Content> {
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
        owner: &Owner,
        comment: &Name,
        policies: &Policies,
        table: TableRules<'_>,
    ) -> Self {
        let direction = owner.direction;
        let mut parts = owner.counters(objects, comment, policies);
        let mut classes = HashMap::new();
        let mut class = |id: u32| -> Name {
            let chain = classes.entry(id);
            chain
                .or_insert_with(|| class_chain(objects, &mut parts, owner, &table.class(id)))
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
fn describe(direction: Direction, purpose: Purpose, policies: &[(String, String)]) -> Name {
    let names: Vec<String> = policies
        .iter()
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect();
    let audited = match purpose {
        Purpose::Enforce => "",
        Purpose::Audit => "audited ",
    };
    names::comment(&format!("{audited}{direction} of {}", names.join(", ")))
}

/// Whose table it is: its direction, its purpose and the policies that isolate.
struct Owner {
    direction: Direction,
    purpose: Purpose,
    namespace: String,
    /// Equal for equal policies of one purpose.
    hash: String,
}

impl Purpose {
    /// The chain that allows a side.
    fn open(self, direction: Direction) -> Name {
        match self {
            Self::Enforce => names::of_direction(direction, "_open"),
            Self::Audit => base::PASSES.into(),
        }
    }
}

impl Owner {
    /// What the names of its objects begin with.
    fn prefix(&self) -> String {
        match self.purpose {
            Purpose::Enforce => self.direction.to_string(),
            Purpose::Audit => format!("{}_audited", self.direction),
        }
    }

    fn counter(&self, verdict: TallyVerdict) -> Name {
        let verdict = match verdict {
            TallyVerdict::Allowed => "allowed",
            TallyVerdict::Denied => "denied",
            TallyVerdict::WouldDeny => "would_deny",
        };
        let direction = self.direction;
        format!("{direction}_{verdict}_{}_{}", self.namespace, self.hash).into()
    }

    /// The counters of its policies: one for each verdict that its rules give.
    fn counters(&self, objects: &mut Objects, comment: &Name, policies: &Policies) -> Vec<Named> {
        let verdicts: &[TallyVerdict] = match self.purpose {
            Purpose::Enforce => &[TallyVerdict::Allowed, TallyVerdict::Denied],
            Purpose::Audit => &[TallyVerdict::WouldDeny],
        };
        let counter = |verdict: &TallyVerdict| {
            let tally = Tally {
                direction: self.direction,
                policies: policies
                    .iter()
                    .map(|(namespace, name)| format!("{namespace}/{name}"))
                    .collect(),
                verdict: *verdict,
            };
            let object = Object {
                layer: Layer::Ends,
                comment: Some(comment.clone()),
                body: Body::Counter(Some(Arc::new(tally))),
            };
            (self.counter(*verdict), Arc::new(object))
        };
        let counters: Vec<Named> = verdicts.iter().map(counter).collect();
        // Tables of the same policies share them, so they are there or fit.
        objects.adopt(&counters);
        counters
    }

    fn allow(&self, conditions: Vec<Match>) -> Rule {
        let counts = match self.purpose {
            Purpose::Enforce => vec![
                Action::Count(base::allowed(self.direction).into()),
                Action::Count(self.counter(TallyVerdict::Allowed)),
            ],
            Purpose::Audit => Vec::new(),
        };
        Rule::new(conditions, counts, Verdict::Return)
    }

    fn deny(&self) -> Rule {
        let (verdict, chain) = match self.purpose {
            Purpose::Enforce => (TallyVerdict::Denied, "_drop"),
            Purpose::Audit => (TallyVerdict::WouldDeny, "_audit_record"),
        };
        let count = Action::Count(self.counter(verdict));
        let chain = names::of_direction(self.direction, chain);
        Rule::new(Vec::new(), vec![count], Verdict::Goto(chain))
    }
}

/// Where a table's objects go and what they are called.
struct Place {
    owner: Owner,
    /// Remains when hosts and ranges change.
    identity: String,
    comment: Name,
    exempts_node: bool,
}

fn table_chain(objects: &mut Objects, place: &Place, content: &Content) -> Name {
    let owner = &place.owner;
    let direction = owner.direction;
    let prefix = owner.prefix();
    let peer = End::peer(direction);
    let mut rules = Vec::new();
    if direction == Direction::Egress && place.exempts_node {
        let open = Verdict::Goto(owner.purpose.open(direction));
        rules.push(Rule::new(vec![Match::ToNode], Vec::new(), open));
    }
    for (family, hosts) in Family::ALL.into_iter().zip(&content.hosts) {
        let prefix = names::of_family(format_args!("{prefix}_hosts"), family);
        let name: Name = format!("{prefix}_{}_{}", owner.namespace, place.identity).into();
        objects.insert(name.clone(), Arc::clone(hosts));
        rules.push(Rule::always(Verdict::Lookup(peer, family, name)));
    }
    for (family, ranges) in Family::ALL.into_iter().zip(&content.ranges) {
        if let Some(name) = ranges {
            rules.push(Rule::always(Verdict::Lookup(peer, family, name.clone())));
        }
    }
    rules.push(owner.deny());
    let chain = Object::chain(Layer::Tables, rules).commented(place.comment.clone());
    let (name, _) = objects.intern(format_args!("{prefix}_{}", owner.namespace), chain);
    name
}

/// The chain that allows these ports and drops the rest. What it is made of becomes `parts`.
fn class_chain(
    objects: &mut Objects,
    parts: &mut Vec<Named>,
    owner: &Owner,
    ports: &[PortRange],
) -> Name {
    let class = |objects: &mut Objects, parts: &mut Vec<Named>, rules| {
        let chain = Object::chain(Layer::Classes, rules);
        objects.part(parts, format_args!("{}_class", owner.prefix()), chain)
    };
    if ports.is_empty() {
        return class(objects, parts, vec![owner.deny()]);
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
        return class(objects, parts, vec![owner.allow(Vec::new())]);
    }
    let mut rules = Vec::new();
    let members: Vec<Element> = ports
        .iter()
        .filter_map(|range| Some(Key::Ports(range.protocol?, range.low, range.high)))
        .map(Element::member)
        .collect();
    if !members.is_empty() {
        let set = Object::set(Layer::Ports, KeyType::Ports, false, members);
        let set = objects.part(parts, "ports", set);
        rules.push(owner.allow(vec![Match::PortIn(set)]));
    }
    if is_whole(None) {
        rules.push(owner.allow(vec![Match::ProtocolNotIn(base::ported())]));
    }
    rules.push(owner.deny());
    class(objects, parts, rules)
}
