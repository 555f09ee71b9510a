//! The lab with its replicas, and the hundred sidecars.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::followers::{Arrival, Followers, in_plain_text};
use sidewall_host_tests::lab::{Lab, LabConfig, Replica, Source};

use crate::compiled::compiled;

pub const REPLICAS: usize = 3;

/// Sidecars in all.
const SIDECARS: usize = 100;

/// Where all of them look for the distributor.
const DISTRIBUTOR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 18000);

/// So long that only something broken takes longer, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Site {
    pub lab: Lab,
    replicas: Mutex<Vec<Option<Replica>>>,
    followers: Mutex<Followers>,
    /// The pods that those stand for.
    followed: Vec<String>,
    changes: AtomicU16,
}

/// How many of them are real.
fn real() -> usize {
    number("SIDEWALL_SIDECARS").map_or(8, |number| number.clamp(2, SIDECARS))
}

/// How long a part takes, if nobody says otherwise.
pub fn seconds(otherwise: u64) -> Duration {
    let said = number("SIDEWALL_SECONDS").and_then(|number| u64::try_from(number).ok());
    Duration::from_secs(said.unwrap_or(otherwise))
}

fn number(variable: &str) -> Option<usize> {
    env::var(variable).ok()?.parse().ok()
}

/// `namespace/name` of every pod.
pub fn pods() -> impl Iterator<Item = String> {
    (0..SIDECARS).map(|number| format!("default/pod-{number}"))
}

/// Whether a pod is let in by the others.
pub fn is_friend(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// A pod without a node has an address and a snapshot, and is not built by the lab.
fn pod(number: usize, is_real: bool) -> Value {
    let role = if is_friend(number) {
        "friend"
    } else {
        "stranger"
    };
    let node = 1 + number % 2;
    let spec = json!({ "containers": [{ "name": "c", "image": "i", "ports": [{ "containerPort": 80 }] }] });
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("pod-{number}"), "namespace": "default", "labels": { "role": role } },
        "spec": spec,
        "status": { "phase": "Running", "podIPs": [{ "ip": address(number) }] },
    });
    if is_real {
        pod["spec"]["nodeName"] = json!(format!("node-{node}"));
    }
    pod
}

fn address(number: usize) -> String {
    format!("10.244.{}.{}", 1 + number % 2, 10 + number)
}

fn node(number: usize) -> Value {
    let addresses = json!([{ "type": "InternalIP", "address": format!("192.168.50.{number}") }]);
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("node-{number}") },
        "status": { "addresses": addresses },
    })
}

/// Everybody takes friends on port 80; and on a port that changes, so that every change concerns everybody.
fn policy(change: u16) -> Value {
    let ports = [80, 1000 + change].map(|port| json!({ "protocol": "TCP", "port": port }));
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "friends", "namespace": "default" },
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{ "podSelector": { "matchLabels": { "role": "friend" } } }],
                "ports": ports,
            }],
        },
    })
}

fn documents(objects: &[Value]) -> String {
    objects
        .iter()
        .map(|object| format!("---\n{object}\n"))
        .collect()
}

impl Site {
    fn start_all() -> Result<Self> {
        let started = Instant::now();
        let real = real();
        let mut objects = vec![node(1), node(2), policy(0)];
        objects.extend((0..real).map(|number| pod(number, true)));
        let config = LabConfig::default()
            .manifest("cluster.yaml", documents(&objects))
            .source(Source::Kube)
            .probe_timeout(Duration::from_secs(10))
            .relayed();
        let lab = Lab::start(config)?;
        for number in real..SIDECARS {
            lab.api_server()?.put(&pod(number, false))?;
        }
        // The lab's own has done what it was there for.
        lab.kill_distributor();
        let followed: Vec<String> = pods().skip(real).collect();
        let node_ids = (real..SIDECARS).map(|number| {
            let address = address(number);
            format!("sidecar~{address}~pod-{number}.default~cluster.local")
        });
        let clients = node_ids.map(|node_id| (in_plain_text(DISTRIBUTOR), node_id));
        let followers = Followers::start(Some(&lab.control()), clients)?;
        let site = Self {
            lab,
            replicas: Mutex::new((0..REPLICAS).map(|_| None).collect()),
            followers: Mutex::new(followers),
            followed,
            changes: AtomicU16::new(0),
        };
        for number in 0..REPLICAS {
            site.start(number)?;
        }
        for number in 0..REPLICAS {
            site.wait_ready(number)?;
        }
        site.put()?;
        site.arrived(Instant::now())?;
        println!(
            "{real} real sidecars and {} clients were up after {:?}",
            SIDECARS - real,
            started.elapsed()
        );
        Ok(site)
    }

    fn replicas(&self) -> MutexGuard<'_, Vec<Option<Replica>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a replica without notice. It stays in rotation: nobody has noticed.
    pub fn kill(&self, number: usize) {
        self.replicas()[number] = None;
    }

    /// Ends a replica with notice.
    pub fn stop(&self, number: usize) -> Result<()> {
        let replica = self.replicas()[number].take();
        let status = replica.context("it does not run")?.stop()?;
        ensure!(status.success(), "SIGTERM, and it ended with {status}");
        Ok(())
    }

