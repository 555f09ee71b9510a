//! New TCP connections to a pod on another node that the node's Envoy carries, to one that the kernel
//! alone judges, and to one on a node without a table.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::bench;
use sidewall_host_tests::lab::{Lab, LabConfig, Plane, Redirect};
use sidewall_host_tests::net::Netns;

const ROUNDS: usize = 15;
const CLIENTS: usize = 4;
/// Of each client.
const CONNECTIONS: usize = 250;
const PORT: u16 = 9000;
const PATIENCE: Duration = Duration::from_secs(10);

const CLUSTER: &str = "\
{apiVersion: v1, kind: Node, metadata: {name: node-1}, spec: {podCIDRs: [10.244.1.0/24]}, status: {addresses: [{type: InternalIP, address: 192.168.50.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-2}, spec: {podCIDRs: [10.244.2.0/24]}, status: {addresses: [{type: InternalIP, address: 192.168.50.2}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: servers}, spec: {podSelector: {matchLabels: {role: server}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]}}
";

struct Arm<'a> {
    name: &'static str,
    lab: &'a Lab,
    to: SocketAddr,
}

pub fn run() -> Result<()> {
    let start = |plane, annotation: &str| -> Result<Lab> {
        let mut cluster = CLUSTER.to_owned();
        for (name, role, node, host, annotation) in [
            ("client", "client", 2, 10, annotation),
            ("kernel", "server", 1, 10, annotation),
            (
                "redirected",
                "server",
                1,
                11,
                "sidewall.dev/redirect: 'true', sidewall.dev/sidecar: 'false'",
            ),
        ] {
            let _ = write!(
                cluster,
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{role: {role}}}, annotations: {{{annotation}}}}}, \
                 spec: {{nodeName: node-{node}, containers: [{{name: c, image: i}}]}}, \
                 status: {{phase: Running, podIPs: [{{ip: 10.244.{node}.{host}}}]}}}}\n"
            );
        }
        let config = LabConfig::default()
            .plane(plane)
            .redirect(Redirect::OnRequest);
        Ok(Lab::start(config.manifest("cluster.yaml", cluster))?)
    };
    let both = start(Plane::Both, "")?;
    // No pod of it has a sidecar, and its nodes have no table.
    let neither = start(Plane::Proxy, "sidewall.dev/sidecar: 'false'")?;
    let mut arms = Vec::new();
    for (name, lab, pod) in [
        ("none", &neither, "default/kernel"),
        ("kernel", &both, "default/kernel"),
        ("redirected", &both, "default/redirected"),
    ] {
        let address = lab.addresses(pod)?.into_iter().next();
        let to = SocketAddr::new(address.context("the pod has an address")?, PORT);
        serve(&lab.netns(pod)?, to)?;
        arms.push(Arm { name, lab, to });
    }

    let mut rates = vec![Vec::with_capacity(ROUNDS); arms.len()];
    let mut times = vec![Vec::with_capacity(ROUNDS * CLIENTS * CONNECTIONS); arms.len()];
    // The first round is for caches.
    for round in 0..=ROUNDS {
        for place in 0..arms.len() {
            let arm = (place + round) % arms.len();
            let (rate, took) = arms[arm].connect()?;
            if round > 0 {
                rates[arm].push(rate);
                times[arm].extend(took);
            }
        }
    }
    for ((arm, rates), times) in arms.iter().zip(&rates).zip(&mut times) {
        let name = arm.name;
        println!(
            "figure node_connections_{name} {:.0} 1/s",
            bench::median(rates.clone())
        );
        for (percent, share) in [(50, 0.5), (99, 0.99)] {
            println!(
                "figure node_connection_{name}_p{percent} {:.2} ms",
                bench::percentile(times, share)
            );
        }
    }
    for (name, arm, to) in [("kernel_to_none", 1, 0), ("redirected_to_none", 2, 0)] {
        let ratios = rates[arm].iter().zip(&rates[to]).map(|(arm, to)| arm / to);
        println!(
            "ratio node_connections_{name} {:.2}",
            bench::median(ratios.collect())
        );
    }
    Ok(())
}

/// Answers every connection and closes it.
fn serve(netns: &Netns, at: SocketAddr) -> Result<()> {
    let listener = netns.run(|| TcpListener::bind(at))??;
    for _ in 0..CLIENTS {
        let listener = listener.try_clone()?;
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                // One that breaks is noticed by its client.
                let _ = connection.write_all(b"ok");
            }
        });
    }
    Ok(())
}

impl Arm<'_> {
    /// Connections a second, and what each took from the call to the end of the answer in
    /// milliseconds.
    fn connect(&self) -> Result<(f64, Vec<f64>)> {
        let client = || -> Result<Vec<f64>> {
            let mut times = Vec::with_capacity(CONNECTIONS);
            for _ in 0..CONNECTIONS {
                let started = Instant::now();
                let mut connection = TcpStream::connect_timeout(&self.to, PATIENCE)?;
                connection.set_read_timeout(Some(PATIENCE))?;
                let mut answer = Vec::with_capacity(8);
                connection.read_to_end(&mut answer)?;
                ensure!(answer == b"ok", "{}: {answer:?}", self.to);
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
            Ok(times)
        };
        self.lab.netns("default/client")?.run(|| {
            let started = Instant::now();
            let times = std::thread::scope(|scope| {
                let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
                let times = clients
                    .into_iter()
                    .map(|client| client.join().expect("clients do not panic"));
                times.collect::<Result<Vec<_>>>()
            })?;
            let rate = (CLIENTS * CONNECTIONS) as f64 / started.elapsed().as_secs_f64();
            Ok((rate, times.concat()))
        })?
    }
}
