//! A large cluster on an API server, the distributor as it ships, and two thousand clients.
//!
//! Prints `figure NAME VALUE UNIT`; see docs/performance.md. Clients and the API server stand-in share the
//! machine's cores with the distributor, whose memory and processor time are its own process's.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "cluster/churn.rs"]
mod churn;
#[path = "cluster/comeback.rs"]
mod comeback;
#[path = "../../distributor/tests/support/pki.rs"]
#[allow(dead_code, reason = "other tests take more of it")]
mod pki;
#[path = "cluster/served.rs"]
mod served;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::apiserver::ApiServer;
use sidewall_host_tests::bench::fleet::{Fleet, POLICIES};
use sidewall_host_tests::bench::percentile;
use sidewall_host_tests::followers::{Followers, in_plain_text};
use sidewall_policy::model::Pod;

use churn::Churn;
use comeback::{Credentialed, comeback};
use served::Served;

const FLEET: Fleet = Fleet {
    nodes: 1_000,
    namespaces: 500,
    pods: 100,
};
/// Clients in each namespace: one for each of its apps. Their pods stay.
const CLIENTS: usize = 4;
/// Nodes that have a client, where nodes are served as well.
const NODES: usize = 100;
/// Pods that are replaced in a second, and for how many seconds.
const RATE: u32 = 50;
const SECONDS: u32 = 30;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    println!("figure cluster_nodes {} nodes", FLEET.nodes);
    println!("figure cluster_pods {} pods", FLEET.namespaces * FLEET.pods);
    println!(
        "figure cluster_policies {} policies",
        FLEET.namespaces * POLICIES
    );
    println!(
        "figure cluster_clients {} clients",
        FLEET.namespaces * CLIENTS
    );
    let api = ApiServer::start()?;
    for object in FLEET.objects() {
        api.put(&object)?;
    }
    // What led here is of no use to anybody.
    api.compact()?;

    let (served, followers) = served_and_churned(&api, "cluster", &[], 0, 0)?;
    let wide = churn::wide(&api, &followers, FLEET, CLIENTS)?;
    print_times("cluster_wide", &wide)?;
    drop((served, followers));

    let flags = ["--node-plane".to_owned()];
    let name = "cluster_node_plane";
    drop(served_and_churned(
        &api,
        name,
        &flags,
        NODES,
        RATE * SECONDS,
    )?);

    let proof = Credentialed::new(&api)?;
    for (name, proof) in [
        ("cluster_comeback_plain", None),
        ("cluster_comeback_proved", Some(&proof)),
    ] {
        let back = comeback(&api, FLEET, proof)?;
        println!("figure {name}_ready {:.2} s", back.ready.as_secs_f64());
        let last = back.lags.iter().max().context("nobody came back")?;
        println!("figure {name}_last_client {:.2} s", last.as_secs_f64());
    }
    Ok(())
}

/// Starts a distributor, lets clients connect for pods and for so many nodes, and replaces pods, after as many
/// others.
fn served_and_churned(
    api: &ApiServer,
    name: &str,
    flags: &[String],
    nodes: usize,
    before_it: u32,
) -> Result<(Served, Followers)> {
    let started = Instant::now();
    let mut served = Served::start(api, ([127, 0, 0, 1], 0).into(), flags)?;
    served.wait_ready()?;
    println!(
        "figure {name}_cold_start {:.2} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "figure {name}_cold_start_cpu {:.2} s",
        served.cpu()?.as_secs_f64()
    );
    println!("figure {name}_resident {:.0} MiB", served.resident()?);
    let bytes = served.metric("sidewall_snapshots_bytes")? / (FLEET.namespaces * FLEET.pods) as f64;
    println!("figure {name}_snapshot {:.1} KiB", bytes / 1024.0);

    let started = Instant::now();
    let ids = client_pods().map(|pod| node_id(&pod));
    let ids = ids.chain((0..nodes).map(|number| format!("node~node-{number}")));
    let clients = ids.map(|id| (in_plain_text(served.xds()), id));
    let followers = Followers::start(None, clients)?;
    let mut first = vec![false; FLEET.namespaces * CLIENTS + nodes];
    while first.iter().any(|has| !has) {
        let arrival = followers.next(PATIENCE);
        let missing = first.iter().filter(|has| !**has).count();
        let arrival = arrival.with_context(|| format!("{missing} clients have nothing"))?;
        first[arrival.client] = true;
    }
    println!(
        "figure {name}_all_clients_served {:.2} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "figure {name}_resident_with_clients {:.0} MiB",
        served.resident()?
    );

    let before = (served.cpu()?, served.pushed()?, Instant::now());
    let churn = Churn::run(api, &followers, FLEET, CLIENTS, RATE, SECONDS, before_it)?;
    let wall = before.2.elapsed().as_secs_f64();
    let changes = f64::from(RATE * SECONDS);
    let cpu = served.cpu()?.saturating_sub(before.0).as_secs_f64();
    let pushed = served.pushed()?;
    print_times(&format!("{name}_churn"), &churn.lags)?;
    println!(
        "figure {name}_churn_rate {:.1} pods/s",
        changes / churn.took.as_secs_f64()
    );
    println!("figure {name}_churn_cpu {:.1} ms", cpu * 1e3 / changes);
    println!("figure {name}_churn_cores {:.2} cores", cpu / wall);
    println!(
        "figure {name}_churn_bytes {:.0} KiB",
        (pushed.bytes - before.1.bytes) / changes / 1024.0
    );
    println!(
        "figure {name}_churn_pushes {:.1} snapshots",
        (pushed.snapshots - before.1.snapshots) / changes
    );
    println!(
        "figure {name}_resident_afterwards {:.0} MiB",
        served.resident()?
    );
    ensure!(
        served.metric("sidewall_xds_nacks_total")? == 0.0,
        "something was refused"
    );
    Ok((served, followers))
}

fn print_times(name: &str, lags: &[Duration]) -> Result<()> {
    ensure!(!lags.is_empty(), "{name}: nothing was measured");
    let mut lags: Vec<f64> = lags.iter().map(|lag| lag.as_secs_f64() * 1e3).collect();
    println!(
        "figure {name}_last_client_median {:.1} ms",
        percentile(&mut lags, 0.5)
    );
    println!(
        "figure {name}_last_client_p99 {:.1} ms",
        percentile(&mut lags, 0.99)
    );
    Ok(())
}

/// The first pods of each namespace have a client.
fn client_pods() -> impl Iterator<Item = Pod> {
    (0..FLEET.namespaces)
        .flat_map(|namespace| (0..CLIENTS).map(move |number| FLEET.pod(namespace, number, 0)))
}

fn node_id(pod: &Pod) -> String {
    let ip = pod.ips.first().map(ToString::to_string).unwrap_or_default();
    format!(
        "sidecar~{ip}~{}.{}~cluster.local",
        pod.id.name, pod.id.namespace
    )
}
