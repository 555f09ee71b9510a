//! From plans to scripts: build what is new, switch to it, delete what is left over.
//!
//! A rule must never lead into a set that is filled in the same transaction: the kernel puts new
//! rules into force a moment before new elements, and packets in between are lost. So what is new
//! is built complete while nothing leads to it, and a second transaction changes the elements that
//! do lead there. Elements change all at once. The table and the chains with hooks are never
//! deleted.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

use super::TABLE;
use super::object::{Body, Element, Key, Layer, Name, Object};
use super::plan::Plan;
use super::text;

/// One transaction: what one `nft -f -` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The commands.
    pub script: String,
    /// The same as data, if it does nothing but delete and add elements of hash sets: the agent sends these to the
    /// kernel by itself, without a process that reads text.
    pub(crate) edits: Option<Vec<Edit>>,
}

/// What changes about the elements of a hash set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The set, or map.
    pub(crate) set: Name,
    /// Deleted first.
    pub(crate) gone: Vec<Key>,
    /// Added then.
    pub(crate) added: Vec<Element>,
}

/// What a transition changes in place.
#[derive(Default)]
struct Switch {
    script: String,
    edits: Vec<Edit>,
    /// Something else than elements of hash sets changes.
    is_more: bool,
}

/// From a host without the table.
pub fn install(plan: &Plan) -> Vec<Step> {
    let (hooked, rest): (Vec<_>, Vec<_>) = plan
        .objects
        .iter()
        .partition(|(_, object)| object.is_hooked());
    steps([block(rest), block(hooked)])
}

/// From one plan to another: the smallest sequence that is safe; none between equal plans.
pub fn transition(old: &Plan, new: &Plan) -> Vec<Step> {
    let mut fresh = Vec::new();
    let mut switch = Switch::default();
    for (name, object) in &new.objects {
        match old.objects.get(name) {
            None => fresh.push((name, object)),
            Some(before) if Arc::ptr_eq(before, object) => {}
            Some(before) => edit(&mut switch, name, before, object),
        }
    }
    let gone = old
        .objects
        .iter()
        .filter(|(name, _)| !new.objects.contains_key(*name));
    let gone: Vec<_> = gone
        .map(|(name, object)| (object.layer, text::kind(object), name))
        .collect();
    let is_in_place = fresh.is_empty() && gone.is_empty();
    let mut steps = steps([block(fresh), switch.script, delete(gone)]);
    if let ([step], true, false) = (&mut steps[..], is_in_place, switch.is_more) {
        step.edits = Some(switch.edits);
    }
    steps
}

impl Step {
    /// Whether the step does nothing but add elements to hash sets.
    fn only_adds(&self) -> bool {
        let edits = self.edits.as_deref();
        edits.is_some_and(|edits| edits.iter().all(|edit| edit.gone.is_empty()))
    }
}

/// Whether the way from one plan to another deletes and replaces nothing. Between snapshots of one structure such a
/// change only adds peers. A change that removes a peer may be the edit of a policy's selector, which the plans
/// cannot tell from the end of a pod.
pub fn only_adds(old: &Plan, new: &Plan) -> bool {
    transition(old, new).iter().all(Step::only_adds)
}

/// Removes the table and everything in it; succeeds without one, too.
pub fn cleanup() -> Step {
    Step {
        script: format!("table inet {TABLE}\ndelete table inet {TABLE}\n"),
        edits: None,
    }
}

/// Those that do something.
pub(super) fn steps<const N: usize>(scripts: [String; N]) -> Vec<Step> {
    let scripts = scripts.into_iter().filter(|script| !script.is_empty());
    scripts
        .map(|script| Step {
            script,
            edits: None,
        })
        .collect()
}

/// Declares objects, top layer first, as one reads them.
pub(super) fn block(mut objects: Vec<(&Name, &Arc<Object>)>) -> String {
    if objects.is_empty() {
        return String::new();
    }
    objects.sort_by_key(|(name, object)| (object.layer, *name));
    let mut script = format!("table inet {TABLE} {{\n");
    for (name, object) in objects {
        text::declare(&mut script, name, object);
    }
    script.push_str("}\n");
    script
}

/// Makes one object of another, in place.
fn edit(switch: &mut Switch, name: &Name, old: &Object, new: &Object) {
    match (&old.body, &new.body) {
        (Body::Chain { rules, .. }, Body::Chain { rules: wanted, .. }) if rules != wanted => {
            switch.is_more = true;
            refill(&mut switch.script, name, new);
        }
        (
            Body::Set { elements, key, .. },
            Body::Set {
                elements: wanted, ..
            },
        ) if elements != wanted => {
            if key.is_interval() {
                switch.is_more = true;
                refill(&mut switch.script, name, new);
            } else {
                let (gone, added) = difference(elements, wanted);
                delete_elements(&mut switch.script, name, &gone);
                add_elements(&mut switch.script, name, &added);
                switch.edits.push(Edit {
                    set: name.clone(),
                    gone: gone.iter().map(|element| element.key).collect(),
                    added: added.into_iter().cloned().collect(),
                });
            }
        }
        _ => {}
    }
}

/// Empties an object and fills it again, in one transaction.
pub(super) fn refill(script: &mut String, name: &Name, object: &Object) {
    let kind = text::kind(object);
    match &object.body {
        Body::Counter(_) => {}
        Body::Chain { rules, .. } => {
            let _ = writeln!(script, "flush {kind} inet {TABLE} {name}");
            for rule in rules {
                let _ = writeln!(script, "add rule inet {TABLE} {name} {rule}");
            }
        }
        Body::Set { elements, .. } => {
            let _ = writeln!(script, "flush {kind} inet {TABLE} {name}");
            add_elements(script, name, &elements.iter().collect::<Vec<_>>());
        }
    }
}

/// What must be deleted and added to turn one list into another, both sorted by key.
fn difference<'a>(old: &'a [Element], new: &'a [Element]) -> (Vec<&'a Element>, Vec<&'a Element>) {
    let (mut gone, mut added) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return (gone, added),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.key.cmp(&after.key),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        if before != after {
            gone.extend(before);
            added.extend(after);
        }
    }
}

fn add_elements(script: &mut String, name: &Name, elements: &[&Element]) {
    if !elements.is_empty() {
        let _ = writeln!(script, "add element inet {TABLE} {name} {{");
        write_list(script, elements.iter().map(ToString::to_string));
        script.push_str("}\n");
    }
}

fn delete_elements(script: &mut String, name: &Name, elements: &[&Element]) {
    if !elements.is_empty() {
        let _ = writeln!(script, "delete element inet {TABLE} {name} {{");
        write_list(script, elements.iter().map(|each| each.key.to_string()));
        script.push_str("}\n");
    }
}

fn write_list(script: &mut String, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("  {item}")).collect();
    let _ = writeln!(script, "{}", items.join(",\n"));
}

/// Deletes objects, each after those that lead to it.
fn delete(mut objects: Vec<(Layer, &'static str, &Name)>) -> String {
    objects.sort_unstable();
    let mut script = String::new();
    for (_, kind, name) in objects {
        let _ = writeln!(script, "delete {kind} inet {TABLE} {name}");
    }
    script
}
