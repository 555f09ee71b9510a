//! `sidewall serve --kube` follows what `kubectl` does.

#[path = "kube_support/compiled.rs"]
mod compiled;
#[path = "kube_support/objects.rs"]
mod objects;
#[path = "kube_support/site.rs"]
mod site;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::apiserver::{ApiServer, Kubectl};
use sidewall_host_tests::harness::{self, Case, NotApplicable};

use objects::{pod, policy, shop};
use site::Site;

fn main() -> ExitCode {
    harness::main_with_kubectl(&CASES)
}

const CASES: [Case; 6] = [
    (
        "kubectl_changes_are_published",
        kubectl_changes_are_published,
    ),
    (
        "nothing_is_published_before_every_kind_is_listed",
        nothing_before_every_kind,
    ),
    ("pods_that_do_not_count", pods_that_do_not_count),
    (
        "policies_of_an_older_server_fail_closed_by_piece",
        old_policies,
    ),
    (
        "fields_of_a_newer_server_close_where_they_may_narrow",
        future_fields,
    ),
    ("one_source_is_needed_and_no_more", one_source),
];

/// Apply, label and delete, each followed by what it calls for and by nothing else.
fn kubectl_changes_are_published() -> Result<()> {
    let mut site = Site::start(&shop())?;
    let kubectl = kubectl(&site)?;
    let mut changed = |what: &[&str], arguments: &[&str], input: &str| -> Result<()> {
        let before = site.published()?.len();
        kubectl.run_with(arguments, input)?;
        site.caught_up()?;
        let mut pods: Vec<String> = site.published()?[before..]
            .iter()
            .map(|(pod, _)| pod.clone())
            .collect();
        pods.sort();
        ensure!(pods == what, "published for {pods:?}, not for {what:?}");
        Ok(())
    };
    let cache = policy("cache", "cache", "web", 6379).to_string();
    changed(&["shop/cache"], &["apply", "-f", "-"], &cache)?;
    let relabel = [
        "label",
        "pod",
        "web",
        "-n",
        "shop",
        "app=front",
        "--overwrite",
    ];
    changed(&["shop/cache", "shop/db"], &relabel, "")?;
    // Nothing depends on this label.
    changed(&[], &["label", "pod", "db", "-n", "shop", "note=x"], "")?;
    let delete = ["delete", "networkpolicy", "cache", "-n", "shop"];
    changed(&["shop/cache"], &delete, "")?;
    let audit = [
        "annotate",
        "networkpolicy",
        "db",
        "-n",
        "shop",
        "sidewall.dev/mode=audit",
    ];
    changed(&["shop/db"], &audit, "")?;
    let gateway = [
        "annotate",
        "node",
        "one",
        "sidewall.dev/node-addresses=10.0.0.254",
    ];
    changed(&["shop/cache", "shop/db", "shop/web"], &gateway, "")
}

fn kubectl(site: &Site) -> Result<Kubectl> {
    Ok(Kubectl::new(&site.server.kubeconfig(), None)?)
}

fn nothing_before_every_kind() -> Result<()> {
    let server = ApiServer::start()?;
    server.forbid("endpointslices");
    let mut site = Site::start_with(server, &shop())?;
    site.until("reported", |status| {
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().any(|problem| {
            let reason = problem["reason"].as_str().unwrap_or_default();
            problem["object"] == "API server, EndpointSlice" && reason.contains("ClusterRole")
        })
    })?;
    let status = site.status()?;
    ensure!(
        status["synced"] == false && status["pods"] == json!([]),
        "{status:#}"
    );
    ensure!(!site.is_ready() && site.published()?.is_empty());
    site.server.recover();
    site.caught_up()?;
    site.until("without problems", |status| status["problems"] == json!([]))
}

