//! Files and folders in all sorts of trouble.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::Lab;

use super::{from, no_problems, takes, told};
use crate::cluster::policy;
use crate::connections::{FILE, NONE, expect};

const DENY_C: &str = "podSelector: {matchLabels: {app: c}}, policyTypes: [Ingress]";

/// A file of policies that is half-written, mangled or emptied.
pub fn turned_bad(lab: &Lab) -> Result<()> {
    let good = from("b");
    let half = &good[..good.len() / 2];
    let document = format!("{FILE} document 1");
    let file = format!("file {FILE}");
    for (text, object, reason) in [
        // A policy, by the look of it.
        (
            half,
            &*format!("NetworkPolicy default/({document})"),
            "line 1 column",
        ),
        ("{ not: yaml\n", &*document, "line 1 column"),
        ("", &*file, "has become empty"),
    ] {
        lab.write_manifest(FILE, text)?;
        told(lab, object, "", reason).with_context(|| format!("{text:?}"))?;
        takes(lab, "b", "the file has turned bad")?;
        lab.write_manifest(FILE, &good)?;
        no_problems(lab)?;
    }
    // It does not hold up the others.
    lab.write_manifest(FILE, half)?;
    lab.apply("other.yaml", &policy("x/c", DENY_C))?;
    expect(lab, &[], &["x/b -> x/c:8080"], "another file")?;
    lab.unapply("other.yaml")?;
    takes(lab, "b", "the other file is gone")?;

    lab.apply(FILE, &from("c"))?;
    takes(lab, "c", "mended")?;
    lab.apply(FILE, NONE)?;
    expect(lab, &["x/b x/c -> x/a:80"], &[], "no policy any more")
}

/// A file that has never been good has nothing to keep.
pub fn not_yaml(lab: &Lab) -> Result<()> {
    lab.write_manifest("notes.yaml", "Remember: [the milk\n")?;
    told(lab, "notes.yaml document 1", "", "line 1 column")?;
    takes(lab, "b", "beside a file of notes")?;
    lab.apply(FILE, &from("c"))?;
    takes(lab, "c", "changed beside a file of notes")?;
    lab.remove_manifest("notes.yaml")?;
    no_problems(lab)?;
    takes(lab, "c", "the notes are gone")
}

/// Two files define one policy, differently.
pub fn duplicates(lab: &Lab) -> Result<()> {
    // After the other by name.
    lab.write_manifest("z.yaml", &from("c"))?;
    let object = "NetworkPolicy x/in";
    told(
        lab,
        object,
        "metadata.name",
        &format!("defined in {FILE} and again in z.yaml"),
    )?;
    takes(lab, "b", "defined twice")?;
    lab.unapply(FILE)?;
    no_problems(lab)?;
    takes(lab, "c", "the second one is the only one")?;
    lab.apply(FILE, &from("b"))?;
    takes(lab, "b", "defined twice again")?;
    lab.unapply("z.yaml")?;
    takes(lab, "b", "the first one is the only one")
}

/// The kubelet's way: files are links through `..data`, which is switched to another folder.
pub fn config_map(lab: &Lab) -> Result<()> {
    lab.unapply(FILE)?;
    let mount = lab.manifests().join("mounted");
    let switch = |version: &str, text: &str| -> Result<()> {
        let folder = mount.join(format!("..{version}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("in.yaml"), text)?;
        symlink(format!("..{version}"), mount.join("..data_tmp"))?;
        fs::rename(mount.join("..data_tmp"), mount.join("..data"))?;
        Ok(())
    };
    switch("first", &from("b"))?;
    symlink("..data/in.yaml", mount.join("in.yaml"))?;
    follow(lab)?;
    takes(lab, "b", "mounted")?;
    for round in 0..3 {
        let app = if round % 2 == 0 { "c" } else { "b" };
        switch(&format!("version_{round}"), &from(app))?;
        follow(lab)?;
        takes(lab, app, "switched")?;
        no_problems(lab)?;
    }
    fs::remove_dir_all(&mount)?;
    follow(lab)?;
    expect(lab, &["x/b x/c -> x/a:80"], &[], "unmounted")
}

fn follow(lab: &Lab) -> Result<()> {
    lab.follow_manifests()?;
    lab.wait_applied()?;
    Ok(())
}

/// The whole folder goes, as when a volume is lost, and comes back with something else in it.
pub fn vanished(lab: &Lab) -> Result<()> {
    let folder = lab.manifests();
    let away = folder.with_file_name("away");
    let mut held = lab.hold(&sidewall_host_tests::lab::Probe::new("x/b", "x/a", 80)?)?;
    fs::rename(&folder, &away)?;
    told(
        lab,
        &format!("folder {}", folder.display()),
        "",
        "cannot be read",
    )?;
    takes(lab, "b", "the folder has vanished")?;
    let answer = held.exchange(std::time::Duration::from_secs(5));
    ensure!(answer.is_ok(), "a live connection broke: {answer:?}");

    write(&away, &from("c"))?;
    takes(lab, "b", "nobody can know of this")?;
    fs::rename(&away, &folder)?;
    follow(lab)?;
    no_problems(lab)?;
    takes(lab, "c", "the folder is back")
}

fn write(folder: &Path, text: &str) -> Result<()> {
    Ok(fs::write(folder.join(FILE), text)?)
}
