//! Probes: servers that say who they are, and clients that tell a handshake from an answer.
//!
//! A proxy completes the handshake of every connection, the denied ones too, so
//! "connected" says little. What counts is *answered*: the client has read who the server is,
//! before it sent anything (so a server that speaks first is served), and has got its own nonce
//! back from the same server.
//!
//! ```text
//!  client                       server
//!    │──── connect ──────────────▶│  (TCP) the connection is recorded, sent or not
//!    │◀─── default/web:80 ────────│
//!    │──── nonce ────────────────▶│  (UDP starts here) the nonce is recorded
//!    │◀─── default/web:80 nonce ──│
//! ```
//!
//! SCTP is answered the same way, in the parameters of one INIT and one INIT ACK. ICMP echo has no
//! server: who answers is told by the address.
//!
//! Nothing here knows pods or policies: an identity is any text without blanks.

mod client;
mod held;
mod raw;
mod server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};

pub use client::{Report, attempt};
pub use held::Held;
pub(crate) use raw::Association;
pub use server::{Seen, Server};

/// The longest line of either side: an identity and a nonce.
const MAX_LINE: usize = 512;

/// What can be probed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: an INIT and the answer to it, made by hand.
    Sctp,
    /// ICMP or ICMPv6: an echo request, answered by the kernel of whoever has the address. It has
    /// no port; 0 is written.
    Icmp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

/// Why a server or a held connection could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network namespace could not be entered.
    #[error(transparent)]
    Network(#[from] crate::net::Error),
    /// A server could not listen.
    #[error("{identity}: cannot listen on {protocol} port {port}: {source}")]
    Listen {
        /// Who wanted to.
        identity: String,
        /// The protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A connection that was to be held did not come about.
    #[error("{destination}: no connection to hold: {reason}")]
    Hold {
        /// Where to.
        destination: std::net::SocketAddr,
        /// What happened instead.
        reason: String,
    },
}

/// Does every job, at most `width` at the same time, and returns what they gave in their order.
pub fn parallel<J: Sync, T: Send>(
    jobs: &[J],
    width: usize,
    work: impl Fn(&J) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    thread::scope(|scope| {
        for _ in 0..width.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((index, job)) = take(jobs, &next) {
                    let result = work(job);
                    lock(&done).push((index, result));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, J>(jobs: &'a [J], next: &AtomicUsize) -> Option<(usize, &'a J)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(index).map(|job| (index, job))
}

/// A lock whose holder panicked still guards whole values: everything behind one is pushed at once.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
