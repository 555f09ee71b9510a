//! What is wrong with the manifests is told by object, field and reason, costs nobody else
//! anything, opens nothing, and is forgotten when it is mended.

#[path = "e2e_support/cluster.rs"]
mod cluster;
#[path = "e2e_support/connections.rs"]
mod connections;
#[path = "e2e_manifests/files.rs"]
mod files;
#[path = "e2e_manifests/invalid.rs"]
mod invalid;
#[path = "e2e_manifests/refused.rs"]
mod refused;
#[path = "e2e_support/shared.rs"]
mod shared;

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster::policy;
use connections::{FILE, expect};
use shared::Shared;
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Lab, Problem};

fn main() -> ExitCode {
    harness::main(&[
        ("invalid_policies_isolate_and_are_told", || {
            with_lab(invalid::policies)
        }),
        ("a_file_that_turns_bad_keeps_what_it_said", || {
            with_lab(files::turned_bad)
        }),
        ("a_new_file_that_is_no_yaml_costs_nobody_anything", || {
            with_lab(files::not_yaml)
        }),
        ("the_first_of_two_objects_of_one_name_is_used", || {
            with_lab(files::duplicates)
        }),
        ("a_mounted_configmap_is_switched_in_one_step", || {
            with_lab(files::config_map)
        }),
        ("a_folder_vanishes_and_comes_back", || {
            with_lab(files::vanished)
        }),
        ("a_snapshot_that_an_envoy_refuses_is_told", || {
            with_lab(refused::snapshot)
        }),
    ])
}

fn with_lab(case: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    static LAB: Shared = Shared::new();
    LAB.with(
        || cluster::cluster(&["x/a", "x/b", "x/c"]),
        |lab| {
            tidy(lab)?;
            lab.apply(FILE, &from("b"))?;
            no_problems(lab)?;
            case(lab)
        },
    )
}

/// Removes what a case has left behind that failed: the cluster stays, its policies go.
fn tidy(lab: &Lab) -> Result<()> {
    for entry in fs::read_dir(lab.manifests())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let stays = ["nodes", "namespace", "pod"];
        if !stays.iter().any(|prefix| name.starts_with(prefix)) {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    lab.follow_manifests()?;
    Ok(())
}

/// `x/a` takes this app only.
fn from(app: &str) -> String {
    policy(
        "x/in",
        &format!(
            "podSelector: {{matchLabels: {{app: a}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}]}}]"
        ),
    )
}

/// Holds the lab to what [`from`] says.
fn takes(lab: &Lab, app: &str, when: &str) -> Result<()> {
    let (in_, out) = if app == "b" {
        ("x/b", "x/c")
    } else {
        ("x/c", "x/b")
    };
    let (allow, deny) = (format!("{in_} -> x/a:80"), format!("{out} -> x/a:80"));
    expect(lab, &[&allow], &[&deny], when)
}

/// Waits until the distributor has nothing to complain of.
fn no_problems(lab: &Lab) -> Result<()> {
    wait_for_problems(lab, "none", <[Problem]>::is_empty)
}

/// Waits until the distributor complains of this, by object, field and a phrase of the reason, and
/// of nothing else.
fn told(lab: &Lab, object: &str, field: &str, reason: &str) -> Result<()> {
    let wanted = format!("{object}: {field}: … {reason} …");
    wait_for_problems(lab, &wanted, |problems| {
        let [only] = problems else { return false };
        (only.object.as_str(), only.field.as_str()) == (object, field)
            && only.reason.contains(reason)
            && !only.consequence.is_empty()
    })
}

fn wait_for_problems(lab: &Lab, wanted: &str, is_it: impl Fn(&[Problem]) -> bool) -> Result<()> {
    let started = Instant::now();
    loop {
        let problems = lab.status()?.problems;
        if is_it(&problems) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < Duration::from_secs(5),
            "problems should be: {wanted}\nand are: {problems:#?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}
