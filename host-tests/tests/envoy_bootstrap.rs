//! Every bootstrap in `envoy/`, filled in as its README says, passes Envoy's own check.

use std::fs;

use anyhow::{Context as _, ensure};
use sidewall_host_tests::envoy::{Artifact, artifact, template, validate};

/// The files that users start an Envoy with.
fn bootstraps() -> anyhow::Result<Vec<std::path::PathBuf>> {
    let folder = artifact::repository().join("envoy");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
    ensure!(!found.is_empty(), "no bootstrap in {}", folder.display());
    Ok(found)
}

#[test]
fn every_bootstrap_is_accepted_by_envoy() -> anyhow::Result<()> {
    let envoy = Artifact::Envoy.find()?;
    let filter = Artifact::Filter.find()?;
    let filter = filter
        .to_str()
        .context("the path of the filter is not UTF-8")?;
    for path in bootstraps()? {
        let values = [
            ("SIDEWALL_HOST", "sidewall.sidewall-system.svc"),
            ("SIDEWALL_PORT", "18000"),
            ("SIDEWALL_WASM", filter),
        ];
        let rendered = template::render(&fs::read_to_string(&path)?, &values)
            .with_context(|| path.display().to_string())?;
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(file.path(), rendered)?;
        validate(&envoy, file.path()).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[test]
fn a_mistake_would_be_found() -> anyhow::Result<()> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(
        file.path(),
        "static_resources: {listeners: [{name: no-address}]}",
    )?;
    let error =
        validate(&Artifact::Envoy.find()?, file.path()).expect_err("a listener needs an address");
    ensure!(error.to_string().contains("ddress"), "{error}");
    Ok(())
}
