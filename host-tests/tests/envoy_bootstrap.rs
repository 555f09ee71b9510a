//! Every bootstrap in `envoy/`, filled in as its README says, passes Envoy's own check: as it is, and
//! without TLS and token.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use sidewall_host_tests::envoy::{Artifact, artifact, template, validate};

#[path = "../../distributor/tests/support/pki.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod pki;

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
    let secrets = secrets()?;
    let sds = secrets.path().to_str().context("a temporary path")?;
    let mut values = vec![
        ("SIDEWALL_HOST", "sidewall.sidewall-system.svc"),
        ("SIDEWALL_PORT", "18000"),
        ("SIDEWALL_WASM", filter),
    ];
    let check = |path: &Path, template: &str, values: &[(&str, &str)]| {
        let rendered = template::render(template, values)?;
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(file.path(), rendered)?;
        validate(&envoy, file.path()).with_context(|| path.display().to_string())
    };
    for path in bootstraps()? {
        let template = template::plaintext(&fs::read_to_string(&path)?);
        check(&path, &template, &values)?;
    }
    values.extend([("SIDEWALL_SDS", sds), ("SIDEWALL_NAME", "sidewall.example")]);
    for path in bootstraps()? {
        check(&path, &fs::read_to_string(&path)?, &values)?;
    }
    Ok(())
}

/// The folder of secrets as it is deployed, but for where the secrets themselves are.
fn secrets() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str, secret: &str, path: &str, content: &str| {
        let file = folder.path().join(name);
        ensure!(secret.contains(path), "envoy/sds names no {path}");
        let named = secret.replace(path, &file.display().to_string());
        fs::write(folder.path().join(format!("{name}.yaml")), named)?;
        Ok(fs::write(file, content)?)
    };
    let token = "/var/run/secrets/sidewall/token";
    place("token", template::TOKEN_SECRET, token, "a.b.c")?;
    let ca = pki::Authority::new();
    place(
        "ca",
        template::CA_SECRET,
        "/var/run/secrets/sidewall/ca.crt",
        ca.pem(),
    )?;
    Ok(folder)
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
