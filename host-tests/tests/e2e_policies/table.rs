//! Tables of cases: policies, and by hand what they must make of connections.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::Lab;

use crate::cluster::policy;
use crate::connections::{FILE, NONE, expect};

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What it shows, with the rule it comes from.
    pub what: &'static str,
    /// `namespace/name` and spec of the policies in force, and of no others.
    pub policies: &'static [(&'static str, &'static str)],
    /// Connections that are answered, as [`crate::connections`] writes them.
    pub allow: &'static [&'static str],
    /// Connections that are not.
    pub deny: &'static [&'static str],
}

/// Holds a running lab to each row in turn, and before that makes sure that everything the rows
/// probe is answered when there is no policy: a denial then comes of the policies.
///
/// # Errors
///
/// Every connection that is not as expected, of all rows.
pub fn hold(lab: &Lab, rows: &[Row]) -> Result<()> {
    lab.apply(FILE, NONE)?;
    let all: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.allow.iter().chain(row.deny))
        .copied()
        .collect();
    let all: Vec<&str> = all.into_iter().collect();
    let mut unmet: Vec<String> = Vec::new();
    let mut keep =
        |outcome: Result<()>| unmet.extend(outcome.err().map(|error| format!("{error:#}")));
    keep(expect(lab, &all, &[], "without a policy"));
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
        keep(expect(lab, allow, deny, what));
    }
    ensure!(unmet.is_empty(), "{}", unmet.join("\n"));
    Ok(())
}
