//! Who sends what while everything changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use sidewall_host_tests::lab::{Family, Lab, Probe};
use sidewall_host_tests::probe::{Protocol, attempt};

use super::world::policy;

/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A packet that passes is answered within this time, mostly.
const MOMENT: Duration = Duration::from_millis(200);
/// What a client does between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

const SERVERS: [(&str, u16); 4] = [
    ("default/bare", 80),
    ("default/kernel", 80),
    ("default/sidecar", 80),
    ("service:default/bare", 8000),
];

/// Whether this version admits `turns`.
pub fn admits_turns(version: usize) -> bool {
    version % 2 == 1
}

/// `turns` is denied on the servers' side and on its own in turn. Every version changes the tables
/// of all servers.
pub fn policies(version: usize) -> String {
    let at_the_servers = if admits_turns(version) || version % 4 == 2 {
        ", {podSelector: {matchLabels: {app: turns}}}"
    } else {
        ""
    };
    let at_its_own = if version % 4 == 2 {
        ", policyTypes: [Egress], egress: [{ports: [{port: 9}]}]"
    } else {
        ", policyTypes: [Egress], egress: [{}]"
    };
    let other_port = 1000 + version;
    [
        policy(
            "servers",
            &format!(
                "podSelector: {{matchLabels: {{role: server}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: always}}}}}}, \
                 {{podSelector: {{matchLabels: {{role: welcome}}}}}}{at_the_servers}]}}, {{ports: [{{port: {other_port}}}]}}]"
            ),
        ),
        policy(
            "turns",
            &format!("podSelector: {{matchLabels: {{app: turns}}}}{at_its_own}"),
        ),
    ]
    .join("---\n")
}

/// What everybody goes by, and what became of it.
#[derive(Debug, Default)]
pub struct Run {
    pub finished: AtomicBool,
    /// Twice the version, plus one once it is enforced.
    pub phase: AtomicU64,
    allowed: AtomicU64,
    exchanged: AtomicU64,
    denied: AtomicU64,
    turns: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Run {
    fn wrong(&self, what: String) {
        let wrong = self.wrong.lock();
        wrong.unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn goes_on(&self) -> bool {
        !self.finished.load(SeqCst)
    }

    /// The figures, and what should not have happened.
    pub fn conclude(self) -> (String, Vec<String>) {
        let [allowed, exchanged, denied, turns] =
            [self.allowed, self.exchanged, self.denied, self.turns].map(AtomicU64::into_inner);
        let mut wrong = self
            .wrong
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let figures = format!(
            "{allowed} connections and {exchanged} exchanges allowed all along, {denied} attempts \
             denied all along, {turns} by turns; {} wrong",
            wrong.len()
        );
        if allowed.min(exchanged).min(denied).min(turns) < 200 {
            wrong.push("too little traffic to mean anything".to_owned());
        }
        (figures, wrong)
    }
}

/// New flows that every version allows, over both families.
pub fn allowed(lab: &Lab, run: &Run, protocol: Protocol) -> Result<()> {
    let probe = |(to, port): (&str, u16)| Probe::new("default/always", to, port);
    let probes = SERVERS.into_iter().map(probe);
    let probes = probes
        .map(|probe| Ok(probe?.by(protocol)))
        .collect::<Result<Vec<_>>>()?;
    while run.goes_on() {
        for result in lab.probe(&probes)? {
            run.allowed.fetch_add(1, SeqCst);
            if !result.answered {
                run.wrong(format!("lost: {result}"));
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Attempts that every version denies.
pub fn denied(lab: &Lab, run: &Run) -> Result<()> {
    for_each_way(lab, run, "default/never", |run, what, answered, _| {
        run.denied.fetch_add(1, SeqCst);
        if answered {
            run.wrong(format!("passed: never {what}"));
        }
    })
}

/// Attempts of the client that versions do not agree on. What falls into the time of one version
/// that denies it must not be answered.
pub fn turns(lab: &Lab, run: &Run) -> Result<()> {
    for_each_way(lab, run, "default/turns", |run, what, answered, before| {
        let within_one = before % 2 == 1 && run.phase.load(SeqCst) == before;
        let is_admitted = usize::try_from(before / 2).is_ok_and(admits_turns);
        if within_one && !is_admitted {
            run.turns.fetch_add(1, SeqCst);
            if answered {
                run.wrong(format!("passed: turns {what} in version {}", before / 2));
            }
        }
    })
}

/// One attempt after the other, as short as an answer takes. `judge` is told what was tried, whether
/// it was answered, and the phase in which it began.
fn for_each_way(
    lab: &Lab,
    run: &Run,
    from: &str,
    judge: impl Fn(&Run, &str, bool, u64) + Sync,
) -> Result<()> {
    let netns = lab.netns(from)?;
    let mut ways = Vec::new();
    for server in ["default/bare", "default/kernel", "default/sidecar"] {
        for address in lab.addresses(server)? {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                ways.push((std::net::SocketAddr::new(address, 80), protocol));
            }
        }
    }
    while run.goes_on() {
        thread::scope(|scope| {
            for &(to, protocol) in &ways {
                let (netns, judge) = (&netns, &judge);
                scope.spawn(move || {
                    let before = run.phase.load(SeqCst);
                    if let Ok(report) = netns.run(|| attempt(to, protocol, MOMENT)) {
                        let answered = report.answered_by.is_some();
                        judge(run, &format!("{protocol} to {to}"), answered, before);
                    }
                });
            }
        });
        thread::sleep(MOMENT / 2);
    }
    Ok(())
}

/// Flows that live through all versions.
pub fn held(lab: &Lab, run: &Run) -> Result<()> {
    let mut held = Vec::new();
    for (to, _) in &SERVERS[..3] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in [Family::IPv4, Family::IPv6] {
                let probe = Probe::new("default/always", to, 80)?;
                let flow = lab.hold(&probe.by(protocol).over(family))?;
                held.push((format!("{protocol} {family} to {to}"), flow));
            }
        }
    }
    while run.goes_on() && !held.is_empty() {
        held.retain_mut(|(what, held)| {
            run.exchanged.fetch_add(1, SeqCst);
            match held.exchange(PATIENCE) {
                Ok(()) => true,
                Err(error) => {
                    run.wrong(format!("a live flow broke, {what}: {error}"));
                    false
                }
            }
        });
        thread::sleep(PAUSE);
    }
    Ok(())
}
