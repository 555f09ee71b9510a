//! What is known of the objects of one kind, and how a watch's events change that.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use kube::runtime::watcher;

use crate::cluster::decode::{self, Stored};
use crate::cluster::event::{Batch, Event, Kind, ObjectRef, Origin};

/// The objects of one kind that are applied. Their contents are whose that folds the events.
#[derive(Debug)]
pub(super) struct Mirror {
    kind: Kind,
    applied: BTreeSet<ObjectRef>,
    /// Those with problems.
    reported: BTreeSet<ObjectRef>,
    /// What a list has brought so far.
    listing: Vec<Stored>,
    synced: bool,
}

impl Mirror {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            applied: BTreeSet::new(),
            reported: BTreeSet::new(),
            listing: Vec::new(),
            synced: false,
        }
    }

    /// Whether every object has been listed once.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Takes one event and says what follows from it.
    pub(super) fn take(&mut self, event: watcher::Event<DynamicObject>) -> Batch {
        let mut batch = Batch::new();
        match event {
            // What an earlier list brought before it broke off is void.
            watcher::Event::Init => self.listing = Vec::new(),
            watcher::Event::InitApply(object) => self.listing.push(self.read(object)),
            watcher::Event::InitDone => self.replace(&mut batch),
            watcher::Event::Apply(object) => {
                let stored = self.read(object);
                self.apply(stored, &mut batch);
            }
            watcher::Event::Delete(object) => {
                let reference = self.read(object).reference;
                self.delete(&reference, &mut batch);
            }
        }
        batch
    }

    fn read(&self, object: DynamicObject) -> Stored {
        decode::stored(self.kind, object.metadata, object.data)
    }

    /// The list is complete: what is not in it has gone.
    fn replace(&mut self, batch: &mut Batch) {
        let listed = std::mem::take(&mut self.listing);
        let present: BTreeSet<&ObjectRef> = listed.iter().map(|it| &it.reference).collect();
        let known = self.applied.union(&self.reported);
        let gone: Vec<ObjectRef> = known.filter(|it| !present.contains(it)).cloned().collect();
        for reference in &gone {
            self.delete(reference, batch);
        }
        for stored in listed {
            self.apply(stored, batch);
        }
        if !std::mem::replace(&mut self.synced, true) {
            batch.push(Event::Synced(self.kind));
        }
    }

    fn apply(&mut self, stored: Stored, batch: &mut Batch) {
        let Stored {
            reference,
            object,
            problems,
        } = stored;
        if let Some(object) = object {
            batch.push(Event::Apply(object));
            self.applied.insert(reference.clone());
        } else if !self.kind.outlives_errors() && self.applied.remove(&reference) {
            batch.push(Event::Delete(reference.clone()));
        }
        let had_problems = if problems.is_empty() {
            self.reported.remove(&reference)
        } else {
            !self.reported.insert(reference.clone())
        };
        if had_problems || !problems.is_empty() {
            batch.push(Event::Report(Origin::Object(reference), problems));
        }
    }

    fn delete(&mut self, reference: &ObjectRef, batch: &mut Batch) {
        if self.applied.remove(reference) {
            batch.push(Event::Delete(reference.clone()));
        }
        if self.reported.remove(reference) {
            let origin = Origin::Object(reference.clone());
            batch.push(Event::Report(origin, Vec::new()));
        }
    }
}
