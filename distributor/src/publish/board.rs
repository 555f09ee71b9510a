//! The latest snapshot of each pod, and who is watching it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidewall_policy::model::NamespacedName;
use tokio::sync::watch;

use crate::snapshots::Published;

/// The senders of all pods. Locked only for a look-up; watchers wait outside.
#[derive(Debug, Default)]
pub(super) struct Board {
    slots: Mutex<BTreeMap<NamespacedName, Slot>>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    /// The pod is one of the cluster's: otherwise the slot lives only as long as its watchers.
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
    /// Follows a pod, known or not yet.
    pub(super) fn subscribe(&self, pod: &NamespacedName) -> watch::Receiver<Option<Published>> {
        self.slots()
            .entry(pod.clone())
            .or_insert_with(Slot::new)
            .sender
            .subscribe()
    }

    /// Every pod that has a snapshot.
    pub(super) fn published(&self) -> Vec<(NamespacedName, Published)> {
        let with_value = |(pod, slot): (&NamespacedName, &Slot)| {
            Some((pod.clone(), slot.sender.borrow().clone()?))
        };
        self.slots().iter().filter_map(with_value).collect()
    }

    /// Publishes a pod's snapshot. Returns whether it differs from the last one: equal bytes wake
    /// nobody.
    pub(super) fn publish(&self, pod: &NamespacedName, published: Published) -> bool {
        let mut slots = self.slots();
        let slot = slots.entry(pod.clone()).or_insert_with(Slot::new);
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

    /// A pod has gone. Who watches it keeps its last snapshot.
    pub(super) fn retire(&self, pod: &NamespacedName) {
        if let Some(slot) = self.slots().get_mut(pod) {
            slot.present = false;
        }
    }

    /// Forgets pods that are gone, or were never known, and that nobody watches any more.
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

    /// How many pods are known or watched.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots().len()
    }

    /// The map is whole after every statement that holds it, also when a holder panicked.
    fn slots(&self) -> MutexGuard<'_, BTreeMap<NamespacedName, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
