//! From the change of a manifest to its enforcement by ten real sidecars.
//!
//! Prints `figure NAME VALUE UNIT`; see docs/performance.md. Two clocks start when the file appears:
//! one stops when the last worker of the last sidecar says which snapshot it decides by, the other
//! at the first new connection that is treated the new way, of one client that tries all the time.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sidewall_host_tests::bench;
use sidewall_host_tests::lab::{Lab, LabConfig};
use sidewall_host_tests::probe::{self, Protocol};

/// Sidecars that every change concerns.
const SIDECARS: u8 = 10;
const CHANGES: usize = 100;

/// The manifest that changes.
const POLICY: &str = "policy.yaml";

/// Between two attempts of the client.
const PAUSE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    bench::main(run)
}

fn run() -> Result<()> {
    let config = LabConfig::default()
        .manifest("cluster.yaml", cluster())
        .manifest(POLICY, policy(true));
    let lab = Lab::start(config)?;
    let server = lab
        .addresses("default/web-0")?
        .into_iter()
        .find(std::net::IpAddr::is_ipv4);
    let server = SocketAddr::new(server.context("web-0 has an IPv4 address")?, 80);
    let client = lab.netns("default/client")?;

    let (mut enforced, mut felt) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let opens = change % 2 == 1;
        let started = Instant::now();
        let probing = client.spawn(move || first(server, opens, started))?;
        let took = lab.apply(POLICY, &policy(opens))?;
        enforced.push(milliseconds(took));
        let probed = probing.join().ok().context("the client panicked")??;
        felt.push(milliseconds(probed));
        // The next change must not be folded into this one.
        thread::sleep(Duration::from_millis(100));
    }
    for (name, mut values) in [("all_sidecars", enforced), ("first_connection", felt)] {
        println!(
            "figure propagation_{name}_median {:.1} ms",
            bench::percentile(&mut values, 0.5)
        );
        println!(
            "figure propagation_{name}_p99 {:.1} ms",
            bench::percentile(&mut values, 0.99)
        );
    }
    Ok(())
}

/// Tries until the server answers, or does not, as it should after the change.
fn first(server: SocketAddr, opens: bool, started: Instant) -> Result<Duration> {
    loop {
        let report = probe::attempt(server, Protocol::Tcp, PATIENCE);
        if report.answered_by.is_some() == opens {
            return Ok(started.elapsed());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{server}: the change is not felt: {report:?}"
        );
        thread::sleep(PAUSE);
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Two nodes, a client on the first, and the servers on the second.
fn cluster() -> String {
    let mut yaml = String::new();
    for node in [1, 2] {
        let _ = write!(
            yaml,
            "---\n{{apiVersion: v1, kind: Node, metadata: {{name: node-{node}}}, \
             status: {{addresses: [{{type: InternalIP, address: 192.168.50.{node}}}]}}}}\n"
        );
    }
    yaml.push_str(&pod("client", "client", 1, 10));
    for index in 0..SIDECARS {
        yaml.push_str(&pod(&format!("web-{index}"), "web", 2, 10 + index));
    }
    yaml
}

fn pod(name: &str, app: &str, node: u8, host: u8) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default, labels: {{app: {app}}}}}, \
         spec: {{nodeName: node-{node}, containers: [{{name: c, image: i, ports: [{{containerPort: 80}}]}}]}}, \
         status: {{phase: Running, podIPs: [{{ip: 10.244.{node}.{host}}}]}}}}\n"
    )
}

/// Lets the client in, or nobody of that name.
fn policy(opens: bool) -> String {
    let app = if opens { "client" } else { "nobody" };
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: web, namespace: default}}, \
         spec: {{podSelector: {{matchLabels: {{app: web}}}}, \
         ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}]}}]}}}}\n"
    )
}
