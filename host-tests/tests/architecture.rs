//! The dependency directions of ARCHITECTURE.md, held against `cargo metadata` and the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("host-tests lies in the workspace")
        .to_owned()
}

/// For each workspace crate, what it depends on outside of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let depends_on = list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect();
            (
                package["name"].as_str().unwrap_or_default().to_owned(),
                depends_on,
            )
        })
        .collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Rust sources under a folder of the workspace, by path from its root.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    assert!(!paths.is_empty(), "no sources in {folder}");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let from_root = path.strip_prefix(root()).expect("inside the workspace");
            (from_root.display().to_string(), text)
        })
        .collect()
}

/// Sources of a folder that mention one of the words in code, not in comments.
fn mentioning(folder: &str, words: &[&str]) -> Vec<String> {
    sources(folder)
        .into_iter()
        .filter(|(_, text)| {
            text.lines()
                .map(str::trim_start)
                .filter(|line| !line.starts_with("//"))
                .any(|line| words.iter().any(|word| line.contains(word)))
        })
        .map(|(path, _)| path)
        .collect()
}

fn assert_only_in(folder: &str, words: &[&str], allowed: &[&str]) {
    let outside: Vec<String> = mentioning(folder, words)
        .into_iter()
        .filter(|path| !allowed.iter().any(|prefix| path.starts_with(prefix)))
        .collect();
    assert!(
        outside.is_empty(),
        "{words:?} may be named in {allowed:?} only, but {outside:?} do"
    );
}

#[test]
fn crates_depend_one_way() {
    let crates = dependencies();
    let inside = |name: &str| -> BTreeSet<String> {
        crates[name]
            .iter()
            .filter(|dependency| crates.contains_key(*dependency))
            .cloned()
            .collect()
    };
    assert_eq!(inside("sidewall-policy"), names([]));
    assert_eq!(inside("sidewall-filter"), names(["sidewall-policy"]));
    assert_eq!(inside("sidewall-distributor"), names(["sidewall-policy"]));
    assert_eq!(
        inside("sidewall-host-tests"),
        names(["sidewall-policy", "sidewall-distributor"])
    );
}

#[test]
fn the_engine_is_pure() {
    let allowed = names([
        "ipnet",
        "self_cell",
        "serde",
        "serde_json",
        "thiserror",
        "xxhash-rust",
        "zerocopy",
    ]);
    assert_eq!(dependencies()["sidewall-policy"], allowed);
    assert_only_in(
        "policy/src",
        &[
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "std::io",
            "Instant",
            "SystemTime",
            "async fn",
            "println!",
        ],
        &[],
    );
}

#[test]
fn edges_are_named_in_one_place() {
    assert_only_in("filter/src", &["hostcalls"], &["filter/src/host.rs"]);
    assert_only_in(
        "distributor/src",
        &[
            "k8s_openapi",
            "kube::api",
            "kube::client",
            "kube::Client",
            "kube::runtime",
        ],
        &["distributor/src/cluster"],
    );
    assert_only_in(
        "distributor/src",
        &["tonic", "envoy_types", "rustls", "x509_parser"],
        &["distributor/src/xds"],
    );
}

#[test]
fn the_index_does_no_input_or_output() {
    assert_only_in(
        "distributor/src/index",
        &["tokio", "std::fs", "Instant", "SystemTime", "async "],
        &[],
    );
}

#[test]
fn injection_is_a_function_of_text() {
    assert_only_in(
        "distributor/src/inject",
        &[
            "std::fs",
            "std::env",
            "tokio",
            "crate::index",
            "crate::publish",
            "crate::xds",
        ],
        &[],
    );
}

#[test]
fn servers_see_snapshots_through_the_seam_only() {
    assert_only_in(
        "distributor/src/xds",
        &["crate::cluster", "crate::index", "crate::publish"],
        &[],
    );
}

#[test]
fn the_cluster_knows_no_server() {
    assert_only_in(
        "distributor/src/cluster",
        &["crate::xds", "crate::admin"],
        &[],
    );
}

#[test]
fn the_node_sees_snapshots_only() {
    assert_only_in(
        "distributor/src/node",
        &[
            "crate::cluster",
            "crate::index",
            "crate::publish",
            "crate::xds",
        ],
        // The goldens start from manifests.
        &["distributor/src/node/ruleset/tests"],
    );
}

#[test]
fn no_module_is_called_mod() {
    for folder in [
        "policy/src",
        "filter/src",
        "distributor/src",
        "host-tests/src",
    ] {
        for (path, _) in sources(folder) {
            assert!(
                !path.ends_with("/mod.rs"),
                "{path}: use foo.rs beside foo/ instead"
            );
        }
    }
}
