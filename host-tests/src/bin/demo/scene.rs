//! Who is there, who tries whom, and how that is drawn.

use std::collections::BTreeMap;

use sidewall_host_tests::lab::{Expect, ParseError, Probe, ProbeResult};
use sidewall_host_tests::probe::Protocol;

use super::policies::InForce;

/// The cluster of act one: two nodes, four pods with sidecars and one without.
pub const CLUSTER: &str = include_str!("../../../examples/test-network-policy/cluster.yaml");

/// The two pods that act two has besides.
pub const MORE_PODS: &str = include_str!("more-pods.yaml");

/// Who tries whom in one act.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Those who connect.
    pub sources: &'static [&'static str],
    /// Those who are connected to, and at which port.
    targets: &'static [(&'static str, u16)],
}

/// Sidecars alone enforce.
pub const ACT_ONE: Scene = Scene {
    sources: &[
        "default/db",
        "default/frontend",
        "default/other",
        "myproject/worker",
        "myproject/bare",
        "node:node-1",
        "external:172.17.0.5",
        "external:172.17.1.5",
    ],
    targets: &[
        ("default/db", 6379),
        ("default/frontend", 80),
        ("default/other", 80),
        ("myproject/worker", 80),
        ("myproject/bare", 80),
        ("address:10.0.0.9", 5978),
    ],
};

/// Nodes enforce, too.
pub const ACT_TWO: Scene = Scene {
    sources: &[
        "default/db",
        "default/replica",
        "default/frontend",
        "default/other",
        "default/plain",
        "myproject/worker",
        "myproject/bare",
        "node:node-1",
        "external:172.17.0.5",
        "external:172.17.1.5",
    ],
    targets: &[
        ("default/db", 6379),
        ("default/replica", 6379),
        ("default/frontend", 80),
        ("default/plain", 80),
        ("myproject/worker", 80),
        ("address:10.0.0.9", 5978),
    ],
};

/// [`CLUSTER`] for nodes that enforce: there a pod has a sidecar only if it says so. The database
/// does not.
pub fn cluster_without_a_sidecar_at_the_database() -> String {
    let mut cluster = CLUSTER.to_owned();
    for pod in ["frontend", "other", "worker"] {
        let name = format!("\n  name: {pod}\n");
        let annotated = cluster.replace(
            &name,
            &format!("{name}  annotations: {{sidewall.dev/sidecar: \"true\"}}\n"),
        );
        assert_ne!(annotated, cluster, "the example has lost {pod}");
        cluster = annotated;
    }
    cluster
}

impl Scene {
    /// Everybody to everybody, with what the policies in force must make of it.
    pub fn probes(self, protocol: Protocol, in_force: InForce) -> Result<Vec<Probe>, ParseError> {
        let mut probes = Vec::new();
        for from in self.sources {
            for (to, port) in self.targets {
                // Hosts outside the cluster know the way into it, not to each other.
                if !from.contains('/') && to.starts_with("address:") {
                    continue;
                }
                let expect = if in_force.allows(protocol, from, to) {
                    Expect::Allow
                } else {
                    Expect::Deny
                };
                let probe = Probe::new(from, to, *port)?.by(protocol);
                probes.push(probe.expect(expect));
            }
        }
        Ok(probes)
    }

    /// The matrix: `yes`, `-` for no, and `!` behind what is not right.
    pub fn draw(self, results: &[ProbeResult], right: impl Fn(&ProbeResult) -> bool) -> String {
        let mut cells: BTreeMap<(&str, &str), Vec<&ProbeResult>> = BTreeMap::new();
        for result in results {
            let cell = cells.entry((&result.from, &result.to)).or_default();
            cell.push(result);
        }
        let width = self.sources.iter().map(|name| name.len()).max();
        let width = width.unwrap_or_default();
        let heading = |(to, port): &(&str, u16)| format!("{}:{port}", short(to));
        let mut drawn = format!("    {:width$}", "");
        for target in self.targets {
            drawn += &format!("  {}", heading(target));
        }
        for from in self.sources {
            drawn += &format!("\n    {from:width$}");
            for target in self.targets {
                let mark = match cells.get(&(*from, target.0)) {
                    None => String::new(),
                    Some(cell) => {
                        let reached = cell.iter().all(|result| result.answered);
                        let right = cell.iter().all(|result| right(result));
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
}

fn short(name: &str) -> &str {
    name.rsplit(['/', ':']).next().unwrap_or(name)
}
