//! What an API server can do to those who watch it, and that no verdict changes for it.
//!
//! Each case lets the server fail, changes objects meanwhile, and holds the distributor to two things: it
//! publishes nothing that the objects do not call for, and it has caught up two seconds after the
//! server's return.

#[path = "kube_support/compiled.rs"]
mod compiled;
#[path = "kube_support/objects.rs"]
mod objects;
#[path = "kube_support/site.rs"]
mod site;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::apiserver::ApiServer;
use sidewall_host_tests::harness::{self, Case};

use compiled::compiled;
use objects::{pod, policy, shop};
use site::Site;

fn main() -> ExitCode {
    harness::main_anywhere(&CASES)
}

const CASES: [Case; 11] = [
    ("killed", killed),
    ("killed_and_history_compacted", killed_and_compacted),
    (
        "history_compacted_and_watches_refused",
        compacted_and_refused,
    ),
    ("put_back_from_a_backup", put_back),
    ("answering_500", || failing(500, None)),
    ("answering_429_with_retry_after", || failing(429, Some(1))),
    ("watches_cut_in_the_middle_of_an_object", cut),
    ("slow", slow),
    ("slow_when_watches_begin_anew", slow_anew),
    ("flapping", flapping),
    ("ending_every_watch_at_once", hasty),
];

/// What the design promises for the time after the server's return.
const CATCH_UP: Duration = Duration::from_secs(2);

/// What else happens on a busy machine, for which the distributor is not to blame.
const ALLOWANCE: Duration = Duration::from_secs(2);

/// How long failures last: long enough for every pause between attempts to have grown to its longest.
const OUTAGE: Duration = Duration::from_millis(2500);

/// The policies that change while the server is in trouble: `db` takes another port, `cache` closes, and
/// `old` goes.
fn change(site: &Site) -> Result<()> {
    site.server.put(&policy("db", "db", "web", 5432))?;
    site.server.put(&policy("cache", "cache", "nobody", 80))?;
    site.server
        .remove("networking.k8s.io/v1", "NetworkPolicy", "shop/old")?;
    Ok(())
}

fn site() -> Result<Site> {
    let mut objects = shop();
    objects.extend([pod("old", "old", 4), policy("old", "old", "web", 80)]);
    Site::start(&objects)
}

/// The distributor has caught up in time, and has published each of those pods once, nobody else.
fn caught_up(site: &mut Site, before: usize, pods: &[&str]) -> Result<()> {
    let took = site.caught_up()?;
    ensure!(took < CATCH_UP + ALLOWANCE, "caught up after {took:?}");
    // What is not called for may come later.
    sleep(Duration::from_millis(300));
    let mut published: Vec<String> = site
        .published()?
        .split_off(before)
        .into_iter()
        .map(|(pod, _)| pod)
        .collect();
    published.sort();
    ensure!(
        published == pods,
        "published for {published:?}, not for {pods:?}"
    );
    site.until("without problems", |status| status["problems"] == json!([]))
}

/// Nothing has been published since, and the failure is told.
fn nothing_happened(site: &mut Site, before: usize) -> Result<()> {
    ensure!(
        site.published()?.len() == before,
        "published: {:?}",
        &site.published()?[before..]
    );
    ensure!(site.is_ready(), "what is known is still served");
    site.until("reported", |status| {
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().any(|problem| {
            let consequence = problem["consequence"].as_str().unwrap_or_default();
            problem["object"] == "API server, NetworkPolicy"
                && consequence.contains("stays in force")
        })
    })
}

const CHANGED: [&str; 3] = ["shop/cache", "shop/db", "shop/old"];

fn killed() -> Result<()> {
    let mut site = site()?;
    let before = site.published()?.len();
    site.server.kill();
    sleep(OUTAGE);
    nothing_happened(&mut site, before)?;
    site.server.restart()?;
    caught_up(&mut site, before, &[])?;

    site.server.kill();
    change(&site)?;
    sleep(OUTAGE);
    nothing_happened(&mut site, before)?;
    site.server.restart()?;
    caught_up(&mut site, before, &CHANGED)
}

/// Changes and deletions are not in any watch any more: only a list can tell of them.
fn killed_and_compacted() -> Result<()> {
    let mut site = site()?;
    let before = site.published()?.len();
    site.server.kill();
    site.server.compact()?;
    site.server.restart()?;
    caught_up(&mut site, before, &[])?;

    let old = site.server.objects()?;
    site.server.kill();
    change(&site)?;
    site.server.remove("v1", "Pod", "shop/web")?;
    site.server.compact()?;
    let new = site.server.objects()?;
    sleep(OUTAGE);
    nothing_happened(&mut site, before)?;
    site.server.restart()?;
    let took = site.caught_up()?;
    ensure!(took < CATCH_UP + ALLOWANCE, "caught up after {took:?}");
    // Pods and policies come in lists of their own, in either order.
    let allowed = [
        compiled(&new)?,
        compiled(&mixed(&old, &new))?,
        compiled(&mixed(&new, &old))?,
    ];
    for (pod, revision) in site.published()?.split_off(before) {
        let called_for = allowed.iter().any(|it| it.get(&pod) == Some(&revision));
        ensure!(
            called_for,
            "{pod} was given {revision}, for which nothing calls"
        );
    }
    Ok(())
}

/// The policies of one time and everything else of another.
fn mixed(policies: &[Value], others: &[Value]) -> Vec<Value> {
    let is_policy = |it: &&Value| it["kind"] == "NetworkPolicy";
    let policies = policies.iter().filter(is_policy);
    let others = others.iter().filter(|it| !is_policy(it));
    policies.chain(others).cloned().collect()
}

