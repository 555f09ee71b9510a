//! Rules of others that redirection to the node's Envoy would bypass, or that would break it.
//!
//! A connection that Envoy carries ends at the node and begins there again: chains at the FORWARD hook do not see it
//! any more, and chains at the INPUT hook do. Neither is decided here; the operator learns of it from `/readyz`, the log
//! and a metric. Rules that iptables-nft writes show up as any others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use sidewall_policy::model::TcpPath;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::program::{self, ProgramError};
use super::ruleset::{DELIVER, TABLE};

/// How often to look: these rules change with the node's configuration.
const INTERVAL: Duration = Duration::from_secs(30);

/// kube-proxy's chains drop and reject what it translates or has no endpoint for.
const KUBE_PROXY_TABLE: &str = "kube-proxy";
const KUBE_PROXY_CHAINS: &str = "KUBE-";

/// Looks as long as the agent runs.
pub(super) struct Others {
    pub(super) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What redirection meets, one sentence each.
    pub(super) found: watch::Sender<Vec<String>>,
}

impl Others {
    pub(super) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.watch()).await;
    }

    async fn watch(mut self) {
        let mut next = Instant::now();
        let mut was_redirected = false;
        loop {
            let is_redirected = self
                .snapshots
                .borrow_and_update()
                .as_deref()
                .is_some_and(redirects);
            if is_redirected != was_redirected || next <= Instant::now() {
                let found = if is_redirected {
                    look().await
                } else {
                    Vec::new()
                };
                self.tell(found);
                was_redirected = is_redirected;
                next = Instant::now() + INTERVAL;
            }
            tokio::select! {
                () = sleep_until(next) => {}
                changed = self.snapshots.changed() => if changed.is_err() {
                    // Whoever feeds us has ended: so will this process.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    fn tell(&self, found: Vec<String>) {
        self.found.send_if_modified(|last| {
            let differs = *last != found;
            if differs {
                found.iter().for_each(|text| warn!("redirection: {text}"));
                if found.is_empty() {
                    info!("redirection meets no rules of others any more");
                }
                *last = found;
            }
            differs
        });
    }
}

fn redirects(snapshot: &Snapshot) -> bool {
    let mut pods = snapshot.pods();
    pods.any(|pod| pod.tcp_path == TcpPath::NodeProxy)
}

async fn look() -> Vec<String> {
    match list().await {
        Ok(listing) => find(&listing),
        Err(error) => vec![format!(
            "cannot tell which rules redirection meets: {error}"
        )],
    }
}

/// The tables with chains at either hook, as `nft -j` prints them, without elements of sets.
async fn list() -> Result<Vec<Value>, ProgramError> {
    let chains = program::must("nft", "-j list chains", "").await?;
    let mut items = Vec::new();
    for (family, table) in tables(&chains) {
        let line = format!("-j -t list table {family} {table}");
        let printed = program::must("nft", &line, "").await?;
        items.extend(read(&printed));
    }
    Ok(items)
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Value>,
}

/// What cannot be read has no items: it is not ours.
fn read(json: &str) -> Vec<Value> {
    serde_json::from_str(json).map_or_else(|_| Vec::new(), |listing: Listing| listing.nftables)
}

/// The tables of others with base chains at one of the two hooks.
fn tables(chains: &str) -> BTreeSet<(String, String)> {
    let items = read(chains);
    let chains = items.iter().filter_map(|item| item.get("chain"));
    let hooked = chains.filter(|chain| ["input", "forward"].contains(&word(chain, "hook")));
    hooked
        .map(|chain| {
            (
                word(chain, "family").to_owned(),
                word(chain, "table").to_owned(),
            )
        })
        .filter(|(_, table)| ![TABLE, KUBE_PROXY_TABLE].contains(&table.as_str()))
        .collect()
}

fn word<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// A chain of others with its rules.
#[derive(Default)]
struct Chain<'a> {
    hook: &'a str,
    drops_by_policy: bool,
    rules: Vec<&'a [Value]>,
}

/// What redirection meets in these tables.
fn find(items: &[Value]) -> Vec<String> {
    let mut chains: BTreeMap<[&str; 3], Chain<'_>> = BTreeMap::new();
    for item in items {
        if let Some(chain) = item.get("chain") {
            let key = ["family", "table", "name"].map(|field| word(chain, field));
            let found = chains.entry(key).or_default();
            found.hook = word(chain, "hook");
            found.drops_by_policy = word(chain, "policy") == "drop";
        } else if let Some(rule) = item.get("rule") {
            let key = ["family", "table", "chain"].map(|field| word(rule, field));
            let expressions = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
            chains.entry(key).or_default().rules.push(expressions);
        }
    }
    let mut found = Vec::new();
    for (key, chain) in &chains {
        let [family, table, name] = key;
        match chain.hook {
            "forward" if drops(&chains, *key, &mut BTreeSet::new()) => found.push(format!(
                "the chain {family} {table} {name} at the FORWARD hook drops or rejects traffic; this does not apply to \
                 TCP of pods that ask for redirection"
            )),
            "input" if chain.drops_by_policy && !accepts_marked(chain) => found.push(format!(
                "the chain {family} {table} {name} at the INPUT hook drops by default: TCP of pods that ask for \
                 redirection is lost, unless a rule there accepts packets with mark {DELIVER:#x}/{DELIVER:#x}"
            )),
            _ => {}
        }
    }
    found
}

/// Whether a chain, or one that it leads to, drops or rejects.
fn drops<'a>(
    chains: &BTreeMap<[&'a str; 3], Chain<'a>>,
    key: [&'a str; 3],
    seen: &mut BTreeSet<[&'a str; 3]>,
) -> bool {
    let [family, table, name] = key;
    if name.starts_with(KUBE_PROXY_CHAINS) || !seen.insert(key) {
        return false;
    }
    let Some(chain) = chains.get(&key) else {
        return false;
    };
    chain.drops_by_policy
        || chain.rules.iter().copied().flatten().any(|expression| {
            let leads_to = |verdict: &str| {
                let target = expression.get(verdict)?.get("target")?.as_str()?;
                chains
                    .keys()
                    .find(|known| **known == [family, table, target])
                    .copied()
            };
            expression.get("drop").is_some()
                || expression.get("reject").is_some()
                || ["jump", "goto"]
                    .into_iter()
                    .filter_map(leads_to)
                    .any(|target| drops(chains, target, seen))
        })
}

/// Whether a rule accepts by a mark. Which one is left to the operator: iptables' marks show no number here.
fn accepts_marked(chain: &Chain<'_>) -> bool {
    chain.rules.iter().any(|rule| {
        let accepts = rule
            .iter()
            .any(|expression| expression.get("accept").is_some());
        accepts
            && rule
                .iter()
                .any(|expression| expression.to_string().contains("\"mark\""))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(table: &str, name: &str, hook: &str, policy: &str) -> Value {
        json!({"chain": {"family": "ip", "table": table, "name": name, "hook": hook, "policy": policy}})
    }

    fn rule(table: &str, chain: &str, expressions: &Value) -> Value {
        json!({"rule": {"family": "ip", "table": table, "chain": chain, "expr": expressions}})
    }

    fn jump(to: &str) -> Value {
        json!([{"jump": {"target": to}}])
    }

    #[test]
    fn a_chain_that_forwards_everything_is_no_matter() {
        let items = [
            chain("filter", "FORWARD", "forward", "accept"),
            rule("filter", "FORWARD", &json!([{"accept": null}])),
            chain("filter", "INPUT", "input", "accept"),
            rule("filter", "INPUT", &json!([{"drop": null}])),
        ];
        assert_eq!(find(&items), Vec::<String>::new());
    }

    #[test]
    fn drops_at_forward_are_found_by_policy_by_rule_and_behind_jumps() {
        for items in [
            vec![chain("filter", "FORWARD", "forward", "drop")],
            vec![
                chain("filter", "FORWARD", "forward", "accept"),
                rule(
                    "filter",
                    "FORWARD",
                    &json!([{"match": {}}, {"reject": null}]),
                ),
            ],
            vec![
                chain("filter", "FORWARD", "forward", "accept"),
                json!({"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER"}}),
                rule("filter", "FORWARD", &jump("DOCKER-USER")),
                rule("filter", "DOCKER-USER", &json!([{"drop": null}])),
                rule("filter", "DOCKER-USER", &jump("DOCKER-USER")),
            ],
        ] {
            let found = find(&items);
            assert!(
                found.len() == 1 && found[0].contains("ip filter FORWARD"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_kube_proxy_drops_is_its_own() {
        let items = [
            chain("filter", "FORWARD", "forward", "accept"),
            json!({"chain": {"family": "ip", "table": "filter", "name": "KUBE-FORWARD"}}),
            rule("filter", "FORWARD", &jump("KUBE-FORWARD")),
            rule("filter", "KUBE-FORWARD", &json!([{"drop": null}])),
        ];
        assert_eq!(find(&items), Vec::<String>::new());
        let chains = json!({"nftables": [
            chain("kube-proxy", "filter-forward", "forward", "accept"),
            chain("sidewall", "x", "input", "drop"),
            chain("nat", "PREROUTING", "prerouting", "accept"),
            chain("filter", "INPUT", "input", "drop"),
        ]});
        let tables: Vec<_> = tables(&chains.to_string()).into_iter().collect();
        assert_eq!(tables, [("ip".to_owned(), "filter".to_owned())]);
    }

    #[test]
    fn input_that_drops_needs_a_rule_for_the_mark() {
        let closed = chain("filter", "INPUT", "input", "drop");
        let found = find(std::slice::from_ref(&closed));
        assert!(
            found.len() == 1 && found[0].contains("mark 0x10000/0x10000"),
            "{found:?}"
        );
        let mark = json!([{"match": {"left": {"&": [{"meta": {"key": "mark"}}, 0x1_0000]}}}, {"accept": null}]);
        assert_eq!(
            find(&[closed, rule("filter", "INPUT", &mark)]),
            Vec::<String>::new()
        );
    }
}
