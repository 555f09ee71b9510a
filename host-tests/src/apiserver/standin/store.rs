//! The objects, their revisions, and the history that watches are served from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::selector::Selector;
use crate::apiserver::answer::{Answer, Refusal};
use crate::apiserver::resource::Resource;

/// How many lists may be half-way through their pages; the oldest is expired first.
const MAX_CONTINUATIONS: usize = 64;

/// Everything there is. One number counts all changes, as in etcd.
#[derive(Debug, Default)]
pub(super) struct Store {
    revision: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Changes up to this revision are forgotten.
    compacted: u64,
    continuations: VecDeque<(u64, Continuation)>,
    /// Of everything that needs a number: uids, addresses of Services.
    serial: u64,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) resource: &'static Resource,
    /// Empty for what lives in none.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    key: Key,
    before: Option<Arc<Value>>,
    /// What it is now, or was last.
    after: Arc<Value>,
    deleted: bool,
}

/// What a watch says of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Added,
    Modified,
    Deleted,
}

/// The rest of a list, as it was when its first page was asked for.
#[derive(Debug)]
struct Continuation {
    revision: u64,
    rest: VecDeque<Arc<Value>>,
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) revision: u64,
    pub(super) items: Vec<Arc<Value>>,
    /// How to ask for the next one, and how much is left.
    pub(super) rest: Option<(String, usize)>,
}

/// Which objects of a kind are meant.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) resource: &'static Resource,
    /// Those of one namespace, or all.
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
}

impl Scope {
    fn holds(&self, key: &Key) -> bool {
        key.resource == self.resource
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == key.namespace)
    }
}

impl Change {
    /// What a watch of this scope says of it. With a selector, what begins to match is new and what
    /// ceases to match is gone.
    pub(super) fn seen_by(&self, scope: &Scope) -> Option<(Verb, &Arc<Value>)> {
        if !scope.holds(&self.key) {
            return None;
        }
        let matched = |object: &Arc<Value>| scope.selector.matches(object);
        let before = self.before.as_ref().is_some_and(matched);
        let after = !self.deleted && matched(&self.after);
        let verb = match (before, after) {
            (false, false) => return None,
            (false, true) => Verb::Added,
            (true, true) => Verb::Modified,
            (true, false) => Verb::Deleted,
        };
        Some((verb, &self.after))
    }
}

impl Store {
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// A number that has not been given out before.
    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn get(&self, key: &Key) -> Answer<&Arc<Value>> {
        self.objects
            .get(key)
            .ok_or_else(|| Refusal::not_found(key.resource, &key.name))
    }

    /// Everything within a scope.
    pub(super) fn all<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects
            .iter()
            .filter(|(key, object)| scope.holds(key) && scope.selector.matches(object))
    }

    /// Where everything in a namespace is.
    pub(super) fn inside(&self, namespace: &str) -> Vec<Key> {
        let keys = self.objects.keys();
        keys.filter(|key| key.namespace == namespace)
            .cloned()
            .collect()
    }

    /// The first page of a list; all of it with a limit of 0.
    pub(super) fn list(&mut self, scope: &Scope, limit: usize) -> Page {
        let rest = self
            .all(scope)
            .map(|(_, object)| Arc::clone(object))
            .collect();
        let revision = self.revision;
        self.page(Continuation { revision, rest }, limit)
    }

    /// The next page. All pages of a list show the same moment.
    pub(super) fn list_on(&mut self, token: &str, limit: usize) -> Answer<Page> {
        let place = self
            .continuations
            .iter()
            .position(|(id, _)| id.to_string() == token);
        match place.and_then(|place| self.continuations.remove(place)) {
            Some((_, continuation)) => Ok(self.page(continuation, limit)),
            None => Err(Refusal::expired(
                "The provided continue parameter is too old to display a consistent list result.",
            )),
        }
    }

    fn page(&mut self, mut continuation: Continuation, limit: usize) -> Page {
        let all = continuation.rest.len();
        let limit = if limit == 0 { all } else { limit.min(all) };
        let items = continuation.rest.drain(..limit).collect();
        let revision = continuation.revision;
        let rest = (!continuation.rest.is_empty()).then(|| {
            let id = self.serial();
            let remaining = continuation.rest.len();
            self.continuations.push_back((id, continuation));
            if self.continuations.len() > MAX_CONTINUATIONS {
                self.continuations.pop_front();
            }
            (id.to_string(), remaining)
        });
        Page {
            revision,
            items,
            rest,
        }
    }

    /// Adds an object that has passed admission.
    pub(super) fn create(&mut self, key: Key, mut object: Value) -> Answer<Arc<Value>> {
        if self.objects.contains_key(&key) {
            return Err(Refusal::already_exists(key.resource, &key.name));
        }
        let uid = format!("51de0a11-0000-4000-8000-{:012x}", self.serial());
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] =
            json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        metadata["generation"] = json!(1);
        Ok(self.write(key, None, object, false))
    }

    /// Puts another object in the place of one. Nothing happens when both are equal.
    pub(super) fn replace(&mut self, key: Key, mut object: Value) -> Answer<Arc<Value>> {
        let before = Arc::clone(self.get(&key)?);
        let given = object["metadata"]["resourceVersion"].as_str();
        let current = before["metadata"]["resourceVersion"].as_str();
        if given.is_some_and(|given| !given.is_empty() && Some(given) != current) {
            return Err(Refusal::conflict(key.resource, &key.name));
        }
        for kept in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
            object["metadata"][kept] = before["metadata"][kept].clone();
        }
        if object == *before {
            return Ok(before);
        }
        if object["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"]
                .as_u64()
                .unwrap_or_default();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        Ok(self.write(key, Some(before), object, false))
    }

    /// Removes an object and says what it was.
    pub(super) fn remove(&mut self, key: Key) -> Answer<Arc<Value>> {
        let before = Arc::clone(self.get(&key)?);
        let object = Value::clone(&before);
        Ok(self.write(key, Some(before), object, true))
    }

    fn write(
        &mut self,
        key: Key,
        before: Option<Arc<Value>>,
        mut object: Value,
        deleted: bool,
    ) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let after = Arc::new(object);
        if deleted {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key.clone(), Arc::clone(&after));
        }
        self.history.push_back(Change {
            revision: self.revision,
            key,
            before,
            after: Arc::clone(&after),
            deleted,
        });
        after
    }

    /// What has changed after a revision.
    pub(super) fn since(&self, revision: u64) -> Answer<impl Iterator<Item = &Change>> {
        if revision < self.compacted {
            return Err(Refusal::expired(format!(
                "too old resource version: {revision} ({})",
                self.compacted
            )));
        }
        let skipped = usize::try_from(revision - self.compacted).unwrap_or(usize::MAX);
        Ok(self.history.iter().skip(skipped))
    }

    /// Forgets how the present state came about: watches and lists that are under way must start
    /// anew.
    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
        self.continuations.clear();
    }

    /// Everything, without order.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.objects.values()
    }

    /// Begins to count anew, as after a backup was put back: clients know of a future that has not been.
    pub(super) fn rewind(&mut self) {
        self.revision = 1;
        self.compact();
    }
}
