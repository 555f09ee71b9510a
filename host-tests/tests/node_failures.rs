//! The agent, the node's Envoy and the distributor are killed in turn under traffic, and others
//! tamper with the table: nothing that was denied opens, and nothing that the kernel carries closes.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "node_failures/firewalls.rs"]
mod firewalls;
#[path = "node_failures/kills.rs"]
mod kills;
#[path = "node_failures/table.rs"]
mod table;
#[path = "node_support/traffic.rs"]
mod traffic;
#[path = "node_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Expect, Family, Lab, LabConfig, Plane, Probe, Redirect};
use sidewall_host_tests::probe::{Held, Protocol};
use traffic::PATIENCE;
use world::{Path, Pod, cluster, hold_to, policy};

/// What comes back, comes back within this time.
const BACK: Duration = Duration::from_secs(20);
const NODE: &str = "node-1";
const FILE: &str = "policies.yaml";

fn main() -> ExitCode {
    harness::main(&[
        (
            "under_traffic_nothing_opens_and_the_kernel_loses_nothing",
            kills::under_traffic,
        ),
        ("without_an_agent_the_rules_stay", agent),
        ("without_a_node_envoy_only_its_tcp_is_closed", node_envoy),
        ("without_a_distributor_everything_stays", distributor),
        (
            "rules_that_redirection_meets_or_bypasses_are_reported",
            firewalls::reported,
        ),
        ("a_table_that_is_tampered_with_is_repaired", table::repaired),
        ("cleanup_leaves_nothing", table::cleaned_up),
        (
            "cleanup_reports_what_it_cannot_remove",
            table::not_cleaned_up,
        ),
    ])
}

/// Servers are on node-1: `bare` is carried by the node's Envoy, `kernel` by nobody. They take
/// `friend` and not `stranger`.
const PODS: [Pod; 4] = [
    pod("bare", 1, 11, Path::Bare),
    pod("kernel", 1, 12, Path::Kernel),
    pod("friend", 2, 21, Path::Kernel),
    pod("stranger", 2, 22, Path::Kernel),
];

const fn pod(name: &'static str, node: u8, host: u8, path: Path) -> Pod {
    Pod {
        name,
        role: if node == 1 { "server" } else { "client" },
        node,
        host,
        path,
    }
}

fn takes(client: &str) -> String {
    policy(
        "servers",
        &format!(
            "podSelector: {{matchLabels: {{role: server}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {client}}}}}}}]}}]"
        ),
    )
}

/// The pods under a policy that takes `friend`.
pub fn started() -> Result<Lab> {
    let pods = PODS.iter().map(Pod::manifest);
    Ok(Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .redirect(Redirect::OnRequest)
            .probe_timeout(Duration::from_millis(1500))
            .manifest("cluster.yaml", cluster(pods))
            .manifest(FILE, takes("friend")),
    )?)
}

/// What is judged in the kernel, by who may come; and whether TCP to `bare` gets through as well.
pub fn judged(lab: &Lab, friend: &str, stranger: &str, has_envoy: bool, when: &str) -> Result<()> {
    let mut probes = Vec::new();
    for (client, is_friend) in [(friend, true), (stranger, false)] {
        for server in ["default/bare", "default/kernel"] {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let needs_envoy = server == "default/bare" && protocol == Protocol::Tcp;
                let is_open = is_friend && (has_envoy || !needs_envoy);
                let expect = if is_open { Expect::Allow } else { Expect::Deny };
                let client = format!("default/{client}");
                probes.push(Probe::new(&client, server, 80)?.by(protocol).expect(expect));
            }
        }
    }
    hold_to(lab, &probes, when)?;
    Ok(())
}

/// Live flows that the kernel carries alone.
fn hold(lab: &Lab) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for (server, protocol) in [
        ("default/kernel", Protocol::Tcp),
        ("default/kernel", Protocol::Udp),
        ("default/bare", Protocol::Udp),
    ] {
        for family in [Family::IPv4, Family::IPv6] {
            let probe = Probe::new("default/friend", server, 80)?;
            held.push(lab.hold(&probe.by(protocol).over(family))?);
        }
    }
    Ok(held)
}

fn alive(held: &mut [Held], when: &str) -> Result<()> {
    for held in held {
        let answer = held.exchange(PATIENCE);
        answer
            .map_err(|error| anyhow::anyhow!("{when}, a flow to {}: {error}", held.identity()))?;
    }
    Ok(())
}

