//! A folder of manifests as the state of a cluster: read, watched, and applied live.
//!
//! ```text
//!  notify ──something moved──▶ watch ──(it settled)──▶ folder: read all, compare, diff ──▶ batch
//! ```
//!
//! The folder stands for the whole cluster: what is in it exists, what is not does not. A folder or
//! a file that cannot be read keeps what it said last, for an outage of the storage must not open
//! anything. Contents are compared, not times, so that a mounted ConfigMap, whose files are links
//! that are switched all at once, needs no special care; names that begin with a dot are left out,
//! as are files that are neither `.yaml`, `.yml`, `.json` nor without extension.

mod files;
mod folder;
mod surroundings;
#[cfg(test)]
mod tests;
mod watch;

use std::path::Path;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::event::Batch;
pub use folder::Folder;

/// How many changes may wait for whoever folds them before reading stops.
const QUEUE: usize = 16;

/// Follows a folder until `cancellation` says so. The first batch that could be read in full ends
/// with [`super::Event::Synced`] for every kind.
///
/// Must be called within a tokio runtime.
pub fn start(folder: &Path, cancellation: CancellationToken) -> mpsc::Receiver<Batch> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(watch::run(Folder::new(folder), sender, cancellation));
    receiver
}

/// Reads a folder once, as the first batch of [`start`] would be.
pub fn read(folder: &Path) -> Batch {
    Folder::new(folder).refresh()
}
