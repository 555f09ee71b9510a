//! Labels and pods change under a policy that stays the same.

use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_host_tests::lab::{Family, Lab, Probe};

use crate::cluster::{NAMESPACE_Y, Pod, WEB, named, policy};
use crate::connections::{FILE, expect};

/// How long a cut may take to reach the client, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same pod with other labels.
fn labelled(pod: Pod, labels: &'static str) -> Pod {
    Pod { labels, ..pod }
}

fn change(lab: &Lab, pod: Pod) -> Result<()> {
    lab.apply(&pod.file(), &pod.manifest())?;
    Ok(())
}

/// A pod gains and loses labels that policies and peers are selected by (H13, C7).
pub fn labels(lab: &Lab) -> Result<()> {
    let (a, b, c) = (named("x/a"), named("x/b"), named("x/c"));
    let clients = policy(
        "x/p",
        "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]",
    );
    lab.apply(FILE, &clients)?;
    expect(lab, &["x/b -> x/a:80"], &["x/c -> x/a:80"], "at first")?;
    let mut held = lab.hold(&Probe::new("x/b", "x/a", 80)?.over(Family::IPv6))?;

    change(lab, labelled(c, "app: c, role: client"))?;
    expect(lab, &["x/b x/c -> x/a:80"], &[], "c became a client")?;
    ensure!(held.exchange(PATIENCE).is_ok(), "b was cut for c's label");

    change(lab, labelled(b, "app: b"))?;
    expect(
        lab,
        &["x/c -> x/a:80"],
        &["x/b -> x/a:80"],
        "b is no client any more",
    )?;
    ensure!(
        held.wait_cut(PATIENCE).is_some(),
        "b is no client any more, and still connected"
    );

    change(lab, labelled(a, "app: other"))?;
    expect(
        lab,
        &["x/b x/c y/a -> x/a:80"],
        &[],
        "a is not selected any more",
    )?;
    change(lab, labelled(b, "app: a"))?;
    expect(
        lab,
        &["x/c -> x/b:80"],
        &["y/a -> x/b:80"],
        "b is selected now",
    )?;
    for pod in [a, b, c] {
        change(lab, pod)?;
    }
    expect(
        lab,
        &["x/b -> x/a:80"],
        &["x/c -> x/a:80"],
        "all is as before",
    )
}

/// A namespace is relabelled, and its pods are other peers (B7, H13).
pub fn namespace_labels(lab: &Lab) -> Result<()> {
    let blue = policy(
        "x/p",
        "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]",
    );
    lab.apply(FILE, &blue)?;
    expect(lab, &["y/a y/b -> x/a:80"], &["x/b -> x/a:80"], "at first")?;
    let mut held = lab.hold(&Probe::new("y/a", "x/a", 80)?)?;
    lab.apply("namespace-y.yaml", &NAMESPACE_Y.replace("blue", "green"))?;
    expect(lab, &[], &["y/a y/b -> x/a:80"], "y is not blue any more")?;
    ensure!(
        held.wait_cut(PATIENCE).is_some(),
        "y is not blue any more, and still connected"
    );
    lab.apply("namespace-y.yaml", NAMESPACE_Y)?;
    expect(
        lab,
        &["y/a y/b -> x/a:80"],
        &["x/b -> x/a:80"],
        "y is blue again",
    )
}

/// An address is worth what its present owner is, not what the former one was (H6, H7).
pub fn addresses(lab: &Lab) -> Result<()> {
    let clients = policy(
        "x/p",
        "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]",
    );
    let first = Pod {
        name: "x/first",
        node: 2,
        host: 40,
        labels: "app: first, role: client",
        ports: WEB,
    };
    let second = Pod {
        name: "x/second",
        labels: "app: second",
        ..first
    };
    lab.apply(FILE, &clients)?;
    change(lab, first)?;
    expect(lab, &["x/first -> x/a:80"], &[], "a client")?;
    lab.remove_manifest(&first.file())?;
    change(lab, second)?;
    expect(
        lab,
        &["x/second -> x/b:80"],
        &["x/second -> x/a:80"],
        "another pod at the client's address",
    )?;
    // The first comes back into view, as a pod that has ended: the API keeps those for a while.
    let ended = first.manifest().replace("Running", "Failed");
    lab.apply(&first.file(), &ended)?;
    expect(
        lab,
        &["x/second -> x/b:80"],
        &["x/second -> x/a:80"],
        "the client, which has ended, has had that address",
    )?;
    lab.remove_manifest(&first.file())?;
    lab.unapply(&second.file())?;
    Ok(())
}
