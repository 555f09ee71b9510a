//! The table as others may find it: tampered with, and to be taken away.

use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::envoy::Artifact;
use sidewall_host_tests::lab::Lab;
use sidewall_host_tests::net::Netns;

use super::{BACK, NODE, judged, started};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

pub fn on_node(lab: &Lab, line: &str) -> Result<String> {
    let mut words = line.split(' ');
    let program = words.next().context("no program")?;
    let netns = lab.netns(&format!("node:{NODE}"))?;
    let output = netns.command(program).args(words).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How often the agent has put the table right.
fn repairs(lab: &Lab) -> Result<u64> {
    let metrics = lab.agent_get(NODE, "/metrics")?;
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sidewall_node_repairs_total "));
    Ok(count.context("no such counter")?.parse()?)
}

pub fn repaired() -> Result<()> {
    let lab = started()?;
    let mut done = repairs(&lab)?;
    for tampering in [
        "nft delete table inet sidewall",
        "nft flush ruleset",
        "nft flush chain inet sidewall pods",
        "nft flush map inet sidewall ingress_pods4",
        "nft add element inet sidewall ingress_pods6 { fd00:244:1::99 : goto ingress_open }",
    ] {
        on_node(&lab, tampering)?;
        let since = Instant::now();
        while repairs(&lab)? == done {
            ensure!(
                since.elapsed() < BACK,
                "{tampering}: not noticed; the agent says {}",
                lab.agent_log(NODE)?
            );
            thread::sleep(Duration::from_millis(20));
        }
        lab.wait_applied()?;
        done = repairs(&lab)?;
        judged(&lab, "friend", "stranger", true, tampering)?;
    }
    Ok(())
}

fn clean_up(netns: &Netns, user: Option<u32>) -> Result<Output> {
    let sidewall = Artifact::Sidewall.find()?;
    let mut command = match user {
        None => netns.command(sidewall),
        Some(user) => netns.command_as(user, user, &[], sidewall),
    };
    Ok(command.args(["node", "--cleanup"]).output()?)
}

/// Every trace of the node plane in a node's kernel.
fn traces(lab: &Lab) -> Result<String> {
    let mut traces = String::new();
    if lab.ruleset(NODE)?.contains("table inet sidewall") {
        traces.push_str("the table; ");
    }
    for family in ["-4", "-6"] {
        for line in on_node(lab, &format!("ip {family} rule"))?.lines() {
            if line.contains("15100") || line.contains("0x10000") {
                traces.push_str(line);
            }
        }
        for line in on_node(lab, &format!("ip {family} route show table all"))?.lines() {
            if line.contains("table 15100") {
                traces.push_str(line);
            }
        }
    }
    Ok(traces)
}

/// Twice, since it may be run where there is nothing.
pub fn cleaned_up() -> Result<()> {
    let lab = started()?;
    let before = traces(&lab)?;
    ensure!(
        before.contains("the table") && before.contains("15100"),
        "too little to be cleaned up: {before}"
    );
    lab.kill_agent(NODE)?;
    let netns = lab.netns(&format!("node:{NODE}"))?;
    for _ in 0..2 {
        let output = clean_up(&netns, None)?;
        ensure!(output.status.success(), "{output:?}");
        let left = traces(&lab)?;
        ensure!(left.is_empty(), "left behind: {left}");
    }
    Ok(())
}

/// Without the right to change anything it says so, of each thing.
pub fn not_cleaned_up() -> Result<()> {
    let lab = started()?;
    lab.kill_agent(NODE)?;
    let netns = lab.netns(&format!("node:{NODE}"))?;
    let before = traces(&lab)?;
    let output = clean_up(&netns, Some(NOBODY))?;
    let says = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(!output.status.success(), "it claims success: {says}");
    for part in [
        "not fully removed",
        "`nft",
        "`ip -4 rule del",
        "`ip -6 rule del",
        "`ip -4 route flush",
        "`ip -6 route flush",
    ] {
        ensure!(says.contains(part), "no word of {part}: {says}");
    }
    ensure!(traces(&lab)? == before, "something is gone all the same");
    Ok(())
}
