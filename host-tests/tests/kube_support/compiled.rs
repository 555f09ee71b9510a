//! What follows from objects, without a distributor.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sidewall_distributor::cluster::manifests;
use sidewall_distributor::index::{Change, Index};
use sidewall_policy::compile::Options;
use sidewall_policy::snapshot::Snapshot;

/// Revisions by pod.
pub type Revisions = BTreeMap<String, String>;

/// What follows from objects, by the other way that they can be read: from a folder.
pub fn compiled(objects: &[Value]) -> Result<Revisions> {
    let folder = tempfile::tempdir()?;
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    fs::write(folder.path().join("objects.json"), list.to_string())?;
    let mut index = Index::new(Options::default());
    for event in manifests::read(folder.path()) {
        index.apply(event);
    }
    let mut revisions = Revisions::new();
    for (recipient, change) in index.take_changes() {
        if let Change::Snapshot(bytes) = change {
            let snapshot = Snapshot::check(bytes).context("compiled here")?;
            revisions.insert(recipient.to_string(), snapshot.revision().to_string());
        }
    }
    Ok(revisions)
}
