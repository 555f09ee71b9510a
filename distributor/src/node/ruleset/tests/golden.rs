//! Programs to be read by people, made of manifests.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidewall-distributor golden` writes them anew; what it wrote is
//! then to be read again.

use std::fs;
use std::path::{Path, PathBuf};

use sidewall_policy::compile::Options;
use sidewall_policy::snapshot::Snapshot;

use super::{settings, snapshot};
use crate::cluster::{Event, manifests};
use crate::index::Index;
use crate::node::ruleset::{Plan, install};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/node/ruleset/golden")
        .join(case)
}

/// The snapshot of node `n1` of a folder's cluster.
fn read(folder: &Path) -> Snapshot {
    let options = Options {
        node_plane: true,
        ..Options::default()
    };
    let mut index = Index::new(options);
    for event in manifests::read(folder) {
        if let Event::Report(_, problems) = &event {
            assert!(problems.is_empty(), "{problems:?}");
        }
        index.apply(event);
    }
    snapshot(&index.cluster(), &options)
}

fn compare(case: &str, snapshot: Option<&Snapshot>) {
    let steps = install(&Plan::new(&settings(), snapshot));
    let mut text = String::new();
    for (step, number) in steps.iter().zip(1..) {
        text.push_str(&format!("# transaction {number}\n{}\n", step.script));
    }
    let path = folder(case).join("table.nft");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(text == expected, "differs from {}:\n{text}", path.display());
}

#[test]
fn golden_no_snapshot() {
    compare("no_snapshot", None);
}

#[test]
fn golden_peers_and_ports() {
    let case = "peers_and_ports";
    compare(case, Some(&read(&folder(case))));
}

#[test]
fn golden_groups_and_paths() {
    let case = "groups_and_paths";
    compare(case, Some(&read(&folder(case))));
}
