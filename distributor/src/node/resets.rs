//! Resets TCP connections that a change denies, at both ends.
//!
//! The kernel's table answers each packet of a silenced connection with a reset: the end that sends next learns
//! of it. An end that only waits learns nothing, so the agent makes both speak:
//!
//! ```text
//!  agent ──bare ACK, out of window──▶ end ──duplicate ACK (RFC 5961)──▶ table ──RST──▶ that end
//!                                                                        └─log─▶ agent ──RST──▶ both ends
//! ```
//!
//! The duplicate ACK carries the sequence number that the other end expects next, which the kernel's connection
//! table does not tell. So an end on another node, whose own table drops what is out of window, is reset by its
//! peer's answer.
//!
//! What the agent sends carries the mark [`SILENCED`], which the table takes out of connection tracking: no entry,
//! no NAT. Each end is addressed as it knows its peer, behind a Service and behind masquerade.
//!
//! Without `CAP_NET_RAW` nothing is sent: ends are reset when they send.
//!
//! [`SILENCED`]: super::ruleset::SILENCED

mod packet;
mod socket;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use packet::{Segment, Speech};
use socket::RawSockets;

/// How long an answer may take: longer than a silenced connection stays in the table.
const PATIENCE: Duration = Duration::from_secs(3);

/// More connections than that are not waited for at once; they are reset when they send.
const LIMIT: usize = 65_536;

/// The addresses of a silenced TCP connection, as packets carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The one who opened it.
    pub opener: SocketAddr,
    /// Whom the opener dialled, before any DNAT.
    pub dialled: SocketAddr,
    /// The one who answers.
    pub answerer: SocketAddr,
    /// Whom the answerer sends to: the opener, or what masquerade made of it.
    pub answered: SocketAddr,
}

/// What a packet of a silenced connection brings about.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    /// To the end that it was meant for.
    ahead: Way,
    /// To its sender. The table resets that one too, but a reset to a bridge bypasses NAT.
    back: Way,
    until: Instant,
}

/// From whom and to whom a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Way {
    source: SocketAddr,
    destination: SocketAddr,
}

/// Silenced connections whose ends are made to speak. Clones share them.
#[derive(Clone, Debug)]
pub struct Resets {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    sockets: Option<RawSockets>,
    /// The packets that carry the sequence numbers of both ends, and the addresses of the resets that follow.
    awaited: HashMap<Way, Awaited>,
}

impl Resets {
    /// Opens sockets in the network namespace of the calling thread.
    #[must_use]
    pub fn open() -> Self {
        let sockets = RawSockets::open().inspect_err(|error| {
            warn!(
                "connections that a policy ends are reset when an end sends, and not before: cannot open raw \
                 sockets: {error}; this needs CAP_NET_RAW"
            );
        });
        Self {
            shared: Arc::new(Mutex::new(Shared {
                sockets: sockets.ok(),
                awaited: HashMap::new(),
            })),
        }
    }

    /// Makes both ends of a silenced connection speak.
    pub(super) fn begin(&self, ends: &Ends) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Shared { sockets, awaited } = &mut *shared;
        let Some(sockets) = sockets else { return };
        let Ends {
            opener,
            dialled,
            answerer,
            answered,
        } = *ends;
        let way = |source, destination| Way {
            source,
            destination,
        };
        let (to_opener, to_answerer) = (way(dialled, opener), way(answered, answerer));
        let now = Instant::now();
        if awaited.len() >= LIMIT {
            awaited.retain(|_, awaited| awaited.until > now);
        }
        if awaited.len() < LIMIT {
            // As the table sees them: behind DNAT, before masquerade.
            let until = now + PATIENCE;
            let of_opener = Awaited {
                ahead: to_answerer,
                back: to_opener,
                until,
            };
            let of_answerer = Awaited {
                ahead: to_opener,
                back: to_answerer,
                until,
            };
            awaited.insert(way(opener, answerer), of_opener);
            awaited.insert(way(answerer, opener), of_answerer);
        }
        for way in [to_opener, to_answerer] {
            sockets.try_send(way, &Segment::probe(way.source, way.destination));
        }
    }

    /// Resets both ends by the sequence numbers of a packet of a silenced connection.
    pub(super) fn forward(&self, packet: &[u8]) {
        let Some(speech) = Speech::read(packet) else {
            return;
        };
        let way = Way {
            source: speech.source,
            destination: speech.destination,
        };
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Shared { sockets, awaited } = &mut *shared;
        let found = awaited
            .get(&way)
            .filter(|found| found.until > Instant::now());
        if let (Some(Awaited { ahead, back, .. }), Some(sockets)) = (found.copied(), sockets) {
            for segment in speech.resets() {
                sockets.try_send(ahead, &segment);
            }
            sockets.try_send(back, &speech.answer());
        }
    }
}

impl RawSockets {
    /// The kernel's own answer is what counts; this one may fail.
    fn try_send(&self, way: Way, segment: &Segment) {
        let sent: io::Result<()> = segment
            .bytes(way.source, way.destination)
            .map_or(Ok(()), |bytes| self.send(&bytes, way.destination));
        if let Err(error) = sent {
            debug!(%error, ?way, "a segment of a reset was not sent");
        }
    }
}
