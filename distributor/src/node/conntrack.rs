//! Ends the connections that the kernel knows and a new snapshot denies.
//!
//! The kernel's rules judge first packets; what was allowed once goes on as *established* until its
//! entry in the connection table is gone. So after each change of the rules the table is read, every
//! connection judged again, and those denied now are silenced by a mark: nothing passes on them any more,
//! either way. They stay in the table for a while, for an answer that is on its way to a connection
//! that is gone would be taken for the beginning of another one, the other way round; a [`Docket`]
//! tells when they may be deleted. What they send then is new to the kernel and judged by the new
//! rules; TCP cannot revive, for it does not begin with a SYN. One that is allowed again by then goes
//! on.
//!
//! Reading a long table takes a while, and the next change does not wait for it: each piece is judged
//! by the snapshot that is the newest when it is read, and what is denied is dealt with before the
//! next piece.
//!
//! A connection's ends are the one who opened it and the one who answers: `semantics I1`'s real
//! backend, behind any DNAT. It never touches
//!
//! - connections with an end at an address of the node itself: what the node opens always passes
//!   (`semantics G6`), and so what it sends would bring back what a pod had opened to it, even where
//!   egress to the own node is enforced (`semantics G7`);
//! - connections of pods' sidecars to the distributor ([`Settings::control_planes`]);
//! - connections that neither come from nor go to a pod of this node;
//! - connection tracking zones but the default one. The leg from the node's Envoy to a server lives
//!   in a zone of its own and ends with the client's leg, which is in the default zone.
//!
//! A connection that a proxy carries too, the node's Envoy or a pod's sidecar, is closed best by the
//! proxy, which tells both ends. Such connections are not silenced but given time, and left alone once
//! they are closing.
//!
//! Connections that a helper expected (the data connection of FTP) are judged like any other.

mod docket;
mod entry;
mod judge;

use std::io;
use std::sync::Arc;

use sidewall_policy::record::Record;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::Instant;

use super::netlink::{CONNTRACK, NLM_F_DUMP, Reply, Request, Socket, Subject, messages};
use super::resets::Resets;
use super::ruleset::Settings;
pub use docket::{Docket, Graces};
use entry::Entry;
use judge::{Court, Order};

/// `IPCTNL_MSG_CT_GET` of linux/netfilter/nfnetlink_conntrack.h.
const GET: u8 = 1;

/// What the kernel may keep for a socket: more than the answers to one batch of changes.
const QUEUE: usize = 1 << 20;

/// How many changes are asked for before their answers are read.
const BATCH: usize = 64;

/// The sequence number of the listing; changes have their place in a batch.
const LISTING: u32 = u32::MAX;

/// Why connections that are denied may still be there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node's own addresses are unknown, so its own connections cannot be told from pods'.
    #[error(
        "cannot read the addresses of this node, whose own connections are to be left alone: {0}"
    )]
    Addresses(#[source] io::Error),
    /// The connection table cannot be reached.
    #[error(
        "cannot {step} the kernel's connections, so they may outlive the policies that deny them: \
         {source}. This needs CAP_NET_ADMIN in the node's network namespace and the kernel's \
         nf_conntrack_netlink"
    )]
    Netlink {
        /// What was attempted.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused to end some of them.
    #[error(
        "{kept} denied connections could not be ended and go on until they close; the first says: \
         {source}"
    )]
    Kept {
        /// How many.
        kept: usize,
        /// What was said of the first.
        source: io::Error,
    },
}

/// Silences every connection of this node's pods that the newest of `snapshots` denies, and those of
/// addresses in this node's pod ranges that it does not know, and deletes those that have been on the
/// docket for long enough; [`Docket::next`] says when to come back for the others. `report` is told of
/// each once; of those that were closed already, and are only remembered, it is not.
///
/// # Errors
/// When some that are denied may go on. The others have been ended.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn revoke(
    snapshots: &watch::Receiver<Option<Arc<Snapshot>>>,
    settings: &Settings,
    docket: &mut Docket,
    resets: &Resets,
    mut report: impl FnMut(&Record),
) -> Result<(), Error> {
    let mut court = Court::new(snapshots, settings, docket).map_err(Error::Addresses)?;
    let open = || Socket::open(QUEUE).map_err(step("open a socket to"));
    let (mut listing, mut changes) = (open()?, open()?);
    ask_for_all(&listing).await.map_err(step("list"))?;
    let mut refusals = Vec::new();
    let mut is_over = false;
    while !is_over {
        let datagram = listing.receive().await.map_err(step("list"))?;
        court.catch_up();
        let now = Instant::now();
        let mut orders = Vec::new();
        for message in messages(datagram) {
            match message.reply {
                Reply::Done => is_over = true,
                Reply::Failed(error) => return Err(step("list")(error)),
                Reply::Object { family, attributes } => {
                    let entry = Entry::read(family, attributes);
                    orders.extend(entry.and_then(|entry| court.order(&entry, now)));
                }
            }
        }
        for batch in orders.chunks(BATCH) {
            let outcomes = carry_out(&mut changes, batch).await;
            for (order, outcome) in batch.iter().zip(outcomes.map_err(step("end"))?) {
                match outcome {
                    Ok(()) => {
                        order.record.iter().for_each(&mut report);
                        order.reset.iter().for_each(|ends| resets.begin(ends));
                    }
                    // It ended by itself.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => refusals.push(error),
                }
            }
        }
    }
    court.adjourn();
    let kept = refusals.len();
    match refusals.into_iter().next() {
        None => Ok(()),
        Some(source) => Err(Error::Kept { kept, source }),
    }
}

fn step(step: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Netlink { step, source }
}

async fn ask_for_all(socket: &Socket) -> io::Result<()> {
    let everything = Subject {
        subsystem: CONNTRACK,
        kind: GET,
        family: 0,
        resource: 0,
    };
    let request = Request::new(everything, NLM_F_DUMP);
    socket.send(&request.finish(LISTING)).await
}

/// Asks for what some orders say and reads the answers, in the same order.
async fn carry_out(socket: &mut Socket, batch: &[Order]) -> io::Result<Vec<io::Result<()>>> {
    let requests = (0..).zip(batch);
    let requests: Vec<u8> = requests
        .flat_map(|(sequence, order)| order.request.clone().finish(sequence))
        .collect();
    socket.send(&requests).await?;
    let mut outcomes: Vec<Option<io::Result<()>>> = batch.iter().map(|_| None).collect();
    while outcomes.iter().any(Option::is_none) {
        for message in messages(socket.receive().await?) {
            let place = usize::try_from(message.sequence).ok();
            if let Some(outcome) = place.and_then(|place| outcomes.get_mut(place)) {
                *outcome = match message.reply {
                    Reply::Done => Some(Ok(())),
                    Reply::Failed(error) => Some(Err(error)),
                    Reply::Object { .. } => None,
                };
            }
        }
    }
    Ok(outcomes.into_iter().flatten().collect())
}
