//! The other end of the wire: follows one recipient's snapshot, for the agent that runs on a node.
//!
//! ```text
//!  ┌─▶ connect ─▶ stream ─▶ response ─unpack─▶ Snapshot ─watch─▶ whoever enforces it
//!  │                 │                   └ unusable: NACK, the last one stays
//!  └──── pause ◀── broken
//! ```
//!
//! It speaks delta ECDS as an Envoy does, so that the server needs no second protocol, and reads its
//! token and the CA anew for every connection, for they rotate. It never takes
//! a snapshot back, whatever becomes of the server, and never decides what a snapshot is worth: that
//! is `Snapshot::check`'s to say.

mod credentials;
mod distributor;
mod exchange;
mod link;
mod unpack;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use credentials::Credentials;
pub use distributor::{Distributor, DistributorError};
use exchange::{Broken, Exchange};
pub use link::Link;

/// The longest time between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts: as much again at random is added, for all the nodes lose one server at the
/// same time. So from 0.25 to at most 1 second.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(250))
    .with_max_delay(Duration::from_millis(500))
    .without_max_times()
    .with_jitter();

/// What [`follow`] has heard so far.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The last snapshot that passed its check; `None` until there was one, and never again. It
    /// changes only when the revision does.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// How it stands with the server.
    pub status: watch::Receiver<Link>,
}

/// Follows the snapshot of the recipient that `node_id` names (`node~NAME` for a node), in a task of
/// its own that ends only when `cancellation` is cancelled.
///
/// Whatever `Snapshot::check` accepts is acknowledged and handed over; the rest is refused with the
/// reason, and the last snapshot stays. A server that is away is tried again every 0.25 to 1 second.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn follow(
    distributor: Distributor,
    node_id: String,
    cancellation: CancellationToken,
) -> Follower {
    let (exchange, follower) = Exchange::new(node_id);
    tokio::spawn(cancellation.run_until_cancelled_owned(run(exchange, distributor)));
    follower
}

async fn run(mut exchange: Exchange, distributor: Distributor) {
    let mut pauses = PAUSES.build();
    loop {
        let begun = Instant::now();
        let broken = attempt(&mut exchange, &distributor).await;
        exchange.down(&broken);
        // Being turned away at once is no better than not being heard.
        if begun.elapsed() > LONGEST_PAUSE {
            pauses = PAUSES.build();
        }
        tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// One connection with one stream, until it breaks.
async fn attempt(exchange: &mut Exchange, distributor: &Distributor) -> Broken {
    match distributor.connect().await {
        Ok((channel, authorization)) => exchange.run(channel, authorization).await,
        Err(broken) => broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_random_and_within_a_quarter_of_a_second_and_one() {
        let pauses = || PAUSES.build().take(50).collect::<Vec<_>>();
        let (one, other) = (pauses(), pauses());
        assert_ne!(one, other, "all the nodes would come back at once");
        for pause in one.iter().chain(&other) {
            assert!(
                (Duration::from_millis(250)..=LONGEST_PAUSE).contains(pause),
                "{pause:?}"
            );
        }
    }
}
