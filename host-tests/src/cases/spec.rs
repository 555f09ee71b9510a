//! The case files, read strictly: what they may say is in `host-tests/cases/README.md`.

mod check;
mod pairs;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use crate::lab::{Family, Plane};
use crate::probe::Protocol;

pub use pairs::Pairs;
pub use restart::Restart;

/// One case: objects come, change and go, and after each step it is known who reaches whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The number that the list it is from gives it: upstream's, or that of the acceptance list in
    /// the README.
    #[serde(default)]
    pub number: Option<u32>,
    /// Its name: upstream's, or what it shows.
    pub name: String,
    /// Where it takes place; the folder `world` beside the file if left out.
    #[serde(default)]
    pub world: World,
    /// The planes that it does not concern, and why.
    #[serde(default)]
    pub skip: BTreeMap<PlaneName, String>,
    /// What happens, in this order.
    pub steps: Vec<Step>,
    /// The file it is in.
    #[serde(skip)]
    pub file: PathBuf,
}

/// The objects that a case begins with.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum World {
    /// The manifests in a folder beside the file.
    Folder(String),
    /// These manifests and no others.
    Objects(Vec<Value>),
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
    /// Objects of any kind that are created or replaced: whole manifests.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Fields that are merged into objects (RFC 7386), by `KIND NAMESPACE/NAME` or `KIND NAME`.
    #[serde(default)]
    pub patch: BTreeMap<String, Value>,
    /// Labels that are set, or with null removed: by `namespace/pod`, or by a namespace's name.
    #[serde(default)]
    pub relabel: BTreeMap<String, BTreeMap<String, Option<String>>>,
    /// Policies that are deleted, by `namespace/name`; others by `KIND NAMESPACE/NAME`.
    #[serde(default)]
    pub delete: Vec<String>,
    /// How often all of the above is done and undone, as fast as can be, before it is done for good.
    #[serde(default)]
    pub churn: u32,
    /// Who is ended without notice and started again afterwards.
    #[serde(default)]
    pub restart: Vec<Restart>,
    /// What holds then, of every pair of pods.
    #[serde(default)]
    pub expect: Vec<Table>,
    /// What holds then, of these ends alone.
    #[serde(default)]
    pub probe: Vec<Entry>,
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
    /// Pairs of pods that are denied.
    #[serde(default)]
    pub deny: Vec<Pairs>,
    /// Pairs of those above that are allowed all the same.
    #[serde(default)]
    pub allow: Vec<Pairs>,
}

/// Who reaches whom, of those that are named.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// At which port; 0 for ICMP.
    #[serde(default)]
    pub port: u16,
    /// By which protocol; TCP if left out.
    #[serde(default)]
    pub protocol: Protocol,
    /// Over which family; each that both ends have, if left out.
    #[serde(default)]
    pub family: Option<Family>,
    /// Who reaches whom.
    #[serde(default)]
    pub allow: Vec<Pairs>,
    /// Who does not reach whom.
    #[serde(default)]
    pub deny: Vec<Pairs>,
    /// Who decides: of a denial the policies that isolate, of an allowance the rules that allow.
    #[serde(default)]
    pub by: Option<BTreeSet<String>>,
    /// The planes that it does not concern, and why.
    #[serde(default)]
    pub skip: BTreeMap<PlaneName, String>,
}

impl Default for World {
    fn default() -> Self {
        Self::Folder("world".to_owned())
    }
}

impl PlaneName {
    /// The name of a plane.
    #[must_use]
    pub fn of(plane: Plane) -> Self {
        match plane {
            Plane::Proxy => Self::Proxy,
            Plane::Node => Self::Node,
            Plane::Both => Self::Both,
        }
    }
}

impl Case {
    /// Why the case does not concern a plane, if it does not.
    #[must_use]
    pub fn skipped(&self, plane: Plane) -> Option<&str> {
        self.skip.get(&PlaneName::of(plane)).map(String::as_str)
    }

    /// The folder that its world is in, unless it brings one along.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        match &self.world {
            World::Folder(name) => Some(self.file.with_file_name(name)),
            World::Objects(_) => None,
        }
    }
}

/// `ports 17: endPort is inclusive`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stem = self.file.file_stem().unwrap_or_default();
        write!(f, "{}", stem.display())?;
        if let Some(number) = self.number {
            write!(f, " {number}")?;
        }
        write!(f, ": {}", self.name)
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

/// Reads every `*.yaml` file of a folder, each a list of cases; sorted by number, then by file.
///
/// # Errors
///
/// [`Error::File`] names the file, and the case or the place in it.
pub fn read(folder: &Path) -> Result<Vec<Case>, Error> {
    let mut cases: Vec<Case> = Vec::new();
    let mut names = BTreeSet::new();
    for path in files(folder)? {
        let error = |reason: String| Error::File {
            path: path.clone(),
            reason,
        };
        let text = fs::read_to_string(&path).map_err(|source| error(source.to_string()))?;
        for case in parse(&text).map_err(error)? {
            if !names.insert((case.number, case.name.clone())) {
                return Err(error(format!("case {:?}: there are two", case.name)));
            }
            cases.push(Case {
                file: path.clone(),
                ..case
            });
        }
    }
    cases.sort_by_key(|case| case.number.unwrap_or(u32::MAX));
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
        check::case(case).map_err(|reason| format!("case {:?}: {reason}", case.name))?;
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = "[{number: 1, name: n, steps: [{expect: [{port: 80, deny: ['* -> x/a x/b'], allow: ['y/* -> x/a']}]}]}]";
    const PROBE: &str = "[{name: n, steps: [{probe: [{port: 80, deny: ['node:n -> x/a', 'x/a -> service:x/s address:10.0.0.1']}]}]}]";

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
        for (text, right, wrong, part) in [
            (CASE, "deny", "denied", "denied"),
            (CASE, "* ->", "* to", "has no arrow"),
            (CASE, "-> x/a x/b", "-> xa", "\"xa\" is no target"),
            (CASE, "'* ->", "'node:n ->", "only pods"),
            (
                CASE,
                "[{expect",
                "[{delete: [p], expect",
                "case \"n\": steps[1]: \"p\" is no object",
            ),
            (
                CASE,
                "port: 80",
                "port: 80, protocol: UDP",
                "say so in skip",
            ),
            (
                CASE,
                "port: 80",
                "port: 80, protocol: ICMP",
                "ICMP has no port",
            ),
            (CASE, "name: n", "name: n, skip: {kernel: no}", "kernel"),
            (
                PROBE,
                "port: 80",
                "port: 80, protocol: UDP",
                "say so in skip",
            ),
            (PROBE, "node:n", "node:", "\"node:\" is no source"),
            (PROBE, "port: 80,", "port: 80, ports: [1],", "ports"),
            (PROBE, "port: 80,", "", "there is no port"),
            (
                PROBE,
                "[{probe",
                "[{restart: [everything], probe",
                "\"everything\" cannot be restarted",
            ),
            (
                PROBE,
                "[{probe",
                "[{patch: {Pod: {}}, probe",
                "\"Pod\" is no object",
            ),
            (
                PROBE,
                "[{probe",
                "[{objects: [{kind: Pod}], probe",
                "metadata.name",
            ),
        ] {
            let error = parse(&text.replace(right, wrong)).unwrap_err();
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
        assert!(
            error.contains("b.yaml: case \"n\": there are two"),
            "{error}"
        );
    }
}
