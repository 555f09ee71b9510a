//! Those who should lose nothing.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::envoy::{Artifact, template};
use sidewall_host_tests::http;

use crate::pki::Authority;
use crate::site::{PATIENCE, Site, XDS, XDS_NAME, mount};

const HOUR: Duration = Duration::from_secs(3600);

fn web(status: &Value) -> &Value {
    let pods = status["pods"].as_array().map_or(&[][..], Vec::as_slice);
    let web = pods.iter().find(|pod| pod["pod"] == "shop/web");
    web.unwrap_or(&Value::Null)
}

/// How many streams there have been.
fn connected(site: &Site) -> Result<usize> {
    Ok(site.logged("client connected")?.len())
}

/// Whether `shop/web` runs what it should.
fn applied(site: &Site) -> Result<bool> {
    Ok(web(&site.status()?)["state"] == "applied")
}

/// The status of a pod's readiness gate; null while nobody has set it.
fn gate(site: &Site, pod: &str) -> Result<Value> {
    let pod = site.pod(pod)?.unwrap_or_default();
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let ours = conditions.find(|it| it["type"] == "sidewall.dev/policy-applied");
    Ok(ours.map_or(Value::Null, |condition| condition["status"].clone()))
}

/// Isolates the pods of `shop`, under this name.
fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"] },
    })
}

pub fn a_sidecar_outlives_its_token_and_the_certificates() -> Result<()> {
    let mut site = Site::start("renewal")?;
    let account = ("shop", "web");
    let first = site.issue(account, "web", SystemTime::now() + Duration::from_secs(30))?;
    let credentials = site.credentials("web", &first)?;
    let secrets = credentials.join("secrets");
    let node_id = "sidecar~10.0.0.1~web.shop~cluster.local";
    let mut envoy = site.envoy(template::SIDECAR, node_id, &credentials)?;
    envoy.wait_ready(PATIENCE)?;
    site.until("applied", || applied(&site))?;
    // The token says that this is the very pod whose gate it is.
    site.until("ready", || Ok(gate(&site, "web")? == "True"))?;
    ensure!(gate(&site, "db")? == Value::Null, "nobody spoke for db");

    // The kubelet renews the token in good time. The stream that it opened ends with the first one;
    // the next stream shows the second, and brings along what is in force.
    let second = site.issue(account, "web", SystemTime::now() + HOUR)?;
    mount(&secrets, "token", &second)?;
    site.until("at the end of its token", || {
        Ok(site.logged("the stream ends with its token")?.len() == 1)
    })?;
    site.until("on its next stream", || Ok(connected(&site)? >= 2))?;
    let proofs = site.logged("client connected")?;
    ensure!(
        proofs.iter().all(|line| line["proof"] == "token"),
        "{proofs:?}"
    );
    site.until("applied", || applied(&site))?;
    ensure!(
        site.counter("sidewall_xds_pushes_total")? == 1,
        "sent again"
    );
    envoy.wait_ready(PATIENCE)?;

    // Another CA signs from now on. The open stream goes on ...
    let ca = Authority::new();
    mount(&secrets, "ca.crt", ca.pem())?;
    site.certify(&ca)?;
    let streams = connected(&site)?;
    let was = web(&site.status()?)["wanted"]["revision"].clone();
    site.api.put(&policy("isolated"))?;
    site.until("applied anew", || {
        let status = site.status()?;
        Ok(web(&status)["wanted"]["revision"] != was && web(&status)["state"] == "applied")
    })?;
    ensure!(connected(&site)? == streams, "on the same stream");

    // ... and so does a sidecar whose distributor comes back under the new one.
    site.start_distributor()?;
    site.until("back", || Ok(connected(&site)? > streams))?;
    site.until("applied", || applied(&site))?;
    ensure!(
        site.counter("sidewall_xds_pushes_total")? == 0,
        "nothing was missing"
    );
    for reason in ["token-expired", "no-credentials", "certificate"] {
        ensure!(site.refusals(reason)? == 0, "{reason}");
    }
    Ok(())
}

pub fn agent_and_envoy_of_a_node_get_its_bundle() -> Result<()> {
    let site = Site::start("nodes")?;
    let account = ("sidewall-system", "node");
    let token = site.issue(account, "agent", SystemTime::now() + HOUR)?;
    let credentials = site.credentials("node", &token)?;
    let secrets = credentials.join("secrets");
    let mut envoy = site.envoy(template::NODE, "node~one", &credentials)?;
    let log = fs::File::create(site.folder.join("agent.log"))?;
    let mut agent = site
        .netns
        .command(Artifact::Sidewall.find()?)
        .args(["node", "--node-name=one", "--pod-cidr=10.0.0.0/24"])
        .args([
            "--cluster-cidr=10.0.0.0/16",
            "--admin-listen=127.0.0.1:18081",
        ])
        .arg(format!("--distributor=https://{XDS}"))
        .arg(format!("--xds-server-name={XDS_NAME}"))
        .arg("--xds-ca")
        .arg(secrets.join("ca.crt"))
        .arg("--xds-token")
        .arg(secrets.join("token"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    let enforced = site.until("enforced by the agent", || {
        let address = ([127, 0, 0, 1], 18081).into();
        let answer = site
            .netns
            .run(|| http::get(address, "/readyz", Duration::from_secs(5)))?;
        Ok(answer.is_ok_and(|text| text.contains("enforcing")))
    });
    // It may have ended already, and then its log says why.
    let _ended = agent.kill();
    let _reaped = agent.wait();
    enforced.map_err(|error| {
        let log = fs::read_to_string(site.folder.join("agent.log")).unwrap_or_default();
        anyhow::anyhow!("{error}\nthe agent's log:\n{log}")
    })?;
    envoy.wait_ready(PATIENCE)?;
    let connected = site.logged("client connected")?;
    ensure!(connected.len() == 2, "{connected:?}");
    for line in &connected {
        ensure!(
            line["recipient"] == "node one" && line["proof"] == "token",
            "{line}"
        );
    }
    Ok(())
}
