//! Notices that something in a folder moved, waits until it settles, and has it read again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::folder::Folder;
use crate::cluster::event::Batch;

/// How long a folder must be still before it is read: `kubectl cp`, editors and `git` move several
/// files within microseconds of each other.
const SETTLE: Duration = Duration::from_millis(5);

/// How long a file that is being written may keep the folder from being read: half of a file may
/// well be YAML, in which the other half's policies are missing. Whoever writes for longer is read
/// half-way, and again at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the folder is read although nothing seemed to move: notifications do not cross every
/// network filesystem, and a queue of them can overflow.
const REREAD: Duration = Duration::from_secs(5);

type Notice = notify::Result<notify::Event>;

/// Follows a folder until the token is cancelled or nobody listens any more.
pub(super) async fn run(
    mut folder: Folder,
    sender: mpsc::Sender<Batch>,
    cancellation: CancellationToken,
) {
    let mut cancelled = pin!(cancellation.cancelled());
    let (notices_tx, mut notices) = mpsc::unbounded_channel();
    let mut watch = Watch::new(folder.path(), notices_tx);
    loop {
        // Watching before reading: what changes in between is read again.
        watch.renew();
        let refreshed = tokio::task::spawn_blocking(move || {
            let batch = folder.refresh();
            (folder, batch)
        });
        let batch;
        (folder, batch) = match refreshed.await {
            Ok(refreshed) => refreshed,
            Err(error) => {
                tracing::error!(%error, "reading manifests failed; the last state stays in force");
                return;
            }
        };
        if !batch.is_empty() && sender.send(batch).await.is_err() {
            return;
        }
        tokio::select! {
            () = &mut cancelled => return,
            () = sender.closed() => return,
            () = moved(&mut notices) => {}
            () = tokio::time::sleep(REREAD) => {}
        }
    }
}

/// Waits for the next change and then until the folder has settled.
async fn moved(notices: &mut mpsc::UnboundedReceiver<Notice>) {
    let mut writing = HashSet::new();
    loop {
        match notices.recv().await {
            // The watcher is kept by the caller; it does not end before this does.
            None => return std::future::pending().await,
            Some(notice) if is_change(&notice, &mut writing) => break,
            Some(_) => {}
        }
    }
    let latest = Instant::now() + PATIENCE;
    loop {
        let still = if writing.is_empty() { SETTLE } else { PATIENCE };
        let deadline = (Instant::now() + still).min(latest);
        tokio::select! {
            notice = notices.recv() => match notice {
                None => return,
                Some(notice) => {
                    is_change(&notice, &mut writing);
                }
            },
            () = sleep_until(deadline) => return,
        }
    }
}

/// Whether contents may be different after this. Keeps track of the files that somebody writes to:
/// until they are closed they may be half of what they are going to be.
fn is_change(notice: &Notice, writing: &mut HashSet<PathBuf>) -> bool {
    let Ok(event) = notice else {
        // An overflow or a lost watch: anything may have happened.
        return true;
    };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            for path in &event.paths {
                writing.remove(path);
            }
            true
        }
        // Reading is no change, above all not our own.
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_)) => {
            writing.extend(event.paths.iter().cloned());
            true
        }
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
            for path in &event.paths {
                writing.remove(path);
            }
            true
        }
        _ => true,
    }
}

/// A watch on a folder that may go away and come back.
struct Watch {
    folder: PathBuf,
    notices: mpsc::UnboundedSender<Notice>,
    /// The watcher and the identity of the folder that it watches.
    watcher: Option<(RecommendedWatcher, Identity)>,
    /// A failure that has been logged.
    failing: bool,
}

/// Which folder stands under a path: another one after it was deleted and made again, or after a
/// link to it was switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(Option<(u64, u64)>);

impl Identity {
    #[cfg(unix)]
    fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino())))
    }
}

impl Watch {
    fn new(folder: &Path, notices: mpsc::UnboundedSender<Notice>) -> Self {
        Self {
            folder: folder.to_owned(),
            notices,
            watcher: None,
            failing: false,
        }
    }

    /// Watches the folder that stands under the path now.
    fn renew(&mut self) {
        let identity = Identity::of(&self.folder);
        if matches!(&self.watcher, Some((_, watched)) if *watched == identity) {
            return;
        }
        self.watcher = None;
        match self.watch(identity) {
            Ok(watcher) => {
                self.watcher = Some((watcher, identity));
                self.failing = false;
            }
            Err(error) if !self.failing => {
                let folder = self.folder.display();
                tracing::warn!(%folder, %error, every = ?REREAD, "cannot watch; reading it again");
                self.failing = true;
            }
            Err(_) => {}
        }
    }

    /// Watches the folder, and what it stands in: there its coming and going is seen.
    fn watch(&self, identity: Identity) -> notify::Result<RecommendedWatcher> {
        let notices = self.notices.clone();
        let folder = self.folder.clone();
        let mut watcher = notify::recommended_watcher(move |notice: Notice| {
            // The neighbours of the folder are of no concern. An overflow names nobody.
            let ours = notice.as_ref().map_or(true, |event| {
                event.paths.is_empty() || event.paths.iter().any(|path| path.starts_with(&folder))
            });
            if ours {
                // Fails when the source has ended and nobody listens any more.
                let _ = notices.send(notice);
            }
        })?;
        if identity != Identity(None) {
            watcher.watch(&self.folder, RecursiveMode::Recursive)?;
        }
        if let Some(parent) = self.folder.parent().filter(|parent| parent.exists()) {
            watcher.watch(parent, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}
