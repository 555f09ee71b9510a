//! `sidewall explain`, `matrix`, `diff` and `lint` as a user runs them, on the manifests beside
//! this file. Whole answers are held against the `.txt` files there.
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a run of the command came to.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect")
}

/// Runs `sidewall` where the manifests are.
fn sidewall(arguments: &str) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_sidewall"))
        .args(arguments.split_whitespace())
        .current_dir(folder())
        .output()
        .unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn reads(arguments: &str, file: &str, code: i32) {
    let run = sidewall(arguments);
    let expected = std::fs::read_to_string(folder().join(file)).unwrap();
    assert_eq!(run.out, expected, "sidewall {arguments} against {file}");
    assert_eq!(run.code, code, "{}", run.err);
}

#[test]
fn an_allowed_connection_is_explained_by_its_rule() {
    reads(
        "explain --manifests shop --from shop/web --to shop/db --port sql",
        "explain-allowed.txt",
        0,
    );
}

#[test]
fn a_denied_connection_is_explained_by_the_nearest_rule() {
    reads(
        "explain --manifests shop --from shop/batch --to shop/db --port 5432",
        "explain-denied.txt",
        1,
    );
}

#[test]
fn an_explanation_can_be_verified_by_the_reference_evaluator() {
    let asked = "explain --manifests shop --from shop/batch --to shop/db --port 5432";
    let plain = sidewall(asked);
    let verified = sidewall(&format!("{asked} --verify"));
    assert_eq!(verified.code, 1, "{}", verified.err);
    let told = verified.out.strip_prefix(&plain.out).unwrap();
    assert_eq!(told.trim(), "the reference evaluator says the same");
    let json = sidewall(&format!("{asked} --verify --output json")).json();
    assert_eq!(json["verified"], true);
    let json = sidewall(&format!("{asked} --output json")).json();
    assert_eq!(json["verified"], Value::Null, "nobody verified that");
}

#[test]
fn a_service_is_explained_by_its_backends() {
    let run = sidewall(
        "explain --manifests shop --from shop/db --to kube-system/kube-dns --port 53 --protocol UDP --output json",
    );
    assert_eq!(run.code, 1, "{}", run.err);
    let answer = run.json();
    assert_eq!(answer["to"], "service:kube-system/kube-dns");
    assert_eq!(answer["allowed"], false);
    let connection = &answer["connections"][0];
    assert_eq!(connection["destination"], "10.244.1.53");
    assert_eq!(connection["port"], 1053);
    assert_eq!(connection["pod"], "kube-system/dns");
    assert_eq!(connection["egress"]["verdict"], "deny");
    assert_eq!(connection["egress"]["policies"][0], "shop/db");
    assert_eq!(connection["ingress"]["verdict"], "allow");
}

#[test]
fn an_address_outside_is_judged_by_the_side_of_the_pod() {
    let run = sidewall(
        "explain --manifests shop --from 203.0.113.9 --to shop/db --port 5432 --output json",
    );
    assert_eq!(run.code, 1, "{}", run.err);
    let connection = &run.json()["connections"][0];
    assert_eq!(connection["egress"], Value::Null);
    assert_eq!(connection["ingress"]["nearest"]["missed"], "from");
}

#[test]
fn what_cannot_be_answered_says_why_and_ends_with_2() {
    for (arguments, reason) in [
        (
            "explain --manifests shop --from shop/nobody --to shop/db --port 1",
            "there is no pod or Service shop/nobody in the manifests",
        ),
        (
            "explain --manifests shop --from service:shop/db --to shop/web --port 1",
            "Service shop/db opens no connections",
        ),
        (
            "explain --manifests shop --from 203.0.113.9 --to 203.0.113.10 --port 1",
            "NetworkPolicy has no say",
        ),
        (
            "explain --manifests shop --from shop/web --to shop/db --port http",
            "shop/db has no TCP port named \"http\"",
        ),
        (
            "matrix --manifests nowhere",
            "cannot read the manifests in nowhere",
        ),
        (
            "matrix --manifests shop --port 1 --port 2 --protocol UDP",
            "1 times --protocol and 2 times --port",
        ),
        (
            "diff --manifests shop",
            "--manifests is given 1 times: give it twice",
        ),
    ] {
        let run = sidewall(arguments);
        assert_eq!(run.code, 2, "sidewall {arguments}: {}", run.out);
        assert_eq!(run.out, "", "sidewall {arguments}");
        assert!(
            run.err.contains(reason),
            "sidewall {arguments}: {}",
            run.err
        );
        assert_eq!(run.err.matches(reason).count(), 1, "said once: {}", run.err);
    }
}

