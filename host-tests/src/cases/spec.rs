//! The case files, read strictly: what they may say is in `host-tests/cases/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use crate::lab::Plane;
use crate::probe::Protocol;

/// One case: policies come, change and go, and after each step there is a table of who reaches whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The number that the source of the case gives it.
    pub number: u32,
    /// Its name there.
    pub name: String,
    /// The planes that it does not concern, and why.
    #[serde(default)]
    pub skip: BTreeMap<PlaneName, String>,
    /// What happens, in this order.
    pub steps: Vec<Step>,
}

/// A plane, as case files write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaneName {
    /// [`Plane::Proxy`].
    Proxy,
    /// [`Plane::Node`].
    Node,
    /// [`Plane::Both`].
    Both,
}

/// Changes that are made together, and what holds once they are in force.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Policies that are created or replaced: their specs by `namespace/name`.
    #[serde(default)]
    pub apply: BTreeMap<String, Value>,
    /// Labels that are added: by `namespace/pod`, or by a namespace's name.
    #[serde(default)]
    pub relabel: BTreeMap<String, BTreeMap<String, String>>,
    /// Policies that are deleted.
    #[serde(default)]
    pub delete: Vec<String>,
    /// What holds then.
    pub expect: Vec<Table>,
}

/// Who reaches whom: everybody, but for those in `deny` that are not in `allow`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// At which port.
    pub port: u16,
    /// By which protocol; TCP if left out.
    #[serde(default)]
    pub protocol: Protocol,
    /// Pairs that are denied.
    #[serde(default)]
    pub deny: Vec<Pairs>,
    /// Pairs of those above that are allowed all the same.
    #[serde(default)]
    pub allow: Vec<Pairs>,
}

/// `FROM … -> TO …`: each of those to each of these. `*` may stand for a namespace, a pod or both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pairs {
    from: Vec<Pattern>,
    to: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    namespace: String,
    pod: String,
}

impl Case {
    /// Why the case does not concern a plane, if it does not.
    #[must_use]
    pub fn skipped(&self, plane: Plane) -> Option<&str> {
        let name = match plane {
            Plane::Proxy => PlaneName::Proxy,
            Plane::Node => PlaneName::Node,
            Plane::Both => PlaneName::Both,
        };
        self.skip.get(&name).map(String::as_str)
    }
}

impl Table {
    /// Whether a pod reaches another one.
    #[must_use]
    pub fn allows(&self, from: &str, to: &str) -> bool {
        let is_in = |lines: &[Pairs]| lines.iter().any(|pairs| pairs.contain(from, to));
        !is_in(&self.deny) || is_in(&self.allow)
    }
}

impl Pairs {
    fn contain(&self, from: &str, to: &str) -> bool {
        let any = |patterns: &[Pattern], pod| patterns.iter().any(|pattern| pattern.is(pod));
        any(&self.from, from) && any(&self.to, to)
    }
}

impl Pattern {
    fn is(&self, pod: &str) -> bool {
        let matches = |pattern: &str, text| pattern == "*" || pattern == text;
        pod.split_once('/').is_some_and(|(namespace, name)| {
            matches(&self.namespace, namespace) && matches(&self.pod, name)
        })
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text == "*" { "*/*" } else { text };
        match text.split_once('/') {
            Some((namespace, pod)) if !namespace.is_empty() && !pod.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
            }),
            _ => Err(format!("{text:?} is no pod: write NAMESPACE/POD or *")),
        }
    }
}

impl TryFrom<String> for Pairs {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (from, to) = text
            .split_once(" -> ")
            .ok_or_else(|| format!("{text:?} has no arrow: write FROM -> TO"))?;
        let patterns = |side: &str| -> Result<Vec<Pattern>, String> {
            side.split_whitespace().map(str::parse).collect()
        };
        let (from, to) = (patterns(from)?, patterns(to)?);
        if from.is_empty() || to.is_empty() {
            return Err(format!("{text:?} lacks a side: write FROM -> TO"));
        }
        Ok(Self { from, to })
    }
}

