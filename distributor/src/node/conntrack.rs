//! Ends the connections that the kernel knows and a new snapshot denies.
//!
//! The kernel's rules judge first packets; what was allowed once goes on as *established* until its
//! entry in the connection table is gone. So after each change of the rules the table is read, every
//! connection judged again, and those denied now are silenced by a mark and deleted a little later
//! ([`Stage`]). What they send then is new to the kernel and judged by the new rules; TCP cannot
//! revive, for it does not begin with a SYN. One that is allowed again by then goes on.
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
//! proxy, which tells both ends. Such connections are given time by [`Stage`], and left alone once
//! they are closing.
//!
//! Connections that a helper expected (the data connection of FTP) are judged like any other.

mod entry;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use sidewall_policy::model::{Protocol, TcpPath};
use sidewall_policy::record::Record;
use sidewall_policy::snapshot::Snapshot;

use super::netlink::{CONNTRACK, NLM_F_DUMP, Reply, Request, Socket, Subject, messages};
use super::ruleset::{DELIVER, Settings};
use super::seen::{Fate, Seen, within};
use entry::Entry;

/// `IPCTNL_MSG_CT_GET` of linux/netfilter/nfnetlink_conntrack.h.
const GET: u8 = 1;

/// What the kernel may keep for the socket: more than the answers to one batch of changes.
const QUEUE: usize = 1 << 20;

/// How many changes are asked for before their answers are read.
const BATCH: usize = 64;

/// The sequence number of the listing; changes have their place in a batch.
const LISTING: u32 = u32::MAX;

/// How far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connections that only the kernel carries fall silent: nothing passes on them any more, either
    /// way. They stay in the table, for an answer that is on its way to a connection that is gone
    /// would be taken for the beginning of another one, the other way round.
    Silence,
    /// Those are deleted, and so are those that a proxy carries and should have closed by now.
    End,
}

/// What became of connections that are denied.
#[derive(Debug, Default)]
pub struct Revoked {
    /// Those that were ended.
    pub cut: Vec<Record>,
    /// Why others may still be there.
    pub error: Option<Error>,
}

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

/// Ends every connection of this node's pods that `snapshot` denies now, and those of addresses in
/// this node's pod ranges that it does not know, as far as `stage` goes. Each is recorded once;
/// those that were closed already, and are only remembered, are not.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn revoke(snapshot: &Snapshot, settings: &Settings, stage: Stage) -> Revoked {
    let mut revoked = Revoked::default();
    if let Err(error) = revoke_into(&mut revoked.cut, snapshot, settings, stage).await {
        revoked.error = Some(error);
    }
    revoked
}

async fn revoke_into(
    cut: &mut Vec<Record>,
    snapshot: &Snapshot,
    settings: &Settings,
    stage: Stage,
) -> Result<(), Error> {
    let judge = Judge {
        snapshot,
        settings,
        stage,
        own: own_addresses().map_err(Error::Addresses)?,
        sidecars: with_sidecar(snapshot),
    };
    let mut socket = Socket::open(QUEUE).map_err(step("open a socket to"))?;
    let orders = list(&mut socket, &judge).await.map_err(step("list"))?;
    let mut refusals = Vec::new();
    for batch in orders.chunks(BATCH) {
        let outcomes = carry_out(&mut socket, batch).await;
        for (order, outcome) in batch.iter().zip(outcomes.map_err(step("end"))?) {
            match outcome {
                Ok(()) if order.is_told => cut.extend(judge.record(&order.seen)),
                Ok(()) => {}
                // It ended by itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => refusals.push(error),
            }
        }
    }
    let kept = refusals.len();
    match refusals.into_iter().next() {
        None => Ok(()),
        Some(source) => Err(Error::Kept { kept, source }),
    }
}

fn step(step: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Netlink { step, source }
}

/// The addresses of all interfaces.
fn own_addresses() -> io::Result<HashSet<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(interfaces
        .filter_map(|interface| ip(interface.address?))
        .collect())
}

/// The addresses of pods whose TCP a sidecar carries.
fn with_sidecar(snapshot: &Snapshot) -> HashSet<IpAddr> {
    snapshot
        .pods()
        .filter(|pod| pod.tcp_path == TcpPath::Sidecar)
        .flat_map(|pod| pod.addresses)
        .collect()
}

