//! Pods of a node on one bridge.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::{Lab, LabConfig, Plane};

use super::world::{Path, Pod, cluster};

const POD: Pod = Pod {
    name: "a",
    role: "any",
    node: 1,
    host: 11,
    path: Path::Kernel,
};

/// The agent looks every ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// A bridge whose frames the rules do not see is a hole, and its node is not ready.
pub fn unseen_frames() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .bridged()
            .plane(Plane::Both)
            .manifest("cluster.yaml", cluster([POD.manifest()])),
    )?;
    let node = lab.netns("node:node-1")?;
    // As CNI's plugin does it for the pods' gateway.
    let mut address = node.command("ip");
    address.args(["addr", "add", "10.244.1.1/24", "dev", "cni0"]);
    ensure!(address.status()?.success(), "no address for the bridge");
    let until = |ready: bool| -> Result<()> {
        let started = Instant::now();
        while lab.agent_get("node-1", "/readyz").is_ok() != ready {
            ensure!(started.elapsed() < PATIENCE, "ready is not {ready}");
            sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    let show = |value: &'static str| {
        let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        let written = node.run(move || fs::write(setting, value))?;
        written.context(setting)
    };
    until(true)?;
    show("0")?;
    until(false)?;
    let log = lab.agent_log("node-1")?;
    let told = "what pods on the bridge cni0 send to each other goes past this node's rules";
    ensure!(log.contains(told), "{log}");
    show("1")?;
    until(true)
}
