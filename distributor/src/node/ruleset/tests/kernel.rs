//! A small nftables: it takes scripts, refuses what the kernel would refuse, and holds objects.
//!
//! It reads by vocabulary: it understands what plans say, in the words in which they say it.

use std::collections::{BTreeMap, HashMap};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use crate::node::ruleset::object::{
    Action, Body, Element, KeyType, Match, Name, Named, Object, Rule, Verdict,
};
use crate::node::ruleset::{Plan, text};

pub(super) type Objects = BTreeMap<Name, Arc<Object>>;

#[derive(Clone, Default)]
pub(super) struct Kernel {
    /// `None` without the table.
    pub objects: Option<Objects>,
    declarations: HashMap<String, Named>,
    rules: HashMap<String, Rule>,
    /// By the type of the set's keys, for an address and a range of one are written alike.
    elements: HashMap<(Discriminant<KeyType>, String), Element>,
}

impl Kernel {
    /// Learns how a plan speaks.
    pub fn learn(&mut self, plan: &Plan) {
        for (name, object) in &plan.objects {
            let mut declaration = String::new();
            text::declare(&mut declaration, name, object);
            self.declarations
                .insert(declaration, (name.clone(), object.clone()));
            match &object.body {
                Body::Counter(_) => {}
                Body::Chain { rules, .. } => {
                    let rules = rules.iter().map(|rule| (rule.to_string(), rule.clone()));
                    self.rules.extend(rules);
                }
                Body::Set { key, elements, .. } => {
                    let word = |each: &Element| (discriminant(key), each.to_string());
                    let elements = elements.iter().map(|each| (word(each), each.clone()));
                    self.elements.extend(elements);
                }
            }
        }
    }

    /// One transaction. All names must resolve at its end, and what is deleted must be unused.
    pub fn run(&mut self, script: &str) {
        let mut lines = script.lines();
        while let Some(line) = lines.next() {
            let words: Vec<&str> = line.split(' ').collect();
            match *words.as_slice() {
                ["table", "inet", "sidewall"] => {
                    self.objects.get_or_insert_default();
                }
                ["table", "inet", "sidewall", "{"] => {
                    self.objects.get_or_insert_default();
                    self.declare(&mut lines);
                }
                ["delete", "table", "inet", "sidewall"] => {
                    assert!(self.objects.take().is_some(), "no table to delete");
                }
                ["add", "element", "inet", "sidewall", set, "{"] => {
                    for text in list(&mut lines) {
                        let (key, _) = self.set(set);
                        let element = self.elements[&(key, text)].clone();
                        let (_, elements) = self.set(set);
                        let place = elements.binary_search_by_key(&element.key, |each| each.key);
                        let place = place.expect_err("the key is there already");
                        elements.insert(place, element);
                    }
                }
                ["delete", "element", "inet", "sidewall", set, "{"] => {
                    for text in list(&mut lines) {
                        let (_, elements) = self.set(set);
                        let place = elements
                            .iter()
                            .position(|each| each.key.to_string() == text);
                        elements.remove(place.expect("no such key"));
                    }
                }
                ["flush", kind, "inet", "sidewall", name] => match self.body(kind, name) {
                    Body::Chain { rules, .. } => rules.clear(),
                    Body::Set { elements, .. } => elements.clear(),
                    Body::Counter(_) => panic!("{line}"),
                },
                ["delete", _, "inet", "sidewall", name] => {
                    // The chain that judges stays; those of redirection go when it is switched off.
                    assert!(name != "prerouting", "{line}");
                    let objects = self.objects.as_mut().unwrap();
                    objects.remove(name);
                    assert!(
                        !references(objects).any(|(_, to)| *to == *name),
                        "{line}: in use"
                    );
                }
                ["add", "rule", "inet", "sidewall", chain, ..] => {
                    let rule = self.rules[&words[5..].join(" ")].clone();
                    match self.body("chain", chain) {
                        Body::Chain { rules, .. } => rules.push(rule),
                        _ => panic!("{line}"),
                    }
                }
                _ => panic!("{line}: what is this?"),
            }
        }
        if let Some(objects) = &self.objects {
            for (from, to) in references(objects) {
                assert!(
                    objects.contains_key(&to),
                    "{from} leads to {to}, which is not there"
                );
            }
        }
    }

