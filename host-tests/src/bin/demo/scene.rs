//! Who is there, who tries whom, and how that is drawn.

use std::collections::BTreeMap;

use sidewall_host_tests::lab::{Expect, ParseError, Probe, ProbeResult};

use super::policies::InForce;

/// The cluster: two nodes, four pods with sidecars and one without.
pub const CLUSTER: &str = include_str!("../../../examples/test-network-policy/cluster.yaml");

/// Those who connect.
const SOURCES: [&str; 8] = [
    "default/db",
    "default/frontend",
    "default/other",
    "myproject/worker",
    "myproject/bare",
    "node:node-1",
    "external:172.17.0.5",
    "external:172.17.1.5",
];

/// Those who are connected to, and at which port.
const TARGETS: [(&str, u16); 6] = [
    ("default/db", 6379),
    ("default/frontend", 80),
    ("default/other", 80),
    ("myproject/worker", 80),
    ("myproject/bare", 80),
    ("address:10.0.0.9", 5978),
];

/// Everybody to everybody, with what the policies in force must make of it.
pub fn probes(in_force: InForce) -> Result<Vec<Probe>, ParseError> {
    let mut probes = Vec::new();
    for from in SOURCES {
        for (to, port) in TARGETS {
            // Hosts outside the cluster know the way into it, not to each other.
            if !from.contains('/') && to.starts_with("address:") {
                continue;
            }
            let expect = if in_force.allows(from, to) {
                Expect::Allow
            } else {
                Expect::Deny
            };
            probes.push(Probe::new(from, to, port)?.expect(expect));
        }
    }
    Ok(probes)
}

/// The matrix: `yes`, `-` for no, and `!` behind what the policies do not say.
pub fn draw(results: &[ProbeResult]) -> String {
    let mut cells: BTreeMap<(&str, &str), Vec<&ProbeResult>> = BTreeMap::new();
    for result in results {
        let cell = cells.entry((&result.from, &result.to)).or_default();
        cell.push(result);
    }
    let width = SOURCES
        .iter()
        .map(|name| name.len())
        .max()
        .unwrap_or_default();
    let heading = |(to, port): &(&str, u16)| format!("{}:{port}", short(to));
    let mut drawn = format!("    {:width$}", "");
    for target in &TARGETS {
        drawn += &format!("  {}", heading(target));
    }
    for from in SOURCES {
        drawn += &format!("\n    {from:width$}");
        for target in &TARGETS {
            let mark = match cells.get(&(from, target.0)) {
                None => String::new(),
                Some(cell) => {
                    let reached = cell.iter().all(|result| result.answered);
                    let right = cell.iter().all(|result| result.ok == Some(true));
                    format!(
                        "{}{}",
                        if reached { "yes" } else { "-" },
                        if right { "" } else { " !" }
                    )
                }
            };
            drawn += &format!("  {mark:column$}", column = heading(target).len());
        }
    }
    drawn
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

fn short(name: &str) -> &str {
    name.rsplit(['/', ':']).next().unwrap_or(name)
}
