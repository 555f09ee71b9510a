//! Rules of others that redirection to the node's Envoy bypasses, or that stop it.
//!
//! The kernel delivers a redirected packet on the node itself: it meets the hook `input` instead of `forward`. A
//! firewall that drops what is forwarded no longer sees the connection, and a firewall that drops what it does not
//! know at `input` ends it. Neither weakens a NetworkPolicy, so the agent stays ready and reports both: the operator
//! decides which of the rules he counts on.

mod fate;
mod listing;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sidewall_policy::model::TcpPath;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::kernel::{Kernel as _, Nft};
use super::metrics::{Effect, Metrics};
use super::program;
use listing::Listing;

/// How often the agent asks the kernel whether any rule has changed. It lists the rules only then.
const INTERVAL: Duration = Duration::from_secs(5);

/// Listing takes one part in so many of the time at most.
const LISTING_SHARE: u32 = 50;

/// Something that an operator who redirects pods wants to know about this node; printed as one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finding {
    /// A chain at the hook `forward` may drop packets; redirected TCP does not meet it.
    Bypassed(BaseChain),
    /// A chain at the hook `input` drops redirected packets.
    Blocks(BaseChain),
    /// The rules cannot be listed.
    Unknown(String),
}

/// A base chain of nftables; iptables' chains appear as such.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BaseChain {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
}

impl fmt::Display for BaseChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bypassed(chain) => write!(
                f,
                "the chain `{chain}` drops forwarded packets; it does not apply to TCP of redirected pods. Set \
                 sidewall.dev/redirect: \"false\" on pods that it must apply to"
            ),
            Self::Blocks(chain) => write!(
                f,
                "the chain `{chain}` drops TCP of redirected pods before the node's Envoy gets it; accept packets with \
                 mark 0x10000/0x10000 in it"
            ),
            Self::Unknown(reason) => write!(
                f,
                "cannot tell whether other rules of this node drop TCP of redirected pods, or no longer apply to it: \
                 {reason}"
            ),
        }
    }
}

/// Watches the rules of others while some pod of the node is redirected.
pub(super) struct Firewalls {
    pub(super) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) findings: watch::Sender<BTreeSet<Finding>>,
    pub(super) metrics: Metrics,
}

impl Firewalls {
    pub(super) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.watch()).await;
    }

    async fn watch(self) {
        // The generation of the kernel's rules at the last listing.
        let mut listed = None;
        loop {
            let started = Instant::now();
            if !self.redirects() {
                listed = None;
                self.report(BTreeSet::new());
            } else {
                let generation = Nft.generation().await.ok();
                if generation.is_none() || generation != listed {
                    self.report(find().await);
                    listed = generation;
                }
            }
            sleep(INTERVAL.max(LISTING_SHARE * started.elapsed())).await;
        }
    }

    fn redirects(&self) -> bool {
        let snapshot = self.snapshots.borrow().clone();
        snapshot.is_some_and(|snapshot| {
            snapshot
                .pods()
                .any(|pod| pod.tcp_path == TcpPath::NodeProxy)
        })
    }

    fn report(&self, found: BTreeSet<Finding>) {
        self.findings.send_if_modified(|last| {
            for finding in found.difference(last) {
                warn!("{finding}");
            }
            for finding in last.difference(&found) {
                info!("no longer: {finding}");
            }
            let differs = *last != found;
            for effect in [Effect::Bypassed, Effect::Blocks] {
                let chains = found.iter().filter(|it| it.effect() == Some(effect));
                self.metrics.set_firewalls(effect, chains.count());
            }
            *last = found;
            differs
        });
    }
}

impl Finding {
    fn effect(&self) -> Option<Effect> {
        match self {
            Self::Bypassed(_) => Some(Effect::Bypassed),
            Self::Blocks(_) => Some(Effect::Blocks),
            Self::Unknown(_) => None,
        }
    }
}

/// Lists the rules without the elements of named sets, and judges them.
async fn find() -> BTreeSet<Finding> {
    let unknown = |reason: String| BTreeSet::from([Finding::Unknown(reason)]);
    let listing = match program::must("nft", "-j -t list ruleset", "").await {
        Ok(listing) => listing,
        Err(error) => return unknown(error.to_string()),
    };
    match Listing::parse(&listing) {
        Ok(listing) => fate::findings(&listing).collect(),
        Err(error) => unknown(format!(
            "`nft -j` printed what the agent cannot read: {error}"
        )),
    }
}

#[cfg(test)]
mod tests;
