//! Everything that can be killed is, in turn, while traffic of all kinds goes on.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_host_tests::lab::{Family, Lab, LabConfig, Plane, Probe, Redirect};
use sidewall_host_tests::probe::{Held, Protocol, attempt};

use super::traffic::{self, MOMENT, PATIENCE, Run, words};
use super::world::{Path, Pod, cluster, policy};
use super::{FILE, NODE, PODS, alive, pod, takes};

/// The node of the clients.
const CLIENTS: &str = "node-2";
/// How long there is traffic without what was killed, and between two kills.
const WITHOUT: Duration = Duration::from_secs(3);
const WITH: Duration = Duration::from_secs(1);
/// What either must have of each kind, or it means nothing.
const ENOUGH: u64 = 8;

const SERVERS: [&str; 3] = ["default/bare", "default/kernel", "default/sidecar"];

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Agent(&'static str),
    NodeEnvoy,
    Distributor,
}

use Victim::{Agent, Distributor, NodeEnvoy};

/// One after the other, and at last all that enforces for the servers at once.
const KILLS: [&[Victim]; 5] = [
    &[Agent(NODE)],
    &[Agent(CLIENTS)],
    &[Distributor],
    &[NodeEnvoy],
    &[Agent(NODE), NodeEnvoy, Distributor],
];

impl Victim {
    fn dies(self, lab: &Lab) -> Result<()> {
        match self {
            Agent(node) => lab.kill_agent(node)?,
            NodeEnvoy => lab.kill_node_envoy(NODE)?,
            Distributor => lab.kill_distributor(),
        }
        Ok(())
    }

    fn returns(self, lab: &Lab) -> Result<()> {
        match self {
            Agent(node) => lab.start_agent(node)?,
            NodeEnvoy => lab.start_node_envoy(NODE)?,
            Distributor => lab.start_distributor()?,
        }
        Ok(())
    }
}

/// Phases: those who are killed are there, are missing, are on their way back.
const fn steady(kill: usize) -> u64 {
    3 * kill as u64
}

const fn missing(kill: usize) -> u64 {
    steady(kill) + 1
}

const fn returning(kill: usize) -> u64 {
    steady(kill) + 2
}

/// Who dies, or has died, in a phase.
fn victims(phase: u64) -> &'static [Victim] {
    let kill = usize::try_from(phase / 3).ok();
    kill.and_then(|kill| KILLS.get(kill))
        .map_or(&[], |kill| kill)
}

/// `hermit` may not send anything, which its own node sees to.
fn start() -> Result<Lab> {
    let pods = PODS.into_iter().chain([
        pod("sidecar", 1, 13, Path::Sidecar),
        pod("hermit", 2, 23, Path::Kernel),
    ]);
    let service = PODS[1].service("app: kernel");
    let hermit = policy(
        "hermit",
        "podSelector: {matchLabels: {app: hermit}}, policyTypes: [Egress]",
    );
    let manifests = pods.map(|pod: Pod| pod.manifest()).chain([service, hermit]);
    Ok(Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .redirect(Redirect::OnRequest)
            .probe_timeout(PATIENCE)
            .manifest("cluster.yaml", cluster(manifests))
            .manifest(FILE, takes("friend")),
    )?)
}

/// What `friend` sends that the node's Envoy has no part in.
fn of_the_kernel(protocol: Protocol) -> Result<Vec<Probe>> {
    let by_address = SERVERS.map(|server| (server, 80));
    by_address
        .into_iter()
        .chain([("service:default/kernel", 8000)])
        .filter(|(server, _)| protocol == Protocol::Udp || *server != SERVERS[0])
        .map(|(to, port)| Ok(Probe::new("default/friend", to, port)?.by(protocol)))
        .collect()
}

