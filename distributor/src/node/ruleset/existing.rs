//! A table that is there already and whose content nobody remembers: after a restart of the agent,
//! or when somebody else changed it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Deserialize;

use super::object::{Body, Name, Object};
use super::plan::Plan;
use super::steps::{self, Step};
use super::{TABLE, text};

/// What `nft -j list table inet sidewall` tells, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// `None` when there is no such table.
    found: Option<BTreeMap<String, Found>>,
}

/// The listing is not what this build understands.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read what `nft -j list table inet {TABLE}` printed: {0}; is this nft of version 1.0 or \
     later?"
)]
pub struct UnreadableListing(#[from] serde_json::Error);

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// The word by which `nft` calls it.
    kind: &'static str,
    /// What cannot be changed in place: a set's type, a chain's hook.
    shape: String,
    /// Rules of a chain, elements of a set.
    size: usize,
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    Chain(Chain),
    Set(Set),
    Map(Set),
    Counter {
        name: String,
    },
    Rule {
        chain: String,
    },
    #[serde(untagged)]
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Chain {
    name: String,
    hook: Option<String>,
    prio: Option<i64>,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    r#type: serde_json::Value,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    elem: Vec<serde::de::IgnoredAny>,
}

impl Existing {
    /// There is no table.
    pub const fn absent() -> Self {
        Self { found: None }
    }

    /// Whether there is no table.
    pub const fn is_absent(&self) -> bool {
        self.found.is_none()
    }

    /// Reads a complete listing (without `--terse`).
    ///
    /// # Errors
    /// When it is not such a listing.
    pub fn parse(json: &str) -> Result<Self, UnreadableListing> {
        let listing: Listing = serde_json::from_str(json)?;
        let mut found = BTreeMap::new();
        let mut rules: BTreeMap<String, usize> = BTreeMap::new();
        for item in listing.nftables {
            let (name, object) = match item {
                Item::Chain(chain) => {
                    let shape = shape_of_chain(chain.hook.as_deref().zip(chain.prio));
                    (chain.name, Found::new("chain", shape, 0))
                }
                Item::Set(set) => set.found("set"),
                Item::Map(set) => set.found("map"),
                Item::Counter { name } => (name, Found::new("counter", String::new(), 0)),
                Item::Rule { chain } => {
                    *rules.entry(chain).or_default() += 1;
                    continue;
                }
                Item::Other(_) => continue,
            };
            found.insert(name, object);
        }
        for (chain, size) in rules {
            if let Some(object) = found.get_mut(&chain) {
                object.size = size;
            }
        }
        Ok(Self { found: Some(found) })
    }

    /// What differs from a plan at first sight, in words: objects that are missing, strange, of
    /// another type, or of another size. Empty for a table that nobody touched. It does not compare
    /// rules and elements one by one.
    pub fn drift(&self, plan: &Plan) -> Vec<String> {
        let Some(found) = &self.found else {
            return vec![format!("table inet {TABLE} is missing")];
        };
        let mut drift = Vec::new();
        for (name, object) in &plan.objects {
            let kind = text::kind(object);
            let wanted = Found::wanted(object);
            match found.get(&**name) {
                None => drift.push(format!("{kind} {name} is missing")),
                Some(there) if !there.is_like(&wanted) => {
                    drift.push(format!("{kind} {name} is of another type"));
                }
                Some(there) if there.size != wanted.size => drift.push(format!(
                    "{kind} {name} has {} entries instead of {}",
                    there.size, wanted.size
                )),
                Some(_) => {}
            }
        }
        let strange = found
            .iter()
            .filter(|(name, _)| !plan.objects.contains_key(name.as_str()));
        drift.extend(strange.map(|(name, there)| format!("{} {name} is strange", there.kind)));
        drift
    }
}

/// From a table with unknown content to a plan, without a moment of less protection than before.
///
/// Objects named by content are filled anew while packets still go the old way, and by the same
/// content if nobody touched them; then everything that is edited in place is filled anew in one
/// transaction; then what is left over goes. Only where an object of one of our names is of another
/// type, which no version of this program makes, the whole table is replaced in one transaction.
pub fn replace(existing: &Existing, new: &Plan) -> Vec<Step> {
    let Some(found) = &existing.found else {
        return steps::install(new);
    };
    let is_alien = |(name, object): (&Name, &Arc<Object>)| {
        let there = found.get(&**name);
        there.is_some_and(|there| !there.is_like(&Found::wanted(object)))
    };
    if new.objects.iter().any(is_alien) {
        let whole = steps::block(new.objects.iter().collect());
        return steps::steps([steps::cleanup().script + &whole]);
    }
    let (mut fresh, mut hooked) = (Vec::new(), Vec::new());
    let (mut build, mut switch) = (String::new(), String::new());
    for (name, object) in &new.objects {
        if !found.contains_key(&**name) {
            if object.is_hooked() {
                hooked.push((name, object));
            } else {
                fresh.push((name, object));
            }
        } else if object.layer.is_named_by_content() {
            steps::refill(&mut build, name, object);
        } else {
            steps::refill(&mut switch, name, object);
        }
    }
    let strange = found
        .iter()
        .filter(|(name, _)| !new.objects.contains_key(name.as_str()));
    steps::steps([
        steps::block(fresh) + &build,
        switch + &steps::block(hooked),
        remove(&strange.collect::<Vec<_>>()),
    ])
}

/// Deletes objects of which only the names are known: first whatever leads to others.
fn remove(objects: &[(&String, &Found)]) -> String {
    let mut script = String::new();
    for (verb, kinds) in [
        ("flush", &["chain", "map"][..]),
        ("delete", &["map", "set"]),
        ("delete", &["chain"]),
        ("delete", &["counter"]),
    ] {
        for (name, object) in objects {
            if kinds.contains(&object.kind) {
                let _ = writeln!(script, "{verb} {} inet {TABLE} {name}", object.kind);
            }
        }
    }
    script
}

impl Found {
    const fn new(kind: &'static str, shape: String, size: usize) -> Self {
        Self { kind, shape, size }
    }

    /// As an object of a plan would be found.
    fn wanted(object: &Object) -> Self {
        let kind = text::kind(object);
        match &object.body {
            Body::Counter(_) => Self::new(kind, String::new(), 0),
            Body::Chain { hook, rules } => {
                let hook = hook.map(|hook| (hook.point, hook.number));
                Self::new(kind, shape_of_chain(hook), rules.len())
            }
            Body::Set { key, elements, .. } => {
                let words = key.words();
                Self::new(
                    kind,
                    shape_of_set(&words, key.is_interval()),
                    elements.len(),
                )
            }
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.kind, &self.shape) == (other.kind, &other.shape)
    }
}

impl Set {
    fn found(self, kind: &'static str) -> (String, Found) {
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let words: Vec<String> = match &self.r#type {
            serde_json::Value::Array(words) => words.iter().map(word).collect(),
            single => vec![word(single)],
        };
        let is_interval = self.flags.iter().any(|flag| flag == "interval");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let shape = shape_of_set(&words, is_interval);
        (self.name, Found::new(kind, shape, self.elem.len()))
    }
}

fn shape_of_chain(hook: Option<(&str, i64)>) -> String {
    hook.map_or_else(String::new, |(point, number)| format!("{point} {number}"))
}

fn shape_of_set(words: &[&str], is_interval: bool) -> String {
    let flags = if is_interval { " interval" } else { "" };
    format!("{}{flags}", words.join(" . "))
}
