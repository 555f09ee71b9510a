//! What a folder said last, and how that differs from what it says now.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Files};
use super::surroundings;
use crate::cluster::decode::{self, Loaded};
use crate::cluster::event::{Batch, Event, Kind, Object, ObjectRef, Origin};
use crate::problem::Problem;

/// A folder as it was read last. Reads only when it is told to; knows no clock and no watch.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
    applied: BTreeMap<ObjectRef, Object>,
    reported: BTreeMap<Origin, Vec<Problem>>,
    synced: bool,
}

/// A file as it was read last.
#[derive(Debug, Default)]
struct File {
    /// Its text; `None` while it has never been readable.
    text: Option<String>,
    /// What is in force of it.
    objects: Vec<Object>,
    /// What is wrong with what it says.
    problems: Vec<Problem>,
    /// Why it cannot be read at the moment.
    trouble: Option<Problem>,
}

impl Folder {
    /// A folder that has not been read yet.
    pub fn new(path: &Path) -> Self {
        Self {
            // A watch names what moved by absolute paths.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            files: BTreeMap::new(),
            applied: BTreeMap::new(),
            reported: BTreeMap::new(),
            synced: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads everything and tells what is different since the last time.
    pub fn refresh(&mut self) -> Batch {
        match files::read(&self.path) {
            Ok(found) => {
                self.take(found);
                let mut batch = self.changes();
                if !self.synced {
                    self.synced = true;
                    batch.extend(Kind::ALL.map(Event::Synced));
                }
                batch
            }
            Err(error) => {
                let mut reported = self.reported.clone();
                reported.insert(self.origin(), vec![self.unreadable(&error)]);
                self.reports(reported)
            }
        }
    }

    /// Decodes the files that changed.
    fn take(&mut self, found: Files) {
        self.files.retain(|path, _| found.contains_key(path));
        for (path, contents) in found {
            let name = path.display().to_string();
            self.files.entry(path).or_default().read(&name, contents);
        }
    }

    /// Joins the objects of all files and compares them with what was applied last.
    fn changes(&mut self) -> Batch {
        let mut current: BTreeMap<ObjectRef, (Object, &Path)> = BTreeMap::new();
        let mut reported: BTreeMap<Origin, Vec<Problem>> = BTreeMap::new();
        for (path, file) in &self.files {
            let mut problems = file.problems.clone();
            problems.extend(file.trouble.clone());
            for object in &file.objects {
                match current.entry(object.reference()) {
                    Entry::Vacant(entry) => {
                        entry.insert((object.clone(), path));
                    }
                    Entry::Occupied(entry) => {
                        problems.push(duplicate(entry.key(), entry.get().1, path));
                    }
                }
            }
            if !problems.is_empty() {
                reported.insert(Origin::Source(path.display().to_string().into()), problems);
            }
        }
        let mut current: BTreeMap<ObjectRef, Object> = current
            .into_iter()
            .map(|(reference, (object, _))| (reference, object))
            .collect();
        let missing = surroundings::complete(&mut current);
        if !missing.is_empty() {
            reported.insert(self.origin(), missing);
        }

        let mut batch = Batch::new();
        for reference in self.applied.keys() {
            if !current.contains_key(reference) {
                batch.push(Event::Delete(reference.clone()));
            }
        }
        for (reference, object) in &current {
            if self.applied.get(reference) != Some(object) {
                batch.push(Event::Apply(object.clone()));
            }
        }
        self.applied = current;
        batch.extend(self.reports(reported));
        batch
    }

    /// Compares problems with what was reported last.
    fn reports(&mut self, current: BTreeMap<Origin, Vec<Problem>>) -> Batch {
        let mut batch = Batch::new();
        for origin in self.reported.keys() {
            if !current.contains_key(origin) {
                batch.push(Event::Report(origin.clone(), Vec::new()));
            }
        }
        for (origin, problems) in &current {
            if self.reported.get(origin) != Some(problems) {
                batch.push(Event::Report(origin.clone(), problems.clone()));
            }
        }
        self.reported = current;
        batch
    }

    fn origin(&self) -> Origin {
        Origin::Source(Arc::from(format!("folder {}", self.path.display())))
    }

    fn unreadable(&self, error: &io::Error) -> Problem {
        let consequence = if self.synced {
            "what it said last stays in force; it is picked up again when it is back"
        } else {
            "nothing is published until it can be read"
        };
        Problem {
            object: format!("folder {}", self.path.display()),
            field: String::new(),
            reason: format!("cannot be read: {error}"),
            consequence: consequence.to_owned(),
        }
    }
}

impl File {
    fn read(&mut self, name: &str, contents: io::Result<String>) {
        self.trouble = None;
        match contents {
            Ok(text) if self.text.as_deref() == Some(text.as_str()) => {}
            Ok(text) if text.is_empty() && !self.objects.is_empty() => {
                self.trouble = Some(trouble(
                    name,
                    "has become empty; delete it if it is meant to",
                ));
            }
            Ok(text) => {
                self.load(decode::file(name, &text));
                self.text = Some(text);
            }
            Err(error) => self.trouble = Some(trouble(name, format!("cannot be read: {error}"))),
        }
    }

    /// Takes what a file says. If it says only part of it, what else it held stays in force, and so does a
    /// Service or EndpointSlice that it still names.
    fn load(&mut self, loaded: Loaded) {
        let Loaded {
            unread,
            whole,
            mut stand_ins,
            ..
        } = loaded;
        let mut before = std::mem::replace(&mut self.objects, loaded.objects);
        self.problems = loaded.problems;
        // A policy of which not even the name is known may be one that is in force already.
        let named = |object: &Object| !object.reference().id.name.starts_with('(');
        let nothing_known = before.is_empty();
        stand_ins.retain(|object| nothing_known || named(object));
        before.retain(|object| {
            let reference = object.reference();
            !whole || (reference.kind.outlives_errors() && unread.contains(&reference))
        });
        for object in before.into_iter().chain(stand_ins) {
            let reference = object.reference();
            if self
                .objects
                .iter()
                .all(|each| each.reference() != reference)
            {
                self.objects.push(object);
            }
        }
    }
}

fn trouble(name: &str, reason: impl Into<String>) -> Problem {
    Problem {
        object: format!("file {name}"),
        field: String::new(),
        reason: reason.into(),
        consequence: "what it said last stays in force".to_owned(),
    }
}

fn duplicate(reference: &ObjectRef, used: &Path, other: &Path) -> Problem {
    let (used, other) = (used.display(), other.display());
    Problem {
        object: reference.to_string(),
        field: "metadata.name".to_owned(),
        reason: if used.to_string() == other.to_string() {
            format!("defined twice in {used}")
        } else {
            format!("defined in {used} and again in {other}")
        },
        consequence: format!("only the first one, in {used}, is used"),
    }
}
