//! Pods that are replaced, and when the last client has acknowledged what follows.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::apiserver::ApiServer;
use sidewall_host_tests::bench::fleet::Fleet;
use sidewall_host_tests::followers::{Arrival, Followers};

/// The first namespaces have what all others may reach, or be reached from: a pod of theirs concerns everybody.
const SPECIAL: usize = 2;
/// Which of those everybody may be reached from.
const MONITORING: usize = 1;
/// Pods that everybody is told of, one after the other.
const WIDE: usize = 10;
/// Nothing comes any more.
const QUIET: Duration = Duration::from_secs(2);

/// A steady churn.
pub struct Churn {
    /// From each change to its last client's acknowledgement.
    pub lags: Vec<Duration>,
    /// For all changes.
    pub took: Duration,
}

/// A pod that was replaced.
struct Change {
    namespace: usize,
    at: Instant,
}

impl Churn {
    /// Replaces so many pods a second, after so many before them. Each is of the next namespace, so that the
    /// changes of one are seconds apart and what arrives tells which it belongs to.
    pub fn run(
        api: &ApiServer,
        followers: &Followers,
        fleet: Fleet,
        clients: usize,
        rate: u32,
        seconds: u32,
        before_it: u32,
    ) -> Result<Self> {
        let started = Instant::now();
        let mut arrivals = Vec::new();
        let (changes, took) = thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let mut changes = Vec::new();
                for number in 0..rate * seconds {
                    let due = started + Duration::from_secs(1) * number / rate;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let place = (before_it + number) as usize;
                    changes.push(replace(api, fleet, clients, place)?);
                }
                Ok::<_, anyhow::Error>((changes, started.elapsed()))
            });
            loop {
                match followers.next(QUIET) {
                    Some(arrival) => arrivals.push(arrival),
                    None if changing.is_finished() => break,
                    None => {}
                }
            }
            let changes = changing.join();
            changes.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let lags = lags(&changes, &arrivals, fleet, clients)?;
        Ok(Self { lags, took })
    }
}

fn replace(api: &ApiServer, fleet: Fleet, clients: usize, number: usize) -> Result<Change> {
    let ordinary = fleet.namespaces - SPECIAL;
    let namespace = SPECIAL + number % ordinary;
    // Clients' own pods stay.
    let pod = clients + (number / ordinary * 7 + number) % (fleet.pods - clients);
    let generation = 1 + number / ordinary;
    let old = api_name(fleet, namespace, pod, 0);
    let new = fleet.pod_object(namespace, pod, generation);
    let at = Instant::now();
    // It may have been replaced before.
    let _gone = api.remove("v1", "Pod", &old);
    api.put(&new)?;
    Ok(Change { namespace, at })
}

fn api_name(fleet: Fleet, namespace: usize, pod: usize, generation: usize) -> String {
    fleet.pod(namespace, pod, generation).id.to_string()
}

/// Each change's last arrival, before the next change of the same namespace.
fn lags(
    changes: &[Change],
    arrivals: &[Arrival],
    fleet: Fleet,
    clients: usize,
) -> Result<Vec<Duration>> {
    let mut of: Vec<Vec<&Arrival>> = vec![Vec::new(); fleet.namespaces];
    for arrival in arrivals {
        // Behind the pods' clients come those of nodes.
        if let Some(of) = of.get_mut(arrival.client / clients) {
            of.push(arrival);
        }
    }
    let mut lags = Vec::new();
    for (number, change) in changes.iter().enumerate() {
        let next = changes[number + 1..]
            .iter()
            .find(|next| next.namespace == change.namespace);
        let until = next.map(|next| next.at);
        let belongs = |arrival: &&&Arrival| {
            arrival.at >= change.at && until.is_none_or(|until| arrival.at < until)
        };
        let mut told = vec![false; clients];
        let mut last = None;
        for arrival in of[change.namespace].iter().filter(belongs) {
            told[arrival.client % clients] = true;
            last = last.max(Some(arrival.at));
        }
        ensure!(
            told.iter().all(|told| *told),
            "change {number}, of namespace {}: only {told:?} were told",
            change.namespace
        );
        let last = last.context("nobody was told")?;
        lags.push(last - change.at);
    }
    Ok(lags)
}

/// Replaces pods that everybody may be reached from, one after the other: how long until all clients that are
/// concerned, those of one app in each namespace, have acknowledged it.
pub fn wide(
    api: &ApiServer,
    followers: &Followers,
    fleet: Fleet,
    clients: usize,
) -> Result<Vec<Duration>> {
    let mut lags = Vec::new();
    for number in 0..WIDE {
        let pod = clients + number;
        let old = api_name(fleet, MONITORING, pod, 0);
        let new = fleet.pod_object(MONITORING, pod, 1);
        let at = Instant::now();
        api.remove("v1", "Pod", &old)?;
        api.put(&new)?;
        let mut told = vec![false; fleet.namespaces * clients];
        let mut last = at;
        while let Some(arrival) = followers.next(QUIET) {
            told[arrival.client] = true;
            last = last.max(arrival.at);
        }
        let count = told.iter().filter(|told| **told).count();
        ensure!(count >= fleet.namespaces, "only {count} clients were told");
        lags.push(last - at);
    }
    Ok(lags)
}
