//! Says which packets the kernel dropped, or would drop if audited policies were enforced, and why.
//!
//! The kernel's rules send a copy of what they drop, as far as their rate limit lets them, to a log
//! group. Here each copy is judged again by the snapshot in force and becomes one decision record,
//! worded as the filter words it. The kernel cannot name a policy; the snapshot can.
//!
//! The rules must log with `log prefix "PREFIX" group N`, where the prefix is one of
//! [`Prefix::ALL`]. A snapshot may change between the drop and the record. If it allows the packet
//! by now the record says so (`allowed-by-now`), and keeps the direction that the kernel told.
//!
//! It never decides anything: when it does not run, packets are dropped without a word.

mod config;
mod metrics;
mod packet;
mod prefix;

use std::io;
use std::sync::Arc;

use ipnet::IpNet;
use nix::errno::Errno;
use sidewall_policy::record::{NO_SNAPSHOT, Record};
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;

use super::netlink::{Reply, Socket, messages};
use super::resets::Resets;
use super::seen::{Fate, Seen};
pub use metrics::Metrics;
use packet::Logged;
pub use prefix::Prefix;

/// What the kernel may keep for the socket: some thousand packets.
const QUEUE: usize = 4 << 20;

/// Why there are no records of the kernel's drops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made or stopped working.
    #[error(
        "cannot {step} the kernel's packet log, so drops are not recorded: {source}. This needs \
         CAP_NET_ADMIN in the node's network namespace and the kernel's nfnetlink_log"
    )]
    Netlink {
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel gives a log group to one reader only.
    #[error(
        "log group {group} is taken by another program, so drops are not recorded; choose another \
         one by --nflog-group"
    )]
    Taken {
        /// The group.
        group: u16,
    },
}

/// Reads the kernel's log of dropped packets.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
}

impl Listener {
    /// Takes a log group in the network namespace of the calling thread. From then on the kernel
    /// keeps packets for it.
    ///
    /// # Errors
    /// [`Error::Taken`] while another program has that group.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn bind(group: u16) -> Result<Self, Error> {
        let step = |step| move |source| Error::Netlink { step, source };
        let mut socket = Socket::open(QUEUE).map_err(step("open a socket to"))?;
        for request in config::requests(group) {
            socket.send(&request).await.map_err(step("ask for"))?;
            match answer(&mut socket).await {
                Ok(()) => {}
                // What it means to the owner of a socket that took CAP_NET_ADMIN to open.
                Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                    return Err(Error::Taken { group });
                }
                Err(error) => return Err(step("join")(error)),
            }
        }
        Ok(Self { socket })
    }

    /// Turns what arrives into records, and packets of silenced connections into resets. `pod_cidrs` are this
    /// node's pod ranges.
    ///
    /// # Errors
    /// The one way it ends: the socket stopped working.
    pub async fn run(
        mut self,
        pod_cidrs: &[IpNet],
        snapshots: &watch::Receiver<Option<Arc<Snapshot>>>,
        resets: &Resets,
        metrics: &Metrics,
        mut report: impl FnMut(&Record),
    ) -> Error {
        let mut next = None;
        loop {
            let datagram = match self.socket.receive().await {
                Ok(datagram) => datagram,
                // The queue was full. How many were lost shows in the next packet's number.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => continue,
                Err(source) => {
                    let step = "read";
                    return Error::Netlink { step, source };
                }
            };
            let snapshot = snapshots.borrow().clone();
            for message in messages(datagram) {
                let Reply::Object { attributes, .. } = message.reply else {
                    continue;
                };
                let logged = Logged::read(attributes);
                metrics.count_lost(missing(&mut next, logged.number));
                if logged.prefix == Some(Prefix::Silenced) {
                    logged
                        .packet
                        .iter()
                        .for_each(|packet| resets.forward(packet));
                    continue;
                }
                let Some(seen) = logged.seen else {
                    metrics.count_unreadable();
                    continue;
                };
                metrics.count_record(logged.prefix);
                record(&seen, logged.prefix, snapshot.as_deref(), pod_cidrs)
                    .iter()
                    .for_each(&mut report);
            }
        }
    }
}

/// The answer to one request, past packets that arrive already.
async fn answer(socket: &mut Socket) -> io::Result<()> {
    loop {
        for message in messages(socket.receive().await?) {
            match message.reply {
                Reply::Done => return Ok(()),
                Reply::Failed(error) => return Err(error),
                Reply::Object { .. } => {}
            }
        }
    }
}

/// How many packets are missing before the one of this number, and which is to come next.
fn missing(next: &mut Option<u32>, number: Option<u32>) -> u32 {
    let Some(number) = number else { return 0 };
    let expected = next.replace(number.wrapping_add(1));
    expected.map_or(0, |expected| number.wrapping_sub(expected))
}

/// `None` for a packet that passed where the snapshot in force does not let it pass against audited policies.
fn record(
    seen: &Seen,
    prefix: Option<Prefix>,
    snapshot: Option<&Snapshot>,
    pod_cidrs: &[IpNet],
) -> Option<Record> {
    let side = prefix.and_then(Prefix::direction);
    let is_audited = prefix.is_some_and(Prefix::is_audited);
    let Some(snapshot) = snapshot else {
        return (!is_audited).then(|| seen.closed(NO_SNAPSHOT, None));
    };
    let fate = seen.judge(snapshot, pod_cidrs);
    if is_audited {
        return match fate {
            Fate::Allowed(decision) if decision.would_deny() => {
                Some(seen.record(snapshot, &decision, side))
            }
            _ => None,
        };
    }
    Some(match fate {
        Fate::Denied(decision) => seen.record(snapshot, &decision, None),
        Fate::Unknown => seen.unknown(snapshot),
        Fate::Allowed(decision) => seen.record(snapshot, &decision, side).overtaken(),
    })
}

#[cfg(test)]
mod tests;