/// New connections that the node's Envoy carries: answered as long as there is one, and by nobody
/// without.
fn of_the_envoy(lab: &Lab, run: &Run) -> Result<()> {
    let is_there = |phase: u64| phase.is_multiple_of(3) || !victims(phase).contains(&NodeEnvoy);
    let is_gone = |phase: u64| phase % 3 == 1 && !is_there(phase);
    let client = lab.netns("default/friend")?;
    let servers = lab.addresses(SERVERS[0])?;
    while run.goes_on() {
        for server in &servers {
            let before = run.phase();
            let patience = if is_gone(before) { MOMENT } else { PATIENCE };
            let to = SocketAddr::new(*server, 80);
            let report = client.run(|| attempt(to, Protocol::Tcp, patience))?;
            let (answered, after) = (report.answered_by.is_some(), run.phase());
            if is_there(before) && is_there(after) {
                run.count(before, "carried");
                if !answered {
                    run.wrong(format!("lost in phase {before}, to {to}: {report:?}"));
                }
            } else if is_gone(before) && after == before {
                run.count(before, "refused");
                if answered {
                    run.wrong(format!("passed without an Envoy in phase {before}: {to}"));
                }
            }
        }
        thread::sleep(MOMENT);
    }
    Ok(())
}

/// Connections that the node's Envoy carries live until it is killed.
fn carried(lab: &Lab) -> Result<Vec<Held>> {
    let probe = Probe::new("default/friend", SERVERS[0], 80)?;
    [Family::IPv4, Family::IPv6]
        .map(|family| Ok(lab.hold(&probe.clone().over(family))?))
        .into_iter()
        .collect()
}

fn kill_in_turn(lab: &Lab, run: &Run) -> Result<()> {
    let mut held = carried(lab)?;
    for (kill, victims) in KILLS.into_iter().enumerate() {
        let others = !victims.contains(&NodeEnvoy);
        run.begin(steady(kill));
        thread::sleep(WITH);
        alive(&mut held, "before somebody was killed")?;
        // From here on nothing is asked of what the victims carry.
        run.begin(if others {
            missing(kill)
        } else {
            returning(kill)
        });
        for victim in victims {
            victim.dies(lab)?;
        }
        run.begin(missing(kill));
        thread::sleep(WITHOUT);
        if others {
            alive(&mut held, &format!("without {victims:?}"))?;
        }
        run.begin(returning(kill));
        // A distributor first, or the others would wait for another attempt.
        for victim in victims.iter().rev() {
            victim.returns(lab)?;
        }
        if !others {
            lab.wait_node_envoy_ready(NODE, PATIENCE * 5)?;
        }
        lab.wait_applied()?;
        // Who is back writes to the table again.
        lab.apply("more.yaml", &more(kill))?;
        if !others {
            held = carried(lab)?;
        }
    }
    run.begin(steady(KILLS.len()));
    thread::sleep(WITH);
    alive(&mut held, "at the end")
}

/// Changes the tables of all servers, and of no client what is allowed.
fn more(kill: usize) -> String {
    policy(
        "more",
        &format!(
            "podSelector: {{matchLabels: {{role: server}}}}, ingress: [{{ports: [{{port: {}}}]}}]",
            1000 + kill
        ),
    )
}

pub fn under_traffic() -> Result<()> {
    let lab = start()?;
    let run = Run::default();
    {
        let (lab, run) = (&lab, &run);
        let (tcp, udp) = (of_the_kernel(Protocol::Tcp)?, of_the_kernel(Protocol::Udp)?);
        let live: Vec<_> = tcp.iter().chain(&udp).cloned().collect();
        run.while_it_lasts(
            vec![
                Box::new(move || traffic::allowed(lab, run, "connected", &tcp)),
                Box::new(move || traffic::allowed(lab, run, "asked", &udp)),
                Box::new(move || traffic::held(lab, run, &live)),
                Box::new(|| of_the_envoy(lab, run)),
                Box::new(|| traffic::denied(lab, run, "default/stranger", &SERVERS)),
                Box::new(|| traffic::denied(lab, run, "default/hermit", &SERVERS)),
            ],
            || kill_in_turn(lab, run),
        )?;
    }
    for (kill, victims) in KILLS.into_iter().enumerate() {
        let counts = run.counts(|phase| phase == missing(kill));
        println!("without {victims:?}: {}", words(&counts));
        let carried = if victims.contains(&NodeEnvoy) {
            "refused"
        } else {
            "carried"
        };
        for kind in ["connected", "asked", "exchanged", "denied", carried] {
            ensure!(
                counts.get(kind).is_some_and(|count| *count >= ENOUGH),
                "too little {kind} without {victims:?} to mean anything: {counts:?}"
            );
        }
    }
    println!("in all: {}; 0 wrong", words(&run.counts(|_| true)));
    Ok(())
}
