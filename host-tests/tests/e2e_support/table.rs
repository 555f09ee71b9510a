//! Tables of cases: policies, and by hand what they must make of connections.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::{Expect, Family, Lab, Probe, failures};

use crate::cluster::policy;

/// One case. Connections are written `FROM … -> TO:PORT …`, which means each of those to each of
/// these, over both families; or over one with ` over IPv4` at the end. A name that begins with a
/// digit is an address outside the cluster, or that of a node.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What it shows, with the rule it comes from.
    pub what: &'static str,
    /// `namespace/name` and spec of the policies in force, and of no others.
    pub policies: &'static [(&'static str, &'static str)],
    /// Connections that are answered.
    pub allow: &'static [&'static str],
    /// Connections that are not.
    pub deny: &'static [&'static str],
}

/// The file with the policies of the row at hand.
pub const FILE: &str = "policies.yaml";

/// What it says when there are none. An empty file would be taken for a mishap.
pub const NONE: &str = "# no policy\n";

/// Holds a running lab to each row in turn, and before that makes sure that everything the rows
/// probe is answered when there is no policy: a denial then comes of the policies.
///
/// # Errors
///
/// Every connection that is not as expected, of all rows.
pub fn hold(lab: &Lab, rows: &[Row]) -> Result<()> {
    lab.apply(FILE, NONE)?;
    let mut all = BTreeSet::new();
    for row in rows {
        all.extend(row.allow.iter().chain(row.deny));
    }
    let mut unmet = String::new();
    let everything = probes(all, Expect::Allow)?;
    try_all(lab, &everything, "no policy", &mut unmet)?;
    for row in rows {
        let Row {
            what,
            policies,
            allow,
            deny,
        } = row;
        let yaml: Vec<String> = policies
            .iter()
            .map(|(name, spec)| policy(name, spec))
            .collect();
        lab.apply(FILE, &yaml.join("---\n"))
            .with_context(|| format!("{what}: {yaml:#?}"))?;
        let problems = lab.status()?.problems;
        ensure!(problems.is_empty(), "{what}: {problems:#?} in {yaml:#?}");
        let mut wanted = probes(*allow, Expect::Allow)?;
        wanted.extend(probes(*deny, Expect::Deny)?);
        ensure!(!wanted.is_empty(), "{what}: nothing to try");
        try_all(lab, &wanted, what, &mut unmet)?;
    }
    ensure!(unmet.is_empty(), "not as expected:{unmet}");
    Ok(())
}

fn try_all(lab: &Lab, probes: &[Probe], what: &str, unmet: &mut String) -> Result<()> {
    let results = lab.probe(probes)?;
    for (number, failure) in failures(&results).enumerate() {
        if number == 0 {
            let _ = write!(unmet, "\n{what}:");
        }
        let _ = write!(unmet, "\n    {failure}");
    }
    Ok(())
}

/// The probes that lines of a row stand for.
///
/// # Errors
///
/// When a line is in another form.
pub fn probes<'a>(
    lines: impl IntoIterator<Item = &'a &'a str>,
    expect: Expect,
) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    for line in lines {
        let (connections, family) = match line.split_once(" over ") {
            None => (*line, None),
            Some((connections, "IPv4")) => (connections, Some(Family::IPv4)),
            Some((connections, "IPv6")) => (connections, Some(Family::IPv6)),
            Some((_, other)) => anyhow::bail!("{line}: {other} is no family"),
        };
        let (sources, targets) = connections
            .split_once(" -> ")
            .with_context(|| format!("{line}: no arrow"))?;
        for from in sources.split_whitespace() {
            for target in targets.split_whitespace() {
                let (to, port) = target
                    .rsplit_once(':')
                    .with_context(|| format!("{line}: {target} has no port"))?;
                let from = address("external:", from);
                let to = address("address:", to);
                let probe = Probe::new(&from, &to, port)?.expect(expect);
                probes.push(Probe { family, ..probe });
            }
        }
    }
    Ok(probes)
}

fn address(prefix: &str, name: &str) -> String {
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("{prefix}{name}")
    } else {
        name.to_owned()
    }
}