/// Host network, ended pods, pods without an address; terminating ones go on counting.
fn pods_that_do_not_count() -> Result<()> {
    let mut site = Site::start(&shop())?;
    let kubectl = kubectl(&site)?;
    let mut host = pod("host", "web", 1);
    host["spec"]["hostNetwork"] = json!(true);
    host["status"]["podIPs"] = json!([{ "ip": "192.168.50.1" }]);
    host["status"]["podIP"] = json!("192.168.50.1");
    site.server.put(&host)?;
    kubectl.apply(
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "new", "namespace": "shop", "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": "i" }] },
        })
        .to_string(),
    )?;
    site.caught_up()?;
    let pods: Vec<String> = site.revisions()?.into_keys().collect();
    ensure!(pods == ["shop/cache", "shop/db", "shop/web"], "{pods:?}");

    let db = site.revisions()?["shop/db"].clone();
    kubectl.run(&["delete", "pod", "web", "-n", "shop", "--wait=false"])?;
    site.caught_up()?;
    ensure!(
        site.revisions()?["shop/db"] == db,
        "a terminating pod still runs"
    );
    let mut web = pod("web", "web", 1);
    web["status"]["phase"] = json!("Succeeded");
    site.server.put(&web)?;
    site.caught_up()?;
    ensure!(
        site.revisions()?["shop/db"] != db,
        "a pod that has ended is no peer"
    );
    Ok(())
}

/// The policy of `cache` with one peer.
fn cache_for(peer: &Value) -> Value {
    let mut policy = policy("cache", "cache", "web", 80);
    policy["spec"]["ingress"][0]["from"] = json!([peer]);
    policy
}

/// Whether there is a problem with a field of it.
fn has_problem(status: &Value, field: &str) -> bool {
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    problems.iter().any(|problem| {
        let found = problem["field"].as_str().unwrap_or_default();
        problem["object"] == "NetworkPolicy shop/cache" && found.starts_with(field)
    })
}

/// An address with leading zeros.
fn old_policies() -> Result<()> {
    let mut site = Site::start(&shop())?;
    let block = json!({ "ipBlock": { "cidr": "010.0.0.1/24" } });
    site.server.put_unchecked(&cache_for(&block))?;
    let field = "spec.ingress[0].from[0].ipBlock.cidr";
    site.until("reported", |status| has_problem(status, field))?;
    site.caught_up()?;
    site.server.put(&policy("cache", "cache", "web", 81))?;
    site.until("without problems", |status| status["problems"] == json!([]))
}

fn future_fields() -> Result<()> {
    let mut site = Site::start(&shop())?;
    if site.server.is_real() {
        let reason = "this API server drops the fields of a newer one";
        return Err(NotApplicable(reason.to_owned()).into());
    }
    let open = json!({ "podSelector": {}, "serviceAccountSelector": {} });
    site.server.put_unchecked(&cache_for(&open))?;
    let field = "spec.ingress[0].from[0].serviceAccountSelector";
    site.until("reported", |status| has_problem(status, field))?;
    // Closed as a whole: the same as a peer that selects nobody.
    site.caught_up()?;

    // Elsewhere a field of the future says nothing about who may talk.
    let mut web = pod("web", "web", 1);
    web["spec"]["futureField"] = json!({ "x": 1 });
    web["status"]["futureField"] = json!(1);
    site.server.put_unchecked(&web)?;
    site.server.put(&policy("cache", "cache", "web", 81))?;
    site.until("without problems", |status| status["problems"] == json!([]))?;
    let pods: Vec<String> = site.revisions()?.into_keys().collect();
    ensure!(pods == ["shop/cache", "shop/db", "shop/web"], "{pods:?}");
    Ok(())
}

fn one_source() -> Result<()> {
    let binary = sidewall_host_tests::envoy::Artifact::Sidewall.find()?;
    for (arguments, why) in [
        (&["serve"][..], "--manifests <DIR>|--kube"),
        (
            &["serve", "--kube", "--manifests", "."],
            "cannot be used with",
        ),
        (
            &[
                "serve",
                "--kube",
                "--xds-listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
            ],
            "set KUBECONFIG",
        ),
    ] {
        let output = std::process::Command::new(&binary)
            .args(arguments)
            .env("KUBECONFIG", "/nonexistent")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .env("HOME", "/nonexistent")
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && said.contains(why),
            "{arguments:?}: {said}"
        );
    }
    Ok(())
}