#[test]
fn the_matrix_bundles_pods_that_are_alike() {
    reads("matrix --manifests shop", "matrix.txt", 0);
}

#[test]
fn the_matrix_lists_every_pair_in_json() {
    let run = sidewall("matrix --manifests shop --port 5432 --external 203.0.113.9 --output json");
    assert_eq!(run.code, 0, "{}", run.err);
    let matrix = run.json();
    let entries = matrix.as_array().unwrap();
    // Four pods and a stranger, who is not paired with itself.
    assert_eq!(entries.len(), 24);
    let to_db: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["to"] == "shop/db" && entry["allowed"] == true)
        .collect();
    let from: Vec<&str> = to_db
        .iter()
        .map(|entry| entry["from"].as_str().unwrap())
        .collect();
    assert_eq!(from, ["shop/db", "shop/web"]);
    let by_rule = to_db
        .iter()
        .find(|entry| entry["from"] == "shop/web")
        .unwrap();
    assert_eq!(by_rule["protocol"], "TCP");
    assert_eq!(by_rule["port"], 5432);
    assert_eq!(by_rule["ingress"]["rule"], "shop/db ingress[0]");
}

#[test]
fn a_diff_of_equal_folders_is_empty() {
    let run = sidewall("diff --manifests shop --manifests shop");
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, "No connection changes.\n")
    );
}

#[test]
fn a_diff_tells_what_opens_and_what_closes() {
    reads("diff --manifests shop --manifests open", "diff.txt", 1);
    let run = sidewall("diff --manifests open --manifests shop --port 5432 --output json");
    let changes = run.json()["changes"].as_array().unwrap().clone();
    assert!(!changes.is_empty());
    for change in changes {
        let opens = change["change"] == "opens";
        assert_eq!(change["before"]["allowed"], !opens, "{change}");
        assert_eq!(change["after"]["allowed"], opens, "{change}");
    }
}

#[test]
fn good_policies_have_no_warnings() {
    reads("lint --manifests shop", "lint-shop.txt", 0);
}

#[test]
fn every_trap_is_found() {
    reads("lint --manifests traps", "lint-traps.txt", 1);
}

#[test]
fn findings_in_json_say_where_and_what_to_do() {
    let run = sidewall("lint --manifests traps --output json");
    assert_eq!(run.code, 1, "{}", run.err);
    let findings = run.json();
    let find = |check: &str| {
        let mut all = findings.as_array().unwrap().iter();
        all.find(|finding| finding["check"] == check)
            .unwrap_or_else(|| panic!("nothing was found by {check}"))
            .clone()
    };
    let empty_port = find("empty-port");
    assert_eq!(empty_port["object"], "NetworkPolicy shop/e-empty-port");
    assert_eq!(empty_port["level"], "warning");
    assert_eq!(empty_port["field"], "spec.ingress[0].ports[0]");
    for check in [
        "empty-spec",
        "empty-egress",
        "ignored-ingress",
        "ignored-egress",
        "selects-nothing",
        "peer-matches-nothing",
        "host-network",
        "unresolved-port",
        "block-over-pods",
        "block-over-services",
        "dns-blocked",
        "shadowed-rule",
        "duplicate-policy",
    ] {
        let finding = find(check);
        for field in ["finding", "consequence", "remedy"] {
            assert_ne!(finding[field], "", "{check} has no {field}");
        }
    }
    assert_eq!(find("not-understood")["level"], "error");
}
