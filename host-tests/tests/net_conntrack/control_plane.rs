//! A sidecar's connection to the distributor outlives a policy that denies all egress.

use anyhow::{Result, ensure};
use sidewall_distributor::node::ruleset::Settings;
use sidewall_host_tests::net::{self, Service, ServicePort};
use sidewall_host_tests::probe::{Held, Protocol, Server};
use sidewall_policy::model::TcpPath;

use super::kernel::{A, B, C, NODE, at, impatient, ip, revoke_by, scene, settings};
use super::{OPEN, PATIENCE, SILENCE, field, lab};

/// Where sidecars dial; a replica on another node answers.
const SERVICE: [&str; 2] = ["10.96.0.50", "fd00:96::50"];
const DIALLED: u16 = 18_000;

/// Only what a sidecar dialled counts: the same replica by its own address is denied, and so is
/// what a pod without a sidecar dials.
pub fn stays_open() -> Result<()> {
    let lab = lab()?;
    lab.set_services(&[Service {
        name: "sidewall/distributor".to_owned(),
        addresses: SERVICE.map(ip).to_vec(),
        ports: vec![ServicePort {
            protocol: net::Protocol::Tcp,
            port: DIALLED,
            node_port: None,
            backends: C.map(|address| at(address, OPEN)).to_vec(),
        }],
    }])?;
    let _replica = Server::start(lab.pod("default/c")?, "c", Protocol::Tcp, OPEN)?;
    let shut = scene()
        .tcp_path("default/a", TcpPath::Sidecar)
        .tcp_path("default/b", TcpPath::Kernel)
        .policy("default/a", "a", None, Some(Vec::new()))
        .policy("default/b", "b", None, Some(Vec::new()))
        .snapshot(&["default/a", "default/b"]);
    let settings = Settings {
        control_planes: SERVICE.map(|address| at(address, DIALLED)).to_vec(),
        ..settings()
    };
    for family in [0, 1] {
        let hold = |from: &str, address: &str, port| {
            Held::open(lab.pod(from)?, at(address, port), PATIENCE).map_err(anyhow::Error::from)
        };
        let mut asking = hold("default/a", SERVICE[family], DIALLED)?;
        let mut denied = [
            hold("default/a", C[family], OPEN)?,
            hold("default/b", SERVICE[family], DIALLED)?,
        ];
        let records = revoke_by(lab.node(NODE)?, &shut, &settings, &mut impatient())?;
        let sources = field(&records, "source");
        ensure!(
            sources.len() == 2
                && [A, B].iter().all(|pod| {
                    let of = |source: &str| source.contains(pod[family]);
                    sources.iter().filter(|source| of(source)).count() == 1
                }),
            "{records:?}"
        );
        asking.exchange(PATIENCE).map_err(anyhow::Error::msg)?;
        for held in &mut denied {
            ensure!(
                held.exchange(SILENCE).is_err(),
                "a denied connection answered"
            );
        }
    }
    Ok(())
}