/// As some servers and proxies put it: the watch is refused with 410 instead of being told by an event.
fn compacted_and_refused() -> Result<()> {
    let mut site = site()?;
    let before = site.published()?.len();
    site.server.refuse_expired_watches(true);
    site.server.kill();
    change(&site)?;
    site.server.compact()?;
    site.server.restart()?;
    caught_up(&mut site, before, &CHANGED)
}

/// What the distributor has seen is ahead of what the server knows.
fn put_back() -> Result<()> {
    let mut site = site()?;
    let before = site.published()?.len();
    site.server.kill();
    change(&site)?;
    site.server.rewind()?;
    site.server.restart()?;
    caught_up(&mut site, before, &CHANGED)
}

fn failing(status: u16, retry_after: Option<u32>) -> Result<()> {
    let mut site = site()?;
    let before = site.published()?.len();
    site.server.fail(status, retry_after)?;
    // Open watches are not touched by that: they end, and their successors are refused.
    site.server.kill();
    site.server.restart()?;
    change(&site)?;
    sleep(OUTAGE);
    nothing_happened(&mut site, before)?;
    site.server.recover();
    caught_up(&mut site, before, &CHANGED)
}

fn cut() -> Result<()> {
    let mut site = site()?;
    let before = site.published()?.len();
    site.server.cut_watches(3);
    change(&site)?;
    caught_up(&mut site, before, &CHANGED)?;
    // And what is cut may be a deletion.
    site.server.cut_watches(1);
    site.server
        .remove("networking.k8s.io/v1", "NetworkPolicy", "shop/cache")?;
    caught_up(&mut site, before + 3, &["shop/cache"])
}

/// Each answer takes a second: lists, and the beginning of each watch.
fn slow() -> Result<()> {
    let server = ApiServer::start()?;
    server.delay(Duration::from_secs(1));
    let mut site = Site::start_with(server, &shop())?;
    sleep(Duration::from_millis(500));
    ensure!(site.published()?.is_empty() && !site.is_ready());
    site.caught_up()?;
    let before = site.published()?.len();
    site.server.put(&policy("cache", "cache", "nobody", 80))?;
    let took = site.caught_up()?;
    ensure!(took < CATCH_UP + ALLOWANCE, "caught up after {took:?}");
    ensure!(
        site.published()?.len() == before + 1,
        "{:?}",
        site.published()?
    );
    Ok(())
}

/// A watch that goes on brings what has changed, whatever else is asked of the server meanwhile: nothing waits
/// for a second slow answer.
fn slow_anew() -> Result<()> {
    const ANSWER: Duration = Duration::from_secs(8);
    let mut site = Site::start(&shop())?;
    let before = site.published()?.len();
    site.server.delay(ANSWER);
    site.server.kill();
    site.server.restart()?;
    // By then watches have been granted, and what was asked afterwards has not been answered.
    sleep(ANSWER + Duration::from_millis(1500));
    site.server.put(&policy("cache", "cache", "nobody", 80))?;
    let took = site.caught_up()?;
    ensure!(took < CATCH_UP + ALLOWANCE, "caught up after {took:?}");
    ensure!(site.published()?.len() == before + 1);
    Ok(())
}

/// Up and down again and again, while policies change: each of their versions is one that was called for.
fn flapping() -> Result<()> {
    let mut site = site()?;
    let before = site.published()?.len();
    let mut allowed = vec![compiled(&site.server.objects()?)?];
    for round in 0..12 {
        site.server.put(&policy("db", "db", "web", 1000 + round))?;
        allowed.push(compiled(&site.server.objects()?)?);
        site.server.kill();
        if round % 3 == 0 {
            site.server.compact()?;
        }
        sleep(Duration::from_millis(150));
        site.server.restart()?;
        sleep(Duration::from_millis(u64::from(round) * 40));
    }
    let took = site.caught_up()?;
    ensure!(took < CATCH_UP + ALLOWANCE, "caught up after {took:?}");
    let mut at = 0;
    for (pod, revision) in site.published()?.split_off(before) {
        ensure!(
            pod == "shop/db",
            "{pod} was published, for which nothing calls"
        );
        // Versions may be left out, but never come back.
        let place = allowed[at..]
            .iter()
            .position(|it| it["shop/db"] == revision);
        ensure!(place.is_some(), "{revision} is none of those to come");
        at += place.unwrap_or_default();
    }
    site.until("without problems", |status| status["problems"] == json!([]))
}

/// A server that breaks every watch off as soon as it has begun is not run down, and still followed.
fn hasty() -> Result<()> {
    let mut site = Site::start(&shop())?;
    site.server.end_watches_at_once();
    site.server.kill();
    site.server.restart()?;
    let (started, requests) = (Instant::now(), site.server.requests());
    let before = site.published()?.len();
    site.server.put(&policy("cache", "cache", "nobody", 80))?;
    site.caught_up()?;
    sleep(Duration::from_secs(3));
    // Six kinds, and twice as many as they are allowed, for the limit counts by the second.
    let most = 6 * 20 * 2 * (started.elapsed().as_secs() + 1);
    let made = site.server.requests() - requests;
    ensure!(
        made < most,
        "{made} requests within {:?}",
        started.elapsed()
    );
    ensure!(
        site.published()?.len() == before + 1,
        "{:?}",
        site.published()?
    );
    Ok(())
}
