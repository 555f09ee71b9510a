//! What a change denies falls silent first, with the table that every node has, and is deleted later.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use sidewall_distributor::node::conntrack::{Docket, Graces};
use sidewall_distributor::node::ruleset::{self, Plan};
use sidewall_host_tests::probe::{Held, Protocol, Server};
use sidewall_host_tests::wasm_host::scene::{pods, tcp};
use sidewall_policy::model::TcpPath;
use sidewall_policy::snapshot::Snapshot;

use super::kernel::{
    B, NODE, at, nft, revoke, revoke_by, scene, send_udp, settings, silence, topology,
};
use super::{OPEN, PATIENCE, SILENCE, count};

const PODS: [&str; 2] = ["default/a", "default/b"];

/// The mark of what nothing passes on.
pub const SILENT: &str = "mark=262144";

/// Has the kernel know connections.
pub const TRACKING: &str = "table inet tracking {
    chain pre { type filter hook prerouting priority dstnat + 5; policy accept; ct state new accept; }
}";

/// What is allowed again in time goes on as if nothing had been.
pub fn falls_and_lifts() -> Result<()> {
    let lab = topology()?;
    let node = lab.node(NODE)?;
    let kernel_only = || {
        PODS.into_iter()
            .fold(scene(), |scene, pod| scene.tcp_path(pod, TcpPath::Kernel))
    };
    let open = kernel_only().snapshot(&PODS);
    let only_c = Some(vec![pods("c", tcp(OPEN, OPEN))]);
    let closed = kernel_only().policy("default/b", "b", only_c, None);
    let behind_sidecar = closed.clone().tcp_path("default/b", TcpPath::Sidecar);
    let behind_sidecar = behind_sidecar.snapshot(&PODS);
    let closed = closed.snapshot(&PODS);
    let plan = |bytes: &[u8]| -> Result<Plan> {
        let snapshot = Snapshot::check(bytes.to_vec())?;
        Ok(Plan::new(&settings(), Some(&snapshot)))
    };
    let run = |steps: Vec<ruleset::Step>| steps.iter().try_for_each(|step| nft(node, &step.script));
    run(ruleset::install(&plan(&open)?))?;
    let b = lab.pod("default/b")?;
    let _servers = [Protocol::Tcp, Protocol::Udp]
        .map(|protocol| Server::start(b, "b", protocol, OPEN))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    for family in [0, 1] {
        let a = lab.pod("default/a")?;
        let mut held = [
            Held::open(a, at(B[family], OPEN), PATIENCE)?,
            Held::open_udp(a, at(B[family], OPEN), PATIENCE)?,
        ];
        let fall_silent = |held: &mut [Held; 2]| -> Result<()> {
            run(ruleset::transition(&plan(&open)?, &plan(&closed)?))?;
            let records = silence(node, &closed)?;
            ensure!(records.len() >= held.len(), "{records:?}");
            let records = silence(node, &closed)?;
            ensure!(records.is_empty(), "each is recorded once: {records:?}");
            // Who carries it from now on does not matter to what is silent already.
            let records = silence(node, &behind_sidecar)?;
            ensure!(records.is_empty(), "{records:?}");
            for held in held {
                let answered = held.exchange(SILENCE);
                ensure!(answered.is_err(), "a denied connection answered");
            }
            Ok(())
        };
        fall_silent(&mut held)?;
        run(ruleset::transition(&plan(&closed)?, &plan(&open)?))?;
        let records = silence(node, &open)?;
        ensure!(records.is_empty(), "{records:?}");
        let [_, datagrams] = &mut held;
        datagrams.exchange(PATIENCE).map_err(anyhow::Error::msg)?;

        drop(held);
        let mut held = [
            Held::open(a, at(B[family], OPEN), PATIENCE)?,
            Held::open_udp(a, at(B[family], OPEN), PATIENCE)?,
        ];
        fall_silent(&mut held)?;
        let records = revoke(node, &closed)?;
        ensure!(records.is_empty(), "each is recorded once: {records:?}");
        let left = count(node, &["udp"])? + count(node, &["ESTABLISHED"])?;
        ensure!(left == 0, "{left} are left");
        run(ruleset::transition(&plan(&closed)?, &plan(&open)?))?;
    }
    Ok(())
}

/// It has its time, also if another change allowed it for a moment shortly before.
pub fn comes_first() -> Result<()> {
    let grace = Graces {
        proxied: Duration::ZERO,
        silenced: Duration::from_millis(300),
    };
    let lab = topology()?;
    let node = lab.node(NODE)?;
    let open = scene().snapshot(&PODS);
    let closed = scene()
        .policy("default/b", "b", Some(Vec::new()), None)
        .snapshot(&PODS);
    nft(node, TRACKING)?;
    for family in [0, 1] {
        let mut docket = Docket::new(grace);
        let mut revoke = |snapshot| revoke_by(node, snapshot, &settings(), &mut docket);
        send_udp(lab.pod("default/a")?, 5000, at(B[family], 53))?;
        for _ in 0..2 {
            let records = revoke(&closed)?;
            ensure!(records.len() == 1, "{records:?}");
            let known = [count(node, &["udp"])?, count(node, &["udp", SILENT])?];
            ensure!(known == [1, 1], "known, and silent: {known:?}");
            let records = revoke(&closed)?;
            ensure!(records.is_empty(), "each is recorded once: {records:?}");
            ensure!(count(node, &["udp"])? == 1, "its time had not come");
            revoke(&open)?;
            ensure!(count(node, &["udp", SILENT])? == 0, "it may speak again");
            thread::sleep(grace.silenced);
        }
        revoke(&closed)?;
        thread::sleep(grace.silenced);
        let records = revoke(&closed)?;
        ensure!(records.is_empty(), "each is recorded once: {records:?}");
        ensure!(count(node, &["udp"])? == 0, "its time had come");
    }
    Ok(())
}
