//! The whole of it: real Envoys, a distributor that follows an API server, and the real `kubectl`.

#[path = "lab_support/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Lab, LabConfig, Plane, Probe, Source};
use world::{policy, three_pods};

fn main() -> ExitCode {
    harness::main(&[
        ("kubectl_decides_who_reaches_whom", kubectl_decides),
        ("an_api_server_in_trouble_changes_no_verdict", trouble),
        ("nodes_follow_kubectl", nodes_follow),
    ])
}

/// `a` takes `b`, and nobody else.
const ALLOW_B: &str = "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";

/// How soon the distributor must have caught up with a server that is back, and what a busy machine
/// may add to it.
const CATCH_UP: Duration = Duration::from_secs(4);

fn lab(plane: Plane) -> Result<Lab> {
    let config = LabConfig::default()
        .manifest("cluster.yaml", gated(&three_pods()))
        .plane(plane)
        .source(Source::Kube)
        .probe_timeout(Duration::from_secs(2));
    Ok(Lab::start(config)?)
}

/// Whether `b` and `c` reach `a`.
fn reach(lab: &Lab) -> Result<[bool; 2]> {
    let probes = ["default/b", "default/c"].map(|from| Probe::new(from, "default/a", 80));
    let probes: Vec<Probe> = probes.into_iter().collect::<Result<_, _>>()?;
    let results = lab.probe(&probes)?;
    let reached = |from: &str| {
        let of: Vec<_> = results
            .iter()
            .filter(|result| result.from == from)
            .collect();
        let answered = of.iter().filter(|result| result.answered).count();
        ensure!(
            answered == 0 || answered == of.len(),
            "over one family only: {of:?}"
        );
        Ok(answered > 0)
    };
    Ok([reached("default/b")?, reached("default/c")?])
}

fn kubectl(lab: &Lab, arguments: &[&str], input: &str) -> Result<()> {
    lab.kubectl(arguments, input)?;
    Ok(lab.wait_applied()?)
}

/// Applies a policy. What begins with a brace is JSON to `kubectl`, unless a marker is in front of it.
fn apply(lab: &Lab, spec: &str) -> Result<()> {
    let manifest = format!("---\n{}", policy("p", spec));
    kubectl(lab, &["apply", "-f", "-"], &manifest)
}

fn decide(lab: &Lab) -> Result<()> {
    ensure!(
        reach(lab)? == [true, true],
        "without policies everybody reaches everybody"
    );
    apply(lab, ALLOW_B)?;
    ensure!(reach(lab)? == [true, false], "only b is let in");
    kubectl(lab, &["label", "pod", "c", "app=b", "--overwrite"], "")?;
    ensure!(reach(lab)? == [true, true], "c has become one of b's");
    kubectl(lab, &["label", "pod", "b", "app-"], "")?;
    ensure!(reach(lab)? == [false, true], "b has no label any more");
    kubectl(lab, &["delete", "networkpolicy", "p"], "")?;
    ensure!(reach(lab)? == [true, true], "the policy is gone");
    Ok(())
}

/// Pods that are not ready before their Envoys have their policies.
fn gated(pods: &str) -> String {
    let gate = "spec: {readinessGates: [{conditionType: sidewall.dev/policy-applied}], nodeName:";
    pods.replace("spec: {nodeName:", gate)
}

fn kubectl_decides() -> Result<()> {
    let lab = lab(Plane::Proxy)?;
    let applied = "--for=condition=sidewall.dev/policy-applied";
    let wait = ["wait", applied, "--timeout=60s", "pod/a", "pod/b", "pod/c"];
    lab.kubectl(&wait, "")?;
    decide(&lab)
}

fn nodes_follow() -> Result<()> {
    decide(&lab(Plane::Node)?)
}

/// Under steady traffic the server is killed, loses its history, fails and flaps. What is allowed goes on,
/// what is denied stays denied, and when it is back it is followed within two seconds.
fn trouble() -> Result<()> {
    let lab = lab(Plane::Proxy)?;
    apply(&lab, ALLOW_B)?;
    let mut held = lab.hold(&Probe::new("default/b", "default/a", 80)?)?;
    let finished = AtomicBool::new(false);
    let (traffic, troubles) = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut rounds = 0;
            while !finished.load(Ordering::SeqCst) {
                let reached = reach(&lab)?;
                ensure!(reached == [true, false], "b and c reach a: {reached:?}");
                rounds += 1;
            }
            Ok(rounds)
        });
        let troubles = outages(&lab);
        finished.store(true, Ordering::SeqCst);
        let traffic = traffic.join();
        (
            traffic.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            troubles,
        )
    });
    troubles?;
    ensure!(traffic? > 3, "too little traffic to tell");
    ensure!(
        held.exchange(Duration::from_secs(5)).is_ok(),
        "a connection was cut for nothing"
    );

    // A change that happens while the server cannot be reached is in force soon after its return.
    let server = lab.api_server()?;
    server.kill();
    server.remove("networking.k8s.io/v1", "NetworkPolicy", "default/p")?;
    server.compact()?;
    thread::sleep(Duration::from_secs(3));
    ensure!(reach(&lab)? == [true, false], "nobody has been told yet");
    server.restart()?;
    let back = Instant::now();
    while reach(&lab)? != [true, true] {
        ensure!(
            back.elapsed() < CATCH_UP,
            "not caught up after {:?}",
            back.elapsed()
        );
    }
    Ok(())
}

fn outages(lab: &Lab) -> Result<()> {
    let server = lab.api_server()?;
    for status in [500, 429] {
        server.fail(status, None)?;
        server.kill();
        server.compact()?;
        thread::sleep(Duration::from_secs(1));
        server.restart()?;
        thread::sleep(Duration::from_secs(2));
        server.recover();
        thread::sleep(Duration::from_secs(1));
    }
    for _ in 0..8 {
        server.kill();
        thread::sleep(Duration::from_millis(200));
        server.restart()?;
        thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}
