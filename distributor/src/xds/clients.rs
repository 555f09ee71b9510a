//! Who is connected and what they run: plain data that the streams write and `/status` reads.
//!
//! What a client *should* run is not kept here: that is the [`SnapshotSource`]'s to say.
//!
//! [`SnapshotSource`]: crate::snapshots::SnapshotSource

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sidewall_policy::snapshot::Revision;
use tokio::sync::Notify;

use crate::snapshots::Recipient;

/// How many clients without a stream are remembered; the longest gone is forgotten first. Pods come
/// and go for as long as this process lives, and in plain text anybody can claim any name.
const MAX_GONE: usize = 10_000;

/// A revision and when something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Which revision.
    pub revision: Revision,
    /// When it was sent, or acknowledged.
    pub at: SystemTime,
}

/// A snapshot that did not come into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which revision.
    pub revision: Revision,
    /// When it was refused.
    pub at: SystemTime,
    /// Who refused it.
    pub by: Refuser,
    /// The reason given.
    pub reason: String,
}

/// Who refused a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refuser {
    /// The client, with a NACK.
    Client,
    /// This distributor, before sending it.
    Distributor,
}

/// One stream, open or closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Of a pod: which of all that have had its name, if its token says so.
    pub pod_uid: Option<Arc<str>>,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// When it identified itself.
    pub connected_at: SystemTime,
    /// When it ended, if it has.
    pub disconnected_at: Option<SystemTime>,
    /// The last snapshot sent.
    pub sent: Option<Stamped>,
    /// The last snapshot the client acknowledged, or brought along when it connected.
    pub acked: Option<Stamped>,
    /// The last snapshot refused, if none has been acknowledged since.
    pub refused: Option<Refused>,
    /// Since when it has not acknowledged what it was to take; `None` while nothing is outstanding.
    pub waiting_since: Option<SystemTime>,
}

/// The streams of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Its open streams, oldest first. A pod has more than one for a moment while an Envoy restarts
    /// hot, a node has two: its agent's and its Envoy's.
    pub open: Vec<Stream>,
    /// The last one that closed.
    pub closed: Option<Stream>,
}

impl Client {
    /// The stream that tells best what a pod runs: the newest open one, else the last that closed.
    pub fn latest(&self) -> Option<&Stream> {
        self.open.last().or(self.closed.as_ref())
    }
}

/// The register of all clients. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    register: Arc<Mutex<Register>>,
    /// Rung at every acknowledgement.
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Register {
    recipients: BTreeMap<Recipient, Streams>,
    /// Those without an open stream, by when their last one closed and in which order.
    gone: BTreeMap<(SystemTime, u64), Recipient>,
    streams: u64,
}

#[derive(Debug, Default)]
struct Streams {
    open: BTreeMap<u64, Stream>,
    closed: Option<(u64, Stream)>,
}

impl Clients {
    /// Enters a stream. It counts as open until the handle is dropped.
    pub(crate) fn connect(
        &self,
        recipient: &Recipient,
        pod_uid: Option<Arc<str>>,
        peer: Option<SocketAddr>,
        at: SystemTime,
    ) -> Connection {
        let mut register = self.lock();
        register.streams += 1;
        let id = register.streams;
        let stream = Stream {
            pod_uid,
            peer,
            connected_at: at,
            disconnected_at: None,
            sent: None,
            acked: None,
            refused: None,
            waiting_since: None,
        };
        let entry = register.recipients.entry(recipient.clone()).or_default();
        entry.open.insert(id, stream);
        if let Some(key) = entry.closed_key() {
            register.gone.remove(&key);
        }
        Connection {
            clients: self.clone(),
            recipient: recipient.clone(),
            id,
        }
    }

    /// Everybody who is or was connected: pods and then nodes, sorted by name.
    pub fn all(&self) -> BTreeMap<Recipient, Client> {
        let register = self.lock();
        let client = |streams: &Streams| Client {
            open: streams.open.values().cloned().collect(),
            closed: streams.closed.as_ref().map(|(_, stream)| stream.clone()),
        };
        register
            .recipients
            .iter()
            .map(|(recipient, streams)| (recipient.clone(), client(streams)))
            .collect()
    }

    /// The open streams of one recipient, oldest first.
    pub fn streams(&self, recipient: &Recipient) -> Vec<Stream> {
        let register = self.lock();
        let streams = register.recipients.get(recipient);
        streams.map_or_else(Vec::new, |streams| streams.open.values().cloned().collect())
    }

    /// Waits until somebody has acknowledged a snapshot since the last time that this returned. For one
    /// listener.
    pub async fn acknowledged(&self) {
        self.bell.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        // No method leaves it half changed.
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    /// Where the register has these among the gone ones, if it has.
    fn closed_key(&self) -> Option<(SystemTime, u64)> {
        let (id, stream) = self.closed.as_ref()?;
        Some((stream.disconnected_at?, *id))
    }
}

impl Register {
    fn disconnect(&mut self, recipient: &Recipient, id: u64, at: SystemTime) {
        let Some(entry) = self.recipients.get_mut(recipient) else {
            return;
        };
        let Some(mut stream) = entry.open.remove(&id) else {
            return;
        };
        stream.disconnected_at = Some(at);
        entry.closed = Some((id, stream));
        if entry.open.is_empty() {
            self.gone.insert((at, id), recipient.clone());
        }
        while self.gone.len() > MAX_GONE
            && let Some((_, forgotten)) = self.gone.pop_first()
        {
            self.recipients.remove(&forgotten);
        }
    }
}

/// An open stream's hold on the register: writes what happens to it, and closes it when dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    clients: Clients,
    recipient: Recipient,
    id: u64,
}

impl Connection {
    /// A snapshot went out.
    pub(crate) fn sent(&self, revision: Revision, at: SystemTime) {
        self.update(|stream| {
            stream.sent = Some(Stamped { revision, at });
            stream.waiting_since.get_or_insert(at);
        });
    }

    /// The client has a snapshot in force.
    pub(crate) fn acked(&self, revision: Revision, at: SystemTime) {
        self.update(|stream| {
            stream.acked = Some(Stamped { revision, at });
            stream.refused = None;
            stream.waiting_since = None;
        });
        self.clients.bell.notify_one();
    }

    /// A snapshot did not come into force.
    pub(crate) fn refused(&self, refused: Refused) {
        self.update(|stream| {
            stream.waiting_since.get_or_insert(refused.at);
            stream.refused = Some(refused);
        });
    }

    fn update(&self, change: impl FnOnce(&mut Stream)) {
        let mut register = self.clients.lock();
        if let Some(stream) = register
            .recipients
            .get_mut(&self.recipient)
            .and_then(|streams| streams.open.get_mut(&self.id))
        {
            change(stream);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.clients
            .lock()
            .disconnect(&self.recipient, self.id, SystemTime::now());
    }
}

#[cfg(test)]
mod tests;
