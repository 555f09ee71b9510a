//! The boot table: what closes a node's pods between its boot and the start of its agent.
//!
//! The kernel's rules do not outlive a boot. The kubelet starts the pods that are bound to the node as soon as it
//! runs, maybe before the agent's own pod. So the agent leaves a file for the node's `nft` that holds the table of a
//! node without snapshots; a unit of the system loads it before the kubelet starts (docs/adr/0019). An agent that
//! starts later finds a table of ours and replaces it, as it does after any restart.
//!
//! The file never touches a table that is there: `create` fails, and with it the whole transaction.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::info;

use super::ruleset::{Plan, Settings, TABLE, install};

/// Why the file of the boot table could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("--boot-table {file}: cannot {step} it: {source}", file = file.display())]
pub(super) struct BootTableError {
    /// The file.
    file: PathBuf,
    /// What was attempted.
    step: &'static str,
    /// What the system said.
    source: io::Error,
}

/// Writes the file, all of it or nothing, unless it says the same already.
pub(super) fn write(file: &Path, settings: &Settings) -> Result<(), BootTableError> {
    let failed = |step| {
        move |source| BootTableError {
            file: file.to_owned(),
            step,
            source,
        }
    };
    let script = script(settings);
    if fs::read_to_string(file).is_ok_and(|found| found == script) {
        return Ok(());
    }
    let staged = file.with_extension("new");
    let save = || {
        let mut new = File::create(&staged)?;
        new.write_all(script.as_bytes())?;
        // A node may lose its power right after this.
        new.sync_all()?;
        fs::rename(&staged, file)
    };
    save().map_err(failed("write"))?;
    info!(file = %file.display(), "wrote the boot table");
    Ok(())
}

/// Removes the file. None is fine.
pub(super) fn remove(file: &Path) -> Result<(), BootTableError> {
    match fs::remove_file(file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(BootTableError {
            file: file.to_owned(),
            step: "remove",
            source,
        }),
        _ => Ok(()),
    }
}

fn script(settings: &Settings) -> String {
    // Without the agent nothing answers for redirection, and there is nothing to redirect.
    let settings = Settings {
        proxy_port: None,
        ..settings.clone()
    };
    let mut script = format!(
        "# Written by `sidewall node --boot-table`: closes the pods of this node until its agent runs.\n\
         # Refused as a whole where the table is there already.\n\
         create table inet {TABLE}\n"
    );
    for step in install(&Plan::new(&settings, None)) {
        script.push_str(&step.script);
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ruleset::DeniedTcp;

    fn settings(range: &str) -> Settings {
        Settings {
            pod_cidrs: vec![range.parse().unwrap()],
            cluster_cidrs: Vec::new(),
            control_planes: Vec::new(),
            proxy_port: None,
            nflog_group: 4747,
            denied_tcp: DeniedTcp::Drop,
        }
    }

    #[test]
    fn the_file_follows_the_settings_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("boot.nft");
        write(&file, &settings("10.244.1.0/24")).unwrap();
        let first = fs::read_to_string(&file).unwrap();
        assert!(first.contains("create table inet sidewall\n"), "{first}");
        assert!(first.contains("10.244.1.0-10.244.1.255"), "{first}");
        write(&file, &settings("10.244.7.0/24")).unwrap();
        let second = fs::read_to_string(&file).unwrap();
        assert!(second.contains("10.244.7.0-10.244.7.255"), "{second}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = write(Path::new("/nowhere/boot.nft"), &settings("10.244.1.0/24")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("--boot-table /nowhere/boot.nft: cannot write it: "),
            "{text}"
        );
    }
}
