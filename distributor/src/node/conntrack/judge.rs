//! What is to be done about an entry of the connection table.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sidewall_policy::model::{Protocol, TcpPath};
use sidewall_policy::record::Record;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::Instant;

use super::docket::Docket;
use super::entry::Entry;
use crate::node::netlink::Request;
use crate::node::resets::Ends;
use crate::node::ruleset::{DELIVER, Settings};
use crate::node::seen::{Fate, Seen, within};

/// What decides about entries, by whatever snapshot is the newest.
pub(super) struct Court<'a> {
    snapshots: &'a watch::Receiver<Option<Arc<Snapshot>>>,
    settings: &'a Settings,
    docket: &'a mut Docket,
    own: HashSet<IpAddr>,
    newest: Option<Judge>,
}

/// Judges by one snapshot.
struct Judge {
    snapshot: Arc<Snapshot>,
    /// The addresses of pods whose TCP a sidecar carries.
    sidecars: HashSet<IpAddr>,
}

/// What is to be done about a connection.
pub(super) struct Order {
    /// What the kernel is asked for.
    pub request: Request,
    /// What is recorded once the kernel has done it.
    pub record: Option<Record>,
    /// A TCP connection that is silenced: its ends are to be reset.
    pub reset: Option<Ends>,
}

impl<'a> Court<'a> {
    /// Sits while the table is read once.
    ///
    /// # Errors
    /// When the node's own addresses cannot be read.
    pub(super) fn new(
        snapshots: &'a watch::Receiver<Option<Arc<Snapshot>>>,
        settings: &'a Settings,
        docket: &'a mut Docket,
    ) -> io::Result<Self> {
        let own = own_addresses()?;
        docket.begin();
        Ok(Self {
            snapshots,
            settings,
            docket,
            own,
            newest: None,
        })
    }

    /// Ends when the whole table has been read.
    pub(super) fn adjourn(self) {
        self.docket.end();
    }

    /// Goes by the newest snapshot from now on.
    pub(super) fn catch_up(&mut self) {
        let newest = self.snapshots.borrow();
        let is_known = match (&self.newest, &*newest) {
            (Some(judge), Some(newest)) => Arc::ptr_eq(&judge.snapshot, newest),
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            self.newest = newest.clone().map(Judge::new);
        }
    }

    /// What is to be done about an entry. Without a snapshot, nothing.
    pub(super) fn order(&mut self, entry: &Entry<'_>, now: Instant) -> Option<Order> {
        let judge = self.newest.as_ref()?;
        let is_silenced = entry.is_silenced();
        if !self.denies(judge, entry) {
            self.docket.acquit(|| entry.identity());
            return is_silenced.then(|| Order {
                request: entry.silencing(false),
                record: None,
                reset: None,
            });
        }
        let is_proxied = !is_silenced && judge.is_proxied(entry);
        if is_proxied && entry.is_closing() {
            // Its proxy is about to close it.
            self.docket.acquit(|| entry.identity());
            return None;
        }
        let (request, reset) = if self.docket.is_due(entry.identity(), is_proxied, now) {
            (entry.deletion(), None)
        } else if is_silenced || is_proxied || entry.is_closed() {
            return None;
        } else {
            (entry.silencing(true), entry.tcp_ends())
        };
        let is_told = !is_silenced && !entry.is_closed();
        Some(Order {
            request,
            record: is_told.then(|| self.record(judge, &entry.seen)).flatten(),
            reset,
        })
    }

    fn denies(&self, judge: &Judge, entry: &Entry<'_>) -> bool {
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
        if self.asks_for_snapshots(judge, entry) {
            return false;
        }
        match entry.seen.judge(&judge.snapshot, pod_cidrs) {
            Fate::Allowed(_) => false,
            Fate::Unknown => true,
            // Neither end is a pod: that is ours to judge only where pods' addresses are.
            Fate::Denied(decision) => decision.whole.is_none() || in_range(),
        }
    }

    /// A sidecar's connection to the distributor, which the table lets pass too.
    fn asks_for_snapshots(&self, judge: &Judge, entry: &Entry<'_>) -> bool {
        entry.seen.protocol == Protocol::Tcp.number()
            && judge.sidecars.contains(&entry.seen.source)
            && entry
                .dialled
                .is_some_and(|address| self.settings.control_planes.contains(&address))
    }

    fn pod_cidrs(&self) -> &[IpNet] {
        &self.settings.pod_cidrs
    }

    fn record(&self, judge: &Judge, seen: &Seen) -> Option<Record> {
        let record = match seen.judge(&judge.snapshot, self.pod_cidrs()) {
            Fate::Allowed(_) => return None,
            Fate::Denied(decision) => seen.record(&judge.snapshot, &decision, None),
            Fate::Unknown => seen.unknown(&judge.snapshot),
        };
        Some(record.cut())
    }
}

impl Judge {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        let with_sidecar = snapshot
            .pods()
            .filter(|pod| pod.tcp_path == TcpPath::Sidecar);
        let sidecars = with_sidecar.flat_map(|pod| pod.addresses).collect();
        Self { snapshot, sidecars }
    }

    fn is_proxied(&self, entry: &Entry<'_>) -> bool {
        entry.seen.protocol == Protocol::Tcp.number()
            && (entry.mark & DELIVER != 0
                || self.sidecars.contains(&entry.seen.source)
                || self.sidecars.contains(&entry.seen.destination))
    }
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
