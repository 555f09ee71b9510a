//! `sidewall lint`: what is wrong with policies, and what is legal but may not be what was meant.

mod blocks;
mod dns;
mod ports;
mod rules;
mod selectors;
mod shadow;
mod written;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use sidewall_policy::model::{NetworkPolicy, Pod};

use super::world::{Source, World};
use super::{Error, Output, exit, paint, stdout, write_json};
use crate::cluster::manifests;

/// The arguments of `sidewall lint`. Ends with 0 if nothing but notes are found, 1 if there are
/// warnings or errors, and 2 if there is no answer.
#[derive(Clone, Debug, clap::Args)]
pub struct LintArgs {
    #[command(flatten)]
    source: Source,

    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// An API server would refuse it, or Sidewall cannot use it; what it stands in is closed.
    Error,
    /// It is probably not what was meant.
    Warning,
    /// It deserves to be known.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Finding {
    /// Such as `NetworkPolicy default/db`.
    object: String,
    level: Level,
    /// The name of the check, stable: `selects-nothing`, `dns-blocked` and so on.
    check: &'static str,
    /// Such as `spec.ingress[0].from[1]`; empty when the whole object is meant.
    field: String,
    /// What is written there.
    finding: String,
    /// What it leads to.
    consequence: String,
    /// What to write instead; empty when the finding says it.
    remedy: String,
}

impl LintArgs {
    /// Answers on standard output.
    ///
    /// # Errors
    /// When the manifests cannot be read.
    pub fn run(self) -> Result<ExitCode, Error> {
        let Self { source, output } = self;
        let world = World::read(&source.manifests, source.reading)?;
        let surprises =
            manifests::surprises(&source.manifests).map_err(|error| Error::Manifests {
                path: source.manifests.clone(),
                reason: error.to_string(),
            })?;
        let mut findings: Vec<Finding> = surprises
            .into_iter()
            .map(|(object, surprise)| written::surprise(&object, surprise))
            .chain(written::problems(&world.problems))
            .collect();
        findings.extend(checks(&world));
        findings.sort();
        let mut out = stdout();
        match output {
            Output::Json => write_json(&mut out, &findings)?,
            Output::Text => write_text(&mut out, &findings, world.cluster.policies.len())?,
        }
        let bad = |finding: &Finding| finding.level != Level::Note;
        Ok(exit(findings.iter().any(bad)))
    }
}

/// Everything that needs the whole cluster.
fn checks(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    for policy in world.cluster.policies.values() {
        let subjects = subjects(world, policy);
        findings.extend(selectors::check(world, policy, &subjects));
        findings.extend(ports::check(world, policy, &subjects));
        findings.extend(blocks::check(world, policy));
        findings.extend(shadow::within(policy));
    }
    findings.extend(shadow::between(&world.cluster));
    findings.extend(dns::check(world));
    findings
}

/// The pods that a policy isolates.
fn subjects<'a>(world: &'a World, policy: &NetworkPolicy) -> Vec<&'a Pod> {
    let all = world.cluster.pods.values();
    all.filter(|pod| {
        pod.is_selectable()
            && pod.id.namespace == policy.id.namespace
            && policy.pod_selector.matches(&pod.labels)
    })
    .collect()
}

/// Starts a finding about a policy.
fn about(policy: &NetworkPolicy, level: Level, check: &'static str, field: String) -> Finding {
    Finding {
        object: format!("NetworkPolicy {}", policy.id),
        level,
        check,
        field,
        finding: String::new(),
        consequence: String::new(),
        remedy: String::new(),
    }
}

/// A few names, and how many more there are.
fn some<'a>(names: impl IntoIterator<Item = &'a Pod>) -> String {
    /// More than this many names tell no more than their number does.
    const SHOWN: usize = 3;
    let names: Vec<String> = names.into_iter().map(|pod| pod.id.to_string()).collect();
    let shown = names.len().min(SHOWN);
    let listed = names.get(..shown).unwrap_or_default().join(", ");
    match names.len() - shown {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

fn write_text(out: &mut impl Write, findings: &[Finding], policies: usize) -> Result<(), Error> {
    let mut by_object: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        by_object.entry(&finding.object).or_default().push(finding);
    }
    for (object, findings) in by_object {
        writeln!(out, "{}", paint::strong(object))?;
        for finding in findings {
            let level = match finding.level {
                Level::Error => paint::bad("error  ").to_string(),
                Level::Warning => paint::warning("warning").to_string(),
                Level::Note => paint::faint("note   ").to_string(),
            };
            let place = match finding.field.as_str() {
                "" => String::new(),
                field => format!("{field}: "),
            };
            writeln!(
                out,
                "  {level} {place}{} {}",
                finding.finding,
                paint::faint(format!("[{}]", finding.check))
            )?;
            writeln!(out, "          → {}", finding.consequence)?;
            if !finding.remedy.is_empty() {
                writeln!(out, "          {}", paint::faint(&finding.remedy))?;
            }
        }
        writeln!(out)?;
    }
    let count = |level| findings.iter().filter(|each| each.level == level).count();
    let errors = number(count(Level::Error), "error", "errors");
    let warnings = number(count(Level::Warning), "warning", "warnings");
    let notes = number(count(Level::Note), "note", "notes");
    let policies = number(policies, "policy", "policies");
    Ok(writeln!(out, "{policies}: {errors}, {warnings}, {notes}")?)
}

fn number(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
