//! The latest snapshot of each recipient, and who is watching it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::snapshots::{Published, Recipient};

/// The senders of all recipients. Locked only for a look-up; watchers wait outside.
#[derive(Debug, Default)]
pub(super) struct Board {
    slots: Mutex<BTreeMap<Recipient, Slot>>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    /// It is one of the cluster's: otherwise the slot lives only as long as its watchers.
    present: bool,
    sender: watch::Sender<Option<Published>>,
}

impl Slot {
    fn new() -> Self {
        Self {
            present: false,
            sender: watch::Sender::new(None),
        }
    }
}

impl Board {
    /// Follows a recipient, known or not yet.
    pub(super) fn subscribe(&self, recipient: &Recipient) -> watch::Receiver<Option<Published>> {
        self.slots()
            .entry(recipient.clone())
            .or_insert_with(Slot::new)
            .sender
            .subscribe()
    }

    /// Everybody who has a snapshot.
    pub(super) fn published(&self) -> Vec<(Recipient, Published)> {
        let with_value = |(recipient, slot): (&Recipient, &Slot)| {
            Some((recipient.clone(), slot.sender.borrow().clone()?))
        };
        self.slots().iter().filter_map(with_value).collect()
    }

    /// Publishes a recipient's snapshot. Returns whether it differs from the last one: equal bytes wake
    /// nobody.
    pub(super) fn publish(&self, recipient: &Recipient, published: Published) -> bool {
        let mut slots = self.slots();
        let slot = slots.entry(recipient.clone()).or_insert_with(Slot::new);
        slot.present = true;
        slot.sender.send_if_modified(|current| {
            let differs = current
                .as_ref()
                .is_none_or(|last| last.bytes != published.bytes);
            if differs {
                *current = Some(published);
            }
            differs
        })
    }

    /// A recipient has gone. Who watches it keeps its last snapshot.
    pub(super) fn retire(&self, recipient: &Recipient) {
        if let Some(slot) = self.slots().get_mut(recipient) {
            slot.present = false;
        }
    }

    /// Forgets those that are gone, or were never known, and that nobody watches any more.
    pub(super) fn sweep(&self) {
        self.slots()
            .retain(|_, slot| slot.present || slot.sender.receiver_count() > 0);
    }

    /// Counts a snapshot that its check refused.
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many are known or watched.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots().len()
    }

    /// The map is whole after every statement that holds it, also when a holder panicked.
    fn slots(&self) -> MutexGuard<'_, BTreeMap<Recipient, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
