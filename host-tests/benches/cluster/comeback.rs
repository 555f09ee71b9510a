//! Every client comes back at once, to a distributor that has just started and remembers nothing.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sidewall_distributor::xds::{Credentials, Distributor};
use sidewall_host_tests::apiserver::{ApiServer, Token};
use sidewall_host_tests::bench::fleet::Fleet;
use sidewall_host_tests::followers::{Followers, in_plain_text};

use crate::pki::Authority;
use crate::served::Served;
use crate::{PATIENCE, client_pods};

/// How it went.
pub struct Comeback {
    /// From the start of the process until it had read the cluster.
    pub ready: Duration,
    /// From the start of the process until each client had acknowledged what changed meanwhile.
    pub lags: Vec<Duration>,
}

/// What the distributor and its clients prove to each other.
pub struct Credentialed {
    folder: tempfile::TempDir,
}

impl Credentialed {
    /// A certificate for the distributor, and for each client a token of its pod, which the API server has to
    /// be asked about.
    pub fn new(api: &ApiServer) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new();
        let pair = authority.server(&["127.0.0.1"]);
        fs::write(folder.path().join("ca.crt"), authority.pem())?;
        fs::write(folder.path().join("tls.crt"), pair.certificate)?;
        fs::write(folder.path().join("tls.key"), pair.key)?;
        let uids = uids(api)?;
        for (number, pod) in client_pods().enumerate() {
            let name = pod.id.name.to_string();
            let uid = uids.get(&pod.id.to_string()).context("the client's pod")?;
            let token = api.issue(Token {
                audiences: vec!["sidewall".to_owned()],
                namespace: pod.id.namespace.to_string(),
                service_account: "default".to_owned(),
                pod: Some((name, uid.clone())),
                node: None,
                expires: None,
            })?;
            fs::write(folder.path().join(format!("token-{number}")), token)?;
        }
        Ok(Self { folder })
    }

    fn flags(&self) -> Vec<String> {
        let flag =
            |flag: &str, file: &str| format!("{flag}={}", self.folder.path().join(file).display());
        vec![flag("--tls-cert", "tls.crt"), flag("--tls-key", "tls.key")]
    }

    fn distributor(&self, client: usize, address: SocketAddr) -> Result<Distributor> {
        let credentials = Credentials {
            ca: self.folder.path().join("ca.crt"),
            token: self.folder.path().join(format!("token-{client}")),
            server_name: None,
        };
        Ok(Distributor::new(
            format!("https://{address}").parse()?,
            Some(credentials),
        )?)
    }
}

/// Of all pods.
fn uids(api: &ApiServer) -> Result<HashMap<String, String>> {
    let pods = api.objects()?.into_iter().filter(|it| it["kind"] == "Pod");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let uid = |pod: Value| {
        let metadata = &pod["metadata"];
        let name = format!(
            "{}/{}",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        (name, text(&metadata["uid"]))
    };
    Ok(pods.map(uid).collect())
}

/// Kills the distributor, lets a policy in every namespace change meanwhile, and starts another one where the
/// clients look for it.
pub fn comeback(api: &ApiServer, fleet: Fleet, proof: Option<&Credentialed>) -> Result<Comeback> {
    let flags = proof.map(Credentialed::flags).unwrap_or_default();
    let mut served = Served::start(api, SocketAddr::from(([127, 0, 0, 1], 0)), &flags)?;
    served.wait_ready()?;
    let address = served.xds();
    let clients = client_pods().enumerate().map(|(number, pod)| {
        let distributor = match proof {
            Some(proof) => proof.distributor(number, address)?,
            None => in_plain_text(address),
        };
        Ok((distributor, crate::node_id(&pod)))
    });
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let count = clients.len();
    let followers = Followers::start(None, clients)?;
    arrivals(&followers, count)?;

    drop(served);
    for namespace in 0..fleet.namespaces {
        api.put(&policy(
            fleet,
            namespace,
            if proof.is_some() { 9001 } else { 9000 },
        ))?;
    }
    let started = Instant::now();
    let mut served = Served::start(api, address, &flags)?;
    served.wait_ready()?;
    let ready = started.elapsed();
    let arrivals = arrivals(&followers, count)?;
    let refused = served.metric("sidewall_xds_nacks_total")?;
    ensure!(refused == 0.0, "{refused} snapshots were refused");
    Ok(Comeback {
        ready,
        lags: arrivals.into_iter().map(|at| at - started).collect(),
    })
}

/// Waits for a snapshot at each client.
fn arrivals(followers: &Followers, count: usize) -> Result<Vec<Instant>> {
    let mut at = vec![None; count];
    while at.contains(&None) {
        let missing = at.iter().filter(|it| it.is_none()).count();
        let arrival = followers.next(PATIENCE);
        let arrival = arrival.with_context(|| format!("{missing} clients have nothing"))?;
        at[arrival.client].get_or_insert(arrival.at);
    }
    Ok(at.into_iter().flatten().collect())
}

/// Concerns every pod of a namespace.
fn policy(fleet: Fleet, namespace: usize, port: u16) -> Value {
    let namespace = fleet.pod(namespace, 0, 0).id.namespace;
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "namespace": &*namespace, "name": format!("port-{port}") },
        "spec": {
            "podSelector": {},
            "ingress": [{ "from": [{ "podSelector": {} }], "ports": [{ "port": port }] }],
        },
    })
}