    /// Starts a replica, and does not wait.
    pub fn start(&self, number: usize) -> Result<()> {
        let replica = self.lab.replica(u16::try_from(number)?)?;
        self.replicas()[number] = Some(replica);
        Ok(())
    }

    /// Takes a replica out of rotation.
    pub fn take_out(&self, number: usize) -> Result<()> {
        let replicas = self.replicas();
        let others = replicas.iter().enumerate();
        let others = others.filter(|(other, _)| *other != number);
        let others = others.filter_map(|(_, replica)| replica.as_ref());
        self.lab
            .relay()?
            .rotate(others.map(Replica::address).collect());
        Ok(())
    }

    /// Waits until a replica is ready, and puts it into rotation with those that run.
    pub fn wait_ready(&self, number: usize) -> Result<()> {
        let mut replicas = self.replicas();
        let replica = replicas[number].as_mut();
        replica.context("it does not run")?.wait_ready()?;
        let running = replicas.iter().flatten().map(Replica::address);
        self.lab.relay()?.rotate(running.collect());
        Ok(())
    }

    /// Changes the policy. When the API server had it.
    pub fn put(&self) -> Result<Instant> {
        let change = 1 + self.changes.fetch_add(1, Ordering::SeqCst);
        Ok(self.lab.put(&policy(change))?)
    }

    /// Changes the policy, and tells for each sidecar how long it took.
    pub fn change(&self) -> Result<Vec<Duration>> {
        let at = self.put()?;
        self.arrived(at)
    }

    /// Waits until everybody decides by the objects as they are, and tells how long that took since then: for
    /// each client, and for the last real sidecar.
    pub fn arrived(&self, since: Instant) -> Result<Vec<Duration>> {
        let expected = compiled(&self.lab.api_server()?.objects()?)?;
        thread::scope(|scope| {
            let real = scope.spawn(|| {
                self.lab.wait_applied()?;
                Ok::<_, anyhow::Error>(since.elapsed())
            });
            let mut lags = self.followers_arrived(since, &expected)?;
            let real = real.join();
            lags.push(real.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok(lags)
        })
    }

    fn followers_arrived(
        &self,
        since: Instant,
        expected: &BTreeMap<String, String>,
    ) -> Result<Vec<Duration>> {
        let followers = self.followers();
        let mut waiting: BTreeMap<usize, &str> = BTreeMap::new();
        for (client, pod) in self.followed.iter().enumerate() {
            let revision = expected
                .get(pod)
                .with_context(|| format!("{pod} has none"))?;
            waiting.insert(client, revision);
        }
        let mut lags = Vec::new();
        while !waiting.is_empty() {
            let arrival = followers.next(PATIENCE);
            let late = || {
                let clients = waiting.keys();
                let of = |client: &usize| (&self.followed[*client], followers.link(*client));
                format!(
                    "not told after {PATIENCE:?}: {:?}",
                    clients.map(of).collect::<Vec<_>>()
                )
            };
            let Arrival {
                client,
                revision,
                at,
            } = arrival.with_context(late)?;
            if waiting.get(&client) == Some(&revision.to_string().as_str()) {
                waiting.remove(&client);
                lags.push(at.saturating_duration_since(since));
            }
        }
        Ok(lags)
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no client has been given anything since the last change.
    pub fn is_silent(&self) -> bool {
        self.followers().next(Duration::ZERO).is_none()
    }

    /// How often each real sidecar has put a snapshot into force.
    pub fn applied(&self) -> Result<BTreeMap<String, u64>> {
        const COUNTER: &str = "wasmcustom.sidewall_snapshots_total.result.applied";
        let pods = self.lab.pods();
        let applied = pods.into_iter().map(|(pod, _)| {
            let stats = self.lab.stats(&pod, "sidewall_snapshots_total")?;
            Ok((pod, stats.sum(COUNTER)))
        });
        applied.collect()
    }

    /// Every replica has compiled the same bytes, which are what follows from the objects.
    pub fn replicas_agree(&self) -> Result<()> {
        let expected = compiled(&self.lab.api_server()?.objects()?)?;
        for (number, replica) in self.replicas().iter().enumerate() {
            let replica = replica.as_ref().context("it does not run")?;
            let status: Value = serde_json::from_str(&replica.get("/status")?)?;
            let pods = status["pods"].as_array().context("no pods")?;
            let wanted = pods.iter().filter_map(|pod| {
                let revision = pod["wanted"]["revision"].as_str()?;
                Some((pod["pod"].as_str()?.to_owned(), revision.to_owned()))
            });
            ensure!(
                wanted.collect::<BTreeMap<_, _>>() == expected,
                "replica {number} wants something else"
            );
        }
        Ok(())
    }
}

/// Runs a case on the one site of this file, alone.
pub fn shared(case: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    static SITE: Mutex<Option<Site>> = Mutex::new(None);
    let mut site = SITE.lock().unwrap_or_else(PoisonError::into_inner);
    let site = match &mut *site {
        Some(site) => site,
        none => none.insert(Site::start_all()?),
    };
    case(site)
}
