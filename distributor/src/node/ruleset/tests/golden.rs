//! Programs to be read by people, made of manifests.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidewall-distributor golden` writes them anew; what it wrote is
//! then to be read again.

#[path = "../../../../../policy/tests/support/verdicts.rs"]
mod verdicts;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sidewall_policy::compile::Options;
use sidewall_policy::snapshot::{READABLE, Snapshot};

use super::packet::{Fate, Packet, walk};
use super::{settings, snapshot};
use crate::cluster::{Event, manifests};
use crate::index::Index;
use crate::node::ruleset::{Plan, Settings, install};

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

/// Of a node without an Envoy.
fn kernel_alone() -> Settings {
    Settings {
        proxy_port: None,
        ..settings()
    }
}

fn compare(case: &str, settings: &Settings, snapshot: Option<&Snapshot>) {
    let steps = install(&Plan::new(settings, snapshot));
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

/// What the distributor of a neighbouring release sends becomes a table that decides as it was meant.
#[test]
fn every_format_that_is_read_becomes_the_table_that_was_meant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/golden");
    for version in READABLE {
        let path = folder.join(format!("v{version}.node.snapshot"));
        let snapshot = Snapshot::check(fs::read(&path).unwrap()).unwrap();
        let plan = Plan::new(&settings(), Some(&snapshot));
        let verdicts = fs::read_to_string(path.with_extension("verdicts")).unwrap();
        let nodes = ["192.168.50.1", "fd50::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        for (flow, allowed) in verdicts::read(&verdicts) {
            // What comes from the node itself never gets here, and Services are chosen before.
            let of_service = flow.destination == IpAddr::from([10, 96, 0, 7]);
            if nodes.contains(&flow.source) || of_service {
                continue;
            }
            let packet = Packet::first(flow.source, flow.destination, flow.protocol, flow.port);
            let fate = walk(&plan.objects, "prerouting", &packet, &mut Vec::new());
            assert_eq!(fate != Fate::Dropped, allowed, "format {version}: {flow:?}");
        }
    }
}

#[test]
fn golden_no_snapshot() {
    compare("no_snapshot", &kernel_alone(), None);
}

#[test]
fn golden_peers_and_ports() {
    let case = "peers_and_ports";
    compare(case, &kernel_alone(), Some(&read(&folder(case))));
}

#[test]
fn golden_groups_and_paths() {
    let case = "groups_and_paths";
    compare(case, &settings(), Some(&read(&folder(case))));
}
