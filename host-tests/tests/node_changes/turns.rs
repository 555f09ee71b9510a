//! Versions of the policies, and a client that every other one admits.

use anyhow::Result;
use sidewall_host_tests::lab::Lab;

use super::SERVERS;
use super::traffic::{Run, for_each_way};
use super::world::policy;

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

/// The phase in which a version comes into force, and after it the one in which it is.
pub fn phase(version: usize) -> u64 {
    2 * version as u64
}

/// Attempts of the client that versions do not agree on. What falls into the time of one version
/// that denies it must not be answered.
pub fn attempts(lab: &Lab, run: &Run) -> Result<()> {
    for_each_way(
        lab,
        run,
        "default/turns",
        &SERVERS,
        |what, answered, before| {
            let within_one = before % 2 == 1 && run.phase() == before;
            let is_admitted = usize::try_from(before / 2).is_ok_and(admits_turns);
            if within_one && !is_admitted {
                run.count(before, "denied by turns");
                if answered {
                    run.wrong(format!("passed: turns {what} in version {}", before / 2));
                }
            }
        },
    )
}