    fn declare<'a>(&mut self, lines: &mut impl Iterator<Item = &'a str>) {
        while let Some(head) = lines.next().filter(|line| *line != "}") {
            let mut declaration = format!("{head}\n");
            for line in lines.by_ref() {
                declaration.push_str(&format!("{line}\n"));
                if line == "  }" {
                    break;
                }
            }
            let (name, object) = self.declarations[&declaration].clone();
            let before = self.objects.as_mut().unwrap().insert(name, object);
            assert!(before.is_none(), "{head}: declared twice");
        }
    }

    fn body(&mut self, kind: &str, name: &str) -> &mut Body {
        let objects = self.objects.as_mut().expect("no table");
        let object = objects.get_mut(name);
        let object = object.unwrap_or_else(|| panic!("{kind} {name} is not there"));
        assert_eq!(text::kind(object), kind, "{name}");
        &mut Arc::make_mut(object).body
    }

    fn set(&mut self, set: &str) -> (Discriminant<KeyType>, &mut Vec<Element>) {
        let objects = self.objects.as_mut().expect("no table");
        let object = objects.get_mut(set).map(Arc::make_mut);
        match object.map(|object| &mut object.body) {
            Some(Body::Set { key, elements, .. }) => (discriminant(key), elements),
            _ => panic!("{set} is no set"),
        }
    }

    /// What packets meet for a moment inside the transaction that led from `before` to here: new
    /// rules are in force, elements are not yet.
    pub fn amid(&self, before: &Self) -> Option<Objects> {
        let mut objects = self.objects.clone()?;
        for (name, object) in &mut objects {
            let known = before.objects.as_ref().and_then(|before| before.get(name));
            if let Body::Set { elements, .. } = &mut Arc::make_mut(object).body {
                *elements = match known.map(|object| &object.body) {
                    Some(Body::Set { elements, .. }) => elements.clone(),
                    _ => Vec::new(),
                };
            }
        }
        // Old elements may lead to chains that go in the same transaction.
        for (name, object) in before.objects.iter().flatten() {
            objects
                .entry(name.clone())
                .or_insert_with(|| object.clone());
        }
        Some(objects)
    }
}

/// The items between braces.
fn list<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<String> {
    let items = lines.take_while(|line| *line != "}");
    items
        .map(|item| item.trim().trim_end_matches(',').to_owned())
        .collect()
}

/// Who leads to whom.
pub(super) fn references(objects: &Objects) -> impl Iterator<Item = (&Name, Name)> {
    objects.iter().flat_map(|(from, object)| {
        let to: Vec<Name> = match &object.body {
            Body::Counter(_) => Vec::new(),
            Body::Chain { rules, .. } => rules.iter().flat_map(names).collect(),
            Body::Set { elements, .. } => {
                let chains = elements.iter().filter_map(|each| each.goto.clone());
                chains.collect()
            }
        };
        to.into_iter().map(move |to| (from, to))
    })
}

fn names(rule: &Rule) -> Vec<Name> {
    let matches = rule.matches.iter().filter_map(|each| match each {
        Match::In(_, _, name)
        | Match::PairIn(_, name)
        | Match::PortIn(name)
        | Match::ProtocolNotIn(name) => Some(name.clone()),
        _ => None,
    });
    let counters = rule.actions.iter().filter_map(|action| match action {
        Action::Count(name) => Some(name.clone()),
        _ => None,
    });
    let verdict = match &rule.verdict {
        Verdict::Jump(name) | Verdict::Goto(name) | Verdict::Lookup(_, _, name) => {
            Some(name.clone())
        }
        _ => None,
    };
    matches.chain(counters).chain(verdict).collect()
}
