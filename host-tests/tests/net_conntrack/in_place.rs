//! The table that an agent has changed in place is the one that another agent makes whole.

use std::sync::Arc;

use anyhow::{Result, ensure};
use sidewall_host_tests::net::Netns;
use sidewall_host_tests::wasm_host::scene::{Scene, pods};
use sidewall_policy::model::Ports;

use super::agent::Agent;
use super::kernel::{NODE, checked, scene, topology};

/// Peers come and go, and so do a pod of the node and its address: elements of every map and set, with comments and
/// without, in both families.
fn steps() -> Vec<Scene> {
    let ingress = || Some(vec![pods("c", Ports::Any)]);
    let with = |scene: Scene| scene.policy("default/a", "a", ingress(), ingress());
    let peer = |scene: Scene, number: u8| {
        let [v4, v6] = [
            format!("10.244.2.{number}"),
            format!("fd00:244:2::{number}"),
        ];
        scene.pod(&format!("default/c{number}"), "c", "node-2", &[&v4, &v6])
    };
    let moved = scene().pod("default/b", "b", NODE, &["10.244.1.77", "fd00:244:1::77"]);
    vec![
        with(scene()),
        with(peer(scene(), 50)),
        with(peer(peer(scene(), 51), 52)),
        with(peer(moved, 52)),
        with(scene()),
    ]
}

fn listing(netns: &Netns) -> Result<String> {
    let mut nft = netns.command("nft");
    let output = nft
        .args(["-s", "list", "table", "inet", "sidewall"])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    // Hash sets have no order.
    let mut words: Vec<&str> = text.split([',', '\n']).map(str::trim).collect();
    words.sort_unstable();
    Ok(words.join("\n"))
}

pub fn as_made_whole() -> Result<()> {
    let lab = topology()?;
    let agent = Agent::start(lab.node(NODE)?)?;
    for scene in steps() {
        let snapshot = checked(&scene.snapshot(&["default/a", "default/b"]))?;
        agent.enforce(&Arc::clone(&snapshot))?;
        let whole = topology()?;
        let other = Agent::start(whole.node(NODE)?)?;
        other.enforce(&snapshot)?;
        let (changed, made) = (listing(lab.node(NODE)?)?, listing(whole.node(NODE)?)?);
        ensure!(
            changed == made,
            "changed in place:\n{changed}\n\nmade whole:\n{made}"
        );
        other.stop()?;
    }
    ensure!(
        agent.metric("sidewall_node_apply_failures_total")? == 0,
        "the kernel refused a change"
    );
    ensure!(
        agent.metric("sidewall_node_repairs_total")? == 0,
        "the agent took its own change for another's"
    );
    agent.stop()
}