/// Reads every `*.yaml` file of a folder, each a list of cases; sorted by number.
///
/// # Errors
///
/// [`Error::File`] names the file, and the case or the place in it.
pub fn read(folder: &Path) -> Result<Vec<Case>, Error> {
    let mut cases: Vec<Case> = Vec::new();
    let mut numbers = BTreeSet::new();
    for path in files(folder)? {
        let error = |reason: String| Error::File {
            path: path.clone(),
            reason,
        };
        let text = fs::read_to_string(&path).map_err(|source| error(source.to_string()))?;
        let found = parse(&text).map_err(error)?;
        for case in &found {
            if !numbers.insert(case.number) {
                return Err(error(format!(
                    "case {}: number: there are two",
                    case.number
                )));
            }
        }
        cases.extend(found);
    }
    cases.sort_by_key(|case| case.number);
    Ok(cases)
}

/// The YAML files of a folder, sorted; folders in it are left out.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let error = |source: std::io::Error| Error::File {
        path: folder.to_owned(),
        reason: source.to_string(),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(text: &str) -> Result<Vec<Case>, String> {
    let cases: Vec<Case> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    for case in &cases {
        check(case).map_err(|reason| format!("case {}: {reason}", case.number))?;
    }
    Ok(cases)
}

/// What the types cannot say.
fn check(case: &Case) -> Result<(), String> {
    if case.steps.is_empty() {
        return Err("steps: there is none".to_owned());
    }
    let is_tcp = |table: &Table| table.protocol == Protocol::Tcp;
    for (number, step) in (1..).zip(&case.steps) {
        if step.expect.is_empty() {
            return Err(format!("steps[{number}].expect: there is no table"));
        }
        for name in step.apply.keys().chain(&step.delete) {
            if name.split('/').count() != 2 {
                return Err(format!(
                    "steps[{number}]: {name:?} is no policy: write NAMESPACE/NAME"
                ));
            }
        }
        for table in &step.expect {
            if table.protocol == Protocol::Icmp {
                return Err(format!("steps[{number}].expect: ICMP has no port"));
            }
            if !is_tcp(table) && case.skipped(Plane::Proxy).is_none() {
                return Err(format!(
                    "steps[{number}].expect: {} does not concern plane proxy; say so in skip",
                    table.protocol
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = "[{number: 1, name: n, steps: [{expect: [{port: 80, deny: ['* -> x/a x/b'], allow: ['y/* -> x/a']}]}]}]";

    #[test]
    fn exceptions_of_denials_are_allowed() {
        let cases = parse(CASE).unwrap();
        let table = &cases[0].steps[0].expect[0];
        assert_eq!(table.protocol, Protocol::Tcp);
        for (from, to, allowed) in [
            ("x/a", "y/a", true),
            ("x/a", "x/b", false),
            ("y/c", "x/b", false),
            ("y/c", "x/a", true),
            ("z/c", "x/a", false),
        ] {
            assert_eq!(table.allows(from, to), allowed, "{from} -> {to}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (right, wrong, part) in [
            ("deny", "denied", "denied"),
            ("* ->", "* to", "has no arrow"),
            ("-> x/a x/b", "-> xa", "\"xa\" is no pod"),
            (
                "[{expect",
                "[{delete: [p], expect",
                "case 1: steps[1]: \"p\" is no policy",
            ),
            ("port: 80", "port: 80, protocol: UDP", "say so in skip"),
            ("port: 80", "port: 80, protocol: ICMP", "ICMP has no port"),
            ("name: n", "name: n, skip: {kernel: no}", "kernel"),
        ] {
            let error = parse(&CASE.replace(right, wrong)).unwrap_err();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_folder_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), CASE).unwrap();
        assert_eq!(read(folder.path()).unwrap().len(), 1);
        fs::write(folder.path().join("b.yaml"), CASE).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b.yaml: case 1: number"), "{error}");
    }
}