/// What decides about one entry.
struct Judge<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    stage: Stage,
    own: HashSet<IpAddr>,
    sidecars: HashSet<IpAddr>,
}

impl Judge<'_> {
    /// What is to be done about an entry.
    fn order(&self, entry: &Entry<'_>) -> Option<Order> {
        let is_silenced = entry.is_silenced();
        let request = match (self.denies(entry), self.stage) {
            (false, _) if is_silenced => entry.silencing(false),
            (true, _) if !is_silenced && self.is_left_to_proxy(entry) => return None,
            (true, Stage::Silence) if !is_silenced && !entry.is_closed() => entry.silencing(true),
            (true, Stage::End) => entry.deletion(),
            (false, _) | (true, Stage::Silence) => return None,
        };
        Some(Order {
            seen: entry.seen,
            is_told: !is_silenced && !entry.is_closed(),
            request,
        })
    }

    fn denies(&self, entry: &Entry<'_>) -> bool {
        let Seen {
            source,
            destination,
            ..
        } = entry.seen;
        let pod_cidrs = self.pod_cidrs();
        let in_range = || within(pod_cidrs, source) || within(pod_cidrs, destination);
        if entry.zone != 0 || self.own.contains(&source) || self.own.contains(&destination) {
            return false;
        }
        if self.asks_for_snapshots(entry) {
            return false;
        }
        match self.fate(&entry.seen) {
            Fate::Allowed(_) => false,
            Fate::Unknown => true,
            // Neither end is a pod: that is ours to judge only where pods' addresses are.
            Fate::Denied(decision) => decision.whole.is_none() || in_range(),
        }
    }

    /// A sidecar's connection to the distributor, which the table lets pass too.
    fn asks_for_snapshots(&self, entry: &Entry<'_>) -> bool {
        entry.seen.protocol == Protocol::Tcp.number()
            && self.sidecars.contains(&entry.seen.source)
            && entry
                .dialled
                .is_some_and(|address| self.settings.control_planes.contains(&address))
    }

    fn pod_cidrs(&self) -> &[IpNet] {
        &self.settings.pod_cidrs
    }

    /// Its proxy is given time to close it, or is about to.
    fn is_left_to_proxy(&self, entry: &Entry<'_>) -> bool {
        self.is_proxied(entry) && (self.stage == Stage::Silence || entry.is_closing())
    }

    fn is_proxied(&self, entry: &Entry<'_>) -> bool {
        entry.seen.protocol == Protocol::Tcp.number()
            && (entry.mark & DELIVER != 0
                || self.sidecars.contains(&entry.seen.source)
                || self.sidecars.contains(&entry.seen.destination))
    }

    fn fate(&self, seen: &Seen) -> Fate {
        seen.judge(self.snapshot, self.pod_cidrs())
    }

    fn record(&self, seen: &Seen) -> Option<Record> {
        let record = match self.fate(seen) {
            Fate::Allowed(_) => return None,
            Fate::Denied(decision) => seen.record(self.snapshot, &decision, None),
            Fate::Unknown => seen.unknown(self.snapshot),
        };
        Some(record.cut())
    }
}

/// What is to be done about a connection.
struct Order {
    seen: Seen,
    /// It is to be recorded.
    is_told: bool,
    request: Request,
}

async fn list(socket: &mut Socket, judge: &Judge<'_>) -> io::Result<Vec<Order>> {
    let everything = Subject {
        subsystem: CONNTRACK,
        kind: GET,
        family: 0,
        resource: 0,
    };
    let request = Request::new(everything, NLM_F_DUMP);
    socket.send(&request.finish(LISTING)).await?;
    let mut orders = Vec::new();
    loop {
        for message in messages(socket.receive().await?) {
            match message.reply {
                Reply::Done => return Ok(orders),
                Reply::Failed(error) => return Err(error),
                Reply::Object { family, attributes } => {
                    let entry = Entry::read(family, attributes);
                    orders.extend(entry.and_then(|entry| judge.order(&entry)));
                }
            }
        }
    }
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
