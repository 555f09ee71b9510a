//! Changes under mixed traffic on both planes: policies that flip, and pods that come and go with
//! addresses that others had.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "node_support/evidence.rs"]
mod evidence;
#[path = "node_changes/reuse.rs"]
mod reuse;
#[path = "node_support/traffic.rs"]
mod traffic;
#[path = "node_changes/turns.rs"]
mod turns;
#[path = "node_support/world.rs"]
mod world;

use std::fmt::{self, Display, Formatter};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use evidence::evidence;
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{self, Lab, LabConfig, Plane, Probe, Redirect};
use sidewall_host_tests::probe::{Held, Protocol};
use traffic::{MOMENT, PATIENCE, Run, words};
use turns::{admits_turns, phase, policies};
use world::{Path, Pod, cluster};

/// How often something changes.
const CHANGES: usize = 500;
/// Within this time of a change live flows that it denies have fallen silent: most of them on any
/// machine, and those that a busy machine keeps waiting not much later.
const SILENCE: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(3);
/// How many of a hundred may be late.
const LATE_PERCENT: usize = 10;

const NODES: [&str; 2] = ["node-1", "node-2"];

/// Each is carried by somebody else.
pub const SERVERS: [&str; 3] = ["default/bare", "default/kernel", "default/sidecar"];

fn main() -> ExitCode {
    harness::main(&[
        (
            "changes_lose_no_allowed_flow_and_answer_no_denied_packet",
            under_traffic,
        ),
        ("a_reused_address_obeys_its_pod", reuse::in_all_orders),
    ])
}

/// Servers are on node-1. `always` and `never` are what they say, `turns` is admitted by every
/// other version.
pub const PODS: [Pod; 6] = [
    pod("bare", 1, 11, Path::Bare),
    pod("kernel", 1, 12, Path::Kernel),
    pod("sidecar", 1, 13, Path::Sidecar),
    pod("always", 2, 21, Path::Bare),
    pod("never", 2, 22, Path::Kernel),
    pod("turns", 2, 23, Path::Kernel),
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

/// Comes and goes on node-2, each time as somebody else: welcome, or not.
fn guest(number: usize) -> String {
    let role = if number.is_multiple_of(2) {
        "welcome"
    } else {
        "unwelcome"
    };
    pod("guest", 2, 50, Path::Kernel)
        .manifest()
        .replace("name: guest, ", &format!("name: guest-{number}, "))
        .replace("role: client", &format!("role: {role}"))
}

fn under_traffic() -> Result<()> {
    let pods = PODS.iter().map(Pod::manifest);
    let service = PODS[0].service("app: bare");
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .redirect(Redirect::OnRequest)
            .probe_timeout(PATIENCE)
            .manifest("cluster.yaml", cluster(pods.chain([service])))
            .manifest("policies.yaml", policies(0)),
    )?;
    let run = Run::default();
    let times = {
        let (lab, run) = (&lab, &run);
        let (tcp, udp) = (allowed(Protocol::Tcp)?, allowed(Protocol::Udp)?);
        let live = [&tcp[..SERVERS.len()], &udp[..SERVERS.len()]].concat();
        run.while_it_lasts(
            vec![
                Box::new(move || traffic::allowed(lab, run, "connected", &tcp)),
                Box::new(move || traffic::allowed(lab, run, "asked", &udp)),
                Box::new(|| traffic::denied(lab, run, "default/never", &SERVERS)),
                Box::new(|| turns::attempts(lab, run)),
                Box::new(move || traffic::held(lab, run, &live)),
            ],
            || change(lab, run),
        )?
    };
    let counts = run.counts(|_| true);
    println!("{CHANGES} changes: {}; {times}", words(&counts));
    ensure!(
        counts.len() == 5 && counts.values().all(|count| *count >= 200),
        "too little traffic to mean anything: {counts:?}"
    );
    times.hold()
}

/// What every version allows: by address to each server, and by a Service.
fn allowed(protocol: Protocol) -> Result<Vec<Probe>> {
    let by_address = SERVERS.map(|server| (server, 80));
    let ways = by_address
        .into_iter()
        .chain([("service:default/bare", 8000)]);
    ways.map(|(to, port)| Ok(Probe::new("default/always", to, port)?.by(protocol)))
        .collect()
}

/// How long what took, from the moment in which a change was made.
#[derive(Debug, Default)]
struct Times {
    /// Until everybody said that it is in force.
    enforced: Vec<Duration>,
    /// Until a live flow that it denies was answered for the last time.
    silent: Vec<Duration>,
}

