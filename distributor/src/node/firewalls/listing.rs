//! Other programs' chains and rules, read from `nft -j list ruleset`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::BaseChain;
use crate::node::ruleset::TABLE;

/// Where a packet meets a chain first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Forward,
    Input,
}

/// The chains of one table, by name.
pub(super) type Chains = BTreeMap<String, Vec<Vec<Value>>>;

/// A base chain that routed TCP may meet.
pub(super) struct Base {
    pub(super) chain: BaseChain,
    pub(super) hook: Hook,
    pub(super) drops_by_policy: bool,
}

/// The rules of a node, without Sidewall's and kube-proxy's.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) bases: Vec<Base>,
    tables: BTreeMap<(String, String), Chains>,
}

#[derive(Deserialize)]
struct Document {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    chain: Option<Chain>,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

#[derive(Deserialize)]
struct Rule {
    family: String,
    table: String,
    chain: String,
    #[serde(default)]
    expr: Vec<Value>,
}

impl Listing {
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let document: Document = serde_json::from_str(text)?;
        let mut listing = Self::default();
        for item in document.nftables {
            match (item.chain, item.rule) {
                (Some(chain), _) if is_of_others(&chain.family, &chain.table) => {
                    listing.add_chain(chain);
                }
                (_, Some(rule)) if is_of_others(&rule.family, &rule.table) => {
                    let chains = listing.tables.entry((rule.family, rule.table)).or_default();
                    chains.entry(rule.chain).or_default().push(rule.expr);
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    /// The chains of the table that a base chain is in.
    pub(super) fn table(&self, base: &Base) -> Option<&Chains> {
        let BaseChain { family, table, .. } = &base.chain;
        self.tables.get(&(family.clone(), table.clone()))
    }

    fn add_chain(&mut self, chain: Chain) {
        let hook = match chain.hook.as_deref() {
            Some("forward") => Hook::Forward,
            Some("input") => Hook::Input,
            _ => return,
        };
        self.bases.push(Base {
            hook,
            drops_by_policy: chain.policy.as_deref() == Some("drop"),
            chain: BaseChain {
                family: chain.family,
                table: chain.table,
                name: chain.name,
            },
        });
    }
}

/// Whether routed packets meet a table that is neither Sidewall's nor kube-proxy's in its nftables mode.
fn is_of_others(family: &str, table: &str) -> bool {
    match family {
        "inet" => table != TABLE,
        "ip" | "ip6" => table != "kube-proxy",
        _ => false,
    }
}
