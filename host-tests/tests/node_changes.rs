//! Changes under mixed traffic on both planes: policies that flip, and pods that come and go with
//! addresses that others had.

#![allow(clippy::print_stdout, reason = "figures of the run")]

#[path = "node_changes/reuse.rs"]
mod reuse;
#[path = "node_changes/traffic.rs"]
mod traffic;
#[path = "node_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Lab, LabConfig, Plane, Probe};
use sidewall_host_tests::probe::{Held, Protocol};
use traffic::{PATIENCE, Run, admits_turns, policies};
use world::{Path, Pod, cluster};

/// How often something changes.
const CHANGES: usize = 500;
/// What is aimed at is a second; a machine that runs other tests is given three.
const SILENCE: Duration = Duration::from_secs(3);
/// What is not answered within this time is not answered.
const MOMENT: Duration = Duration::from_millis(200);

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
            .probe_timeout(PATIENCE)
            .manifest("cluster.yaml", cluster(pods.chain([service])))
            .manifest("policies.yaml", policies(0)),
    )?;
    let run = Run::default();
    let outcome = thread::scope(|scope| {
        let (lab, run) = (&lab, &run);
        let clients = [
            scope.spawn(move || traffic::allowed(lab, run, Protocol::Tcp)),
            scope.spawn(move || traffic::allowed(lab, run, Protocol::Udp)),
            scope.spawn(move || traffic::denied(lab, run)),
            scope.spawn(move || traffic::turns(lab, run)),
            scope.spawn(move || traffic::held(lab, run)),
        ];
        let changes = change(lab, run);
        run.finished.store(true, SeqCst);
        let mut outcome = changes;
        for client in clients {
            let done = client
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and_then(|times| done.map(|()| times));
        }
        outcome
    });
    let (figures, wrong) = run.conclude();
    let told = || format!("{figures}:\n{}", wrong.join("\n"));
    let Times { enforced, ended } = outcome.with_context(told)?;
    println!(
        "{CHANGES} changes: {figures}; enforced after {enforced:?} and live flows ended {ended:?} later at the most"
    );
    ensure!(wrong.is_empty(), "{figures}:\n{}", wrong.join("\n"));
    Ok(())
}

/// The longest of each.
#[derive(Debug, Default)]
struct Times {
    enforced: Duration,
    /// From then on.
    ended: Duration,
}

/// Changes policies, and now and then a pod.
fn change(lab: &Lab, run: &Run) -> Result<Times> {
    let mut times = Times::default();
    let mut doomed: Option<Flows> = None;
    run.phase.store(1, SeqCst);
    for version in 1..=CHANGES {
        let phase = 2 * version as u64;
        run.phase.store(phase, SeqCst);
        let took = if version % 10 == 5 {
            lab.apply("guest.yaml", &guest(version / 10))?;
            greet(lab, version / 10)?;
            lab.apply("policies.yaml", &policies(version))?
        } else {
            lab.apply("policies.yaml", &policies(version))?
        };
        run.phase.store(phase + 1, SeqCst);
        times.enforced = times.enforced.max(took);
        if let Some(flows) = doomed.take() {
            let answered = flows.end().with_context(|| format!("version {version}"))?;
            times.ended = times.ended.max(answered);
        }
        if admits_turns(version) && version % 10 == 1 {
            // The next version turns against them.
            doomed = Some(Flows::open(lab)?);
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
    for result in lab.probe(&probes)? {
        ensure!(result.answered == is_welcome, "guest {number}: {result}");
    }
    Ok(())
}

/// Live flows of `turns`, to whom.
struct Flows(Vec<(String, Held)>);

impl Flows {
    fn open(lab: &Lab) -> Result<Self> {
        let mut flows = Vec::new();
        for to in ["default/bare", "default/kernel", "default/sidecar"] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let probe = Probe::new("default/turns", to, 80)?.by(protocol);
                let what = format!("{protocol} to {to}");
                let held = lab.hold(&probe).with_context(|| what.clone())?;
                flows.push((what, held));
            }
        }
        Ok(Self(flows))
    }

    /// They end once a version that denies them is enforced: closed by a proxy, or silent. How long
    /// the last was still answered.
    fn end(self) -> Result<Duration> {
        let mut longest = Duration::ZERO;
        for (what, mut held) in self.0 {
            let answered = held.wait_silent(MOMENT, SILENCE);
            let answered = answered.with_context(|| format!("{what} is still answered"))?;
            longest = longest.max(answered);
        }
        Ok(longest)
    }
}