impl Times {
    fn hold(mut self) -> Result<()> {
        self.silent.sort_unstable();
        let late = self.silent.iter().filter(|took| **took > SILENCE).count();
        let share = 100 * late / self.silent.len().max(1);
        ensure!(
            share <= LATE_PERCENT,
            "{late} of {} denied flows were answered {SILENCE:?} after the change: {:?}",
            self.silent.len(),
            self.silent
        );
        Ok(())
    }
}

impl Display for Times {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (place, (what, times)) in [("enforced", &self.enforced), ("silent", &self.silent)]
            .into_iter()
            .enumerate()
        {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            let separator = if place == 0 { "" } else { "; " };
            write!(
                f,
                "{separator}{what} {:?} after a change in the middle, {:?} for 99 of 100, {:?} at most",
                at(50),
                at(99),
                at(100)
            )?;
        }
        Ok(())
    }
}

/// Changes policies, and now and then a pod.
fn change(lab: &Lab, run: &Run) -> Result<Times> {
    let mut times = Times::default();
    let mut doomed = Vec::new();
    run.begin(1);
    for version in 1..=CHANGES {
        run.begin(phase(version));
        if version % 10 == 5 {
            lab.apply("guest.yaml", &guest(version / 10))?;
            greet(lab, version / 10)?;
        }
        let apply = || lab.apply("policies.yaml", &policies(version));
        let (took, silent) = outlive(std::mem::take(&mut doomed), apply)
            .with_context(|| format!("version {version}"))?;
        run.begin(phase(version) + 1);
        times.enforced.push(took);
        times.silent.extend(silent);
        if version % 10 == 2 {
            // Time for what is denied to be tried in vain.
            thread::sleep(3 * MOMENT);
        }
        if admits_turns(version) && version % 10 == 1 {
            // The next version turns against them.
            doomed = flows(lab)?;
        }
    }
    Ok(times)
}

/// The guest of the moment is judged by its own labels, not by those of the one before.
fn greet(lab: &Lab, number: usize) -> Result<()> {
    let name = format!("default/guest-{number}");
    let is_welcome = number.is_multiple_of(2);
    let probes = [
        Probe::new(&name, "default/kernel", 80)?.udp(),
        Probe::new(&name, "default/bare", 80)?,
    ];
    let results = lab.probe(&probes)?;
    let wrong = results
        .iter()
        .filter(|result| result.answered != is_welcome);
    let wrong: Vec<_> = wrong.map(ToString::to_string).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let evidence = evidence(lab, &NODES);
    bail!(
        "guest {number}: {}; tried again: {}\n{evidence}",
        wrong.join("; "),
        again(lab, &probes)
    )
}

/// Whether what went wrong lasts.
fn again(lab: &Lab, probes: &[Probe]) -> String {
    let results = lab.probe(probes).map_err(|error| error.to_string());
    let words = results.map(|results| {
        let words = results.iter().map(ToString::to_string);
        words.collect::<Vec<_>>().join("; ")
    });
    words.unwrap_or_else(|error| error)
}

/// Live flows of `turns`, with what they are.
fn flows(lab: &Lab) -> Result<Vec<(String, Held)>> {
    let mut flows = Vec::new();
    for to in SERVERS {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let probe = Probe::new("default/turns", to, 80)?.by(protocol);
            let what = format!("{protocol} to {to}");
            let held = lab.hold(&probe).with_context(|| what.clone())?;
            flows.push((what, held));
        }
    }
    Ok(flows)
}

/// Makes a change that denies live flows, which are used meanwhile. What `change` gives, and how long
/// each was still answered; then it is closed by a proxy, or silent, and stays so.
fn outlive<T>(
    flows: Vec<(String, Held)>,
    change: impl FnOnce() -> Result<T, lab::Error>,
) -> Result<(T, Vec<Duration>)> {
    thread::scope(|scope| {
        let followed: Vec<_> = flows
            .into_iter()
            .map(|(what, mut held)| {
                scope.spawn(move || {
                    let silent = held.wait_silent(MOMENT, LATE);
                    let silent = silent.with_context(|| format!("{what} is still answered"))?;
                    ensure!(held.exchange(MOMENT).is_err(), "{what} is answered again");
                    Ok(silent)
                })
            })
            .collect();
        let given = change()?;
        let silent = followed.into_iter().map(|flow| {
            flow.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        Ok((given, silent.collect::<Result<_>>()?))
    })
}
