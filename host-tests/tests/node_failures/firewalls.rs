//! Rules of others on the node: what redirection bypasses, what stops it, and what the agent says about both.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_host_tests::lab::{Expect, Lab, Probe};

use super::table::on_node;
use super::{BACK, NODE, hold_to, started};

/// Node-1's own chain at `forward`, which drops what goes to the pods' port.
const FORWARD: &str = "add table inet hostfw; add chain inet hostfw out { type filter hook forward priority 0; }; \
                       add rule inet hostfw out tcp dport 80 counter drop";

/// A firewall of node-1 that takes in what it knows and nothing else.
const INPUT: &str = "add table inet hostfw; add chain inet hostfw local { type filter hook input priority 0; policy drop; }; \
                     add rule inet hostfw local ct state established,related accept; \
                     add rule inet hostfw local iif lo accept; \
                     add rule inet hostfw local meta l4proto { icmp, ipv6-icmp } accept";

const MARKED: &str = "insert rule inet hostfw local meta mark & 0x10000 == 0x10000 accept";
const GONE: &str = "delete table inet hostfw";

/// `bare` is redirected and `kernel` is not; both take `friend`.
fn reached(lab: &Lab, bare: bool, kernel: bool, when: &str) -> Result<()> {
    let mut probes = Vec::new();
    for (server, is_open) in [("default/bare", bare), ("default/kernel", kernel)] {
        let expect = if is_open { Expect::Allow } else { Expect::Deny };
        probes.push(Probe::new("default/friend", server, 80)?.expect(expect));
    }
    hold_to(lab, &probes, when)?;
    Ok(())
}

/// The agent stays ready, and says this about the rules of others.
fn says(lab: &Lab, chain: Option<&str>, metrics: [&str; 2], when: &str) -> Result<()> {
    let since = Instant::now();
    loop {
        let page = lab.agent_get(NODE, "/readyz")?;
        let counted = lab.agent_get(NODE, "/metrics")?;
        let is_said = match chain {
            Some(chain) => page.contains(chain),
            None => !page.contains("hostfw"),
        };
        if is_said && metrics.iter().all(|line| counted.contains(line)) {
            return Ok(());
        }
        ensure!(
            since.elapsed() < BACK,
            "{when}: /readyz is {page:?}, {counted}"
        );
        thread::sleep(Duration::from_millis(200));
    }
}

const fn counts(bypassed: bool, blocks: bool) -> [&'static str; 2] {
    [
        if bypassed {
            "sidewall_node_firewall_chains{effect=\"bypassed\"} 1"
        } else {
            "sidewall_node_firewall_chains{effect=\"bypassed\"} 0"
        },
        if blocks {
            "sidewall_node_firewall_chains{effect=\"blocks\"} 1"
        } else {
            "sidewall_node_firewall_chains{effect=\"blocks\"} 0"
        },
    ]
}

pub fn reported() -> Result<()> {
    let lab = started()?;
    says(&lab, None, counts(false, false), "without other rules")?;

    on_node(&lab, &format!("nft {FORWARD}"))?;
    reached(&lab, true, false, "under a FORWARD rule")?;
    says(
        &lab,
        Some("`inet hostfw out`"),
        counts(true, false),
        "under a FORWARD rule",
    )?;
    on_node(&lab, &format!("nft {GONE}"))?;

    on_node(&lab, &format!("nft {INPUT}"))?;
    reached(&lab, false, true, "under an INPUT policy")?;
    says(
        &lab,
        Some("`inet hostfw local`"),
        counts(false, true),
        "under an INPUT policy",
    )?;
    on_node(&lab, &format!("nft {MARKED}"))?;
    reached(&lab, true, true, "with the mark accepted")?;
    says(&lab, None, counts(false, false), "with the mark accepted")
}
