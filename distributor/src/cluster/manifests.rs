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

use std::io;
use std::path::Path;

use sidewall_policy::admit::Surprise;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::decode;
use super::event::{Batch, ObjectRef};
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

/// Reads what is legal in the policies of a folder and may not be what was meant.
///
/// # Errors
/// The folder, or one in it, cannot be listed. A file that cannot be read is left out: [`read`]
/// reports it.
pub fn surprises(folder: &Path) -> io::Result<Vec<(ObjectRef, Surprise)>> {
    let files = files::read(folder)?;
    let readable = files
        .into_iter()
        .filter_map(|(path, text)| Some((path, text.ok()?)));
    Ok(readable
        .flat_map(|(path, text)| decode::file(&path.display().to_string(), &text).surprises)
        .collect())
}

/// Reads a folder once, as the first batch of [`start`] would be.
pub fn read(folder: &Path) -> Batch {
    Folder::new(folder).refresh()
}
