//! Files that a lab runs and does not make: Envoy, the filter, the `sidewall` command.
//!
//! They are looked for where the build puts them, unless the environment names another file. One
//! that is older than a source it was built from is refused: a test of yesterday's binary says
//! nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use nix::mount::{MsFlags, mount};

/// The Envoy that Sidewall is tested with; `envoy/fetch-envoy.sh` fetches the same.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The helm that the chart is tested with; `scripts/fetch-helm.sh` fetches the same.
const HELM_VERSION: &str = "4.3.1";

/// A file that must exist before a lab or a test starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Artifact {
    /// The Envoy binary.
    Envoy,
    /// The proxy-wasm module.
    Filter,
    /// The `sidewall` binary.
    Sidewall,
    /// The helm binary.
    Helm,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("{path} does not exist: run `{make}`, or name another file with {variable}", path = path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// What makes it.
        make: &'static str,
        /// The environment variable that names another one.
        variable: &'static str,
    },
    /// It cannot be put where others reach it.
    #[error("cannot mount Envoy at {path}: {source}; this must run inside the sandbox", path = path.display())]
    Install {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is older than its sources.
    #[error("{path} is older than {source_file}: run `{make}` again", path = path.display(), source_file = source_file.display())]
    Stale {
        /// The file.
        path: PathBuf,
        /// A source that is newer.
        source_file: PathBuf,
        /// What makes it.
        make: &'static str,
    },
}

impl Artifact {
    /// Finds the file.
    ///
    /// # Errors
    ///
    /// [`Error`] says which command makes it.
    pub fn find(self) -> Result<PathBuf, Error> {
        let (variable, make) = self.names();
        if let Some(path) = std::env::var_os(variable) {
            let path = PathBuf::from(path);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(Error::Missing {
                    path,
                    make,
                    variable,
                })
            };
        }
        let path = self.built();
        if !path.is_file() {
            return Err(Error::Missing {
                path,
                make,
                variable,
            });
        }
        match newer_source(&path) {
            Some(source_file) => Err(Error::Stale {
                path,
                source_file,
                make,
            }),
            None => Ok(path),
        }
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Envoy => ("SIDEWALL_ENVOY", "make envoy"),
            Self::Filter => ("SIDEWALL_FILTER", "make filter"),
            Self::Sidewall => ("SIDEWALL_BIN", "make build"),
            Self::Helm => ("SIDEWALL_HELM", "make helm"),
        }
    }

    fn built(self) -> PathBuf {
        match self {
            Self::Envoy => repository()
                .join(".tools")
                .join(format!("envoy-{ENVOY_VERSION}"))
                .join("envoy"),
            Self::Filter => target()
                .join("wasm32-unknown-unknown")
                .join("wasm")
                .join("sidewall_filter.wasm"),
            Self::Sidewall => profile().join("sidewall"),
            Self::Helm => repository()
                .join(".tools")
                .join(format!("helm-{HELM_VERSION}"))
                .join("helm"),
        }
    }
}

/// Makes the Envoy binary appear in `folder`, where a user who may not enter the repository can
/// reach it. The mount goes with the mount namespace of the process, so this is for sandboxes.
///
/// # Errors
///
/// As [`Artifact::find`], or [`Error::Install`].
pub fn install_envoy(folder: &Path) -> Result<PathBuf, Error> {
    /// One at a time, and once for all.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _guard = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let target = folder.join("envoy");
    if target.exists() {
        return Ok(target);
    }
    let envoy = Artifact::Envoy.find()?;
    let install = |source: io::Error| Error::Install {
        path: target.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(install)?;
    fs::write(&target, "").map_err(install)?;
    let flags = MsFlags::MS_BIND;
    mount(Some(&envoy), &target, None::<&str>, flags, None::<&str>)
        .map_err(|errno| install(errno.into()))?;
    Ok(target)
}

/// The root of the repository this was built in.
#[must_use]
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The folder of this program's build profile, such as `target/debug`: binaries are in it, tests
/// and benches in its `deps`.
fn profile() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new(""));
    let folder = if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    folder.to_owned()
}

/// Cargo's target folder.
fn target() -> PathBuf {
    let profile = profile();
    profile.parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// A source newer than what was built from it, by the list that cargo leaves next to its output.
/// Without a list, as for Envoy, there is none.
fn newer_source(built: &Path) -> Option<PathBuf> {
    let modified = |path: &Path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let built_at = modified(built)?;
    let list = fs::read_to_string(built.with_extension("d")).ok()?;
    sources(&list).find(|source| modified(source).is_some_and(|at: SystemTime| at > built_at))
}

/// The files right of the colon in a dep-info file. Spaces in paths are escaped.
fn sources(list: &str) -> impl Iterator<Item = PathBuf> {
    let line = list
        .lines()
        .next()
        .and_then(|line| line.split_once(": "))
        .map_or("", |(_, sources)| sources);
    line.replace("\\ ", "\0")
        .split(' ')
        .filter(|path| !path.is_empty())
        .map(|path| PathBuf::from(path.replace('\0', " ")))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_list_of_sources_is_read_with_its_spaces() {
        let list = "/t/sidewall: /a/main.rs /with\\ space/b.rs\n\n/a/main.rs:\n";
        let found: Vec<_> = sources(list).collect();
        assert_eq!(
            found,
            [
                PathBuf::from("/a/main.rs"),
                PathBuf::from("/with space/b.rs")
            ]
        );
    }

    #[test]
    fn what_is_older_than_a_source_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let [binary, list, source] =
            ["sidewall", "sidewall.d", "main.rs"].map(|name| folder.path().join(name));
        fs::write(&source, "").unwrap();
        let built = fs::File::create(&binary).unwrap();
        fs::write(
            list,
            format!("{}: {}\n", binary.display(), source.display()),
        )
        .unwrap();
        built
            .set_modified(SystemTime::now() + Duration::from_secs(60))
            .unwrap();
        assert_eq!(newer_source(&binary), None);
        built
            .set_modified(SystemTime::now() - Duration::from_secs(60))
            .unwrap();
        assert_eq!(newer_source(&binary), Some(source));
    }

    #[test]
    fn a_missing_file_is_named_with_what_makes_it() {
        let error = Error::Missing {
            path: "/x/envoy".into(),
            make: "make envoy",
            variable: "SIDEWALL_ENVOY",
        };
        assert_eq!(
            error.to_string(),
            "/x/envoy does not exist: run `make envoy`, or name another file with SIDEWALL_ENVOY"
        );
    }
}
