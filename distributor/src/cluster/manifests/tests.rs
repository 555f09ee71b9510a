//! Folders as people and kubelets leave them.

mod folder;
mod live;

use std::fs;
use std::path::Path;

use crate::cluster::event::{Batch, Event};

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("write a manifest");
}

fn pod(name: &str, app: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\n")
}

fn policy(name: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\n"
    )
}

/// What a batch says, in words; the namespaces that are always there are left out.
fn words(batch: &Batch) -> Vec<String> {
    let word = |event: &Event| match event {
        Event::Apply(object) => {
            let reference = object.reference().to_string();
            (!reference.starts_with("Namespace ")).then(|| format!("apply {reference}"))
        }
        Event::Delete(reference) => Some(format!("delete {reference}")),
        Event::Synced(kind) => Some(format!("synced {kind}")),
        Event::Report(_, problems) if problems.is_empty() => Some("mended".to_owned()),
        Event::Report(_, problems) => {
            let problems = problems
                .iter()
                .map(|p| format!("{}: {}", p.object, p.reason));
            Some(problems.collect::<Vec<_>>().join(" | "))
        }
    };
    batch.iter().filter_map(word).collect()
}