/// Everybody goes by a policy that takes the other client.
fn turned_over(lab: &Lab, held: &mut [Held]) -> Result<()> {
    judged(lab, "stranger", "friend", true, "after the policy changed")?;
    for held in held {
        let answered = held.wait_silent(Duration::from_millis(500), PATIENCE);
        ensure!(answered.is_some(), "a denied flow is still answered");
    }
    Ok(())
}

fn agent() -> Result<()> {
    let lab = started()?;
    let mut held = hold(&lab)?;
    let before = lab.ruleset(NODE)?;
    lab.kill_agent(NODE)?;
    judged(&lab, "friend", "stranger", true, "without an agent")?;
    alive(&mut held, "without an agent")?;
    // It adopts what is there, and nobody notices.
    lab.start_agent(NODE)?;
    let started = Instant::now();
    while lab.agent_get(NODE, "/readyz").is_err() {
        judged(&lab, "friend", "stranger", true, "while an agent starts")?;
        ensure!(started.elapsed() < BACK, "{}", lab.agent_log(NODE)?);
    }
    lab.wait_applied()?;
    alive(&mut held, "with another agent")?;
    ensure!(
        without_counts(&before) == without_counts(&lab.ruleset(NODE)?),
        "another agent changed what was right"
    );
    // What changes while none runs takes effect once one does.
    lab.kill_agent(NODE)?;
    lab.write_manifest(FILE, &takes("stranger"))?;
    alive(&mut held, "nobody can have told the kernel")?;
    lab.start_agent(NODE)?;
    lab.wait_applied()?;
    turned_over(&lab, &mut held)
}

/// Counters count on.
fn without_counts(ruleset: &str) -> Vec<&str> {
    let is_count = |line: &&str| line.trim_start().starts_with("packets ");
    ruleset.lines().filter(|line| !is_count(line)).collect()
}

/// A namespace that asks for redirection, and two of its pods: one that says nothing and one that opts out.
fn asking() -> String {
    let silent = pod("silent", 1, 13, Path::Kernel).manifest();
    let refusing = pod("refusing", 1, 14, Path::Bare).manifest();
    let refusing = refusing.replace("redirect: 'true'", "redirect: 'false'");
    let pods = [silent, refusing].map(|pod| pod.replace("labels:", "namespace: asking, labels:"));
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: asking, annotations: {{sidewall.dev/redirect: 'true'}}}}}}\n---\n{}",
        pods.join("---\n")
    )
}

fn node_envoy() -> Result<()> {
    let lab = started()?;
    lab.apply("asking.yaml", &asking())?;
    let mut held = hold(&lab)?;
    lab.kill_node_envoy(NODE)?;
    judged(&lab, "friend", "stranger", false, "without a node Envoy")?;
    let asking = [
        ("asking/silent", Expect::Deny),
        ("asking/refusing", Expect::Allow),
    ]
    .map(|(to, expect)| Ok(Probe::new("default/friend", to, 80)?.expect(expect)));
    let asking = asking.into_iter().collect::<Result<Vec<_>>>()?;
    hold_to(&lab, &asking, "without a node Envoy")?;
    alive(&mut held, "without a node Envoy")?;
    lab.start_node_envoy(NODE)?;
    lab.wait_applied()?;
    judged(&lab, "friend", "stranger", true, "with another Envoy")?;
    alive(&mut held, "with another Envoy")?;
    lab.apply(FILE, &takes("stranger"))?;
    turned_over(&lab, &mut held)
}

fn distributor() -> Result<()> {
    let lab = started()?;
    let mut held = hold(&lab)?;
    lab.kill_distributor();
    // Long enough for everybody to have noticed and tried again.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        judged(&lab, "friend", "stranger", true, "without a distributor")?;
        alive(&mut held, "without a distributor")?;
        thread::sleep(Duration::from_millis(100));
    }
    // An agent that restarts meanwhile knows nothing, and leaves what is there.
    lab.kill_agent(NODE)?;
    lab.start_agent(NODE)?;
    thread::sleep(Duration::from_secs(1));
    judged(&lab, "friend", "stranger", true, "with nobody to ask")?;
    alive(&mut held, "with nobody to ask")?;
    lab.write_manifest(FILE, &takes("stranger"))?;
    lab.start_distributor()?;
    lab.wait_applied()?;
    turned_over(&lab, &mut held)
}
