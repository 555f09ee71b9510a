//! `sidewall explain` names whom the data path names: of every case, whatever it says about who decides.
//!
//! The gates and the kernels are held to the same names by the other runners, so that what a user is told
//! offline, what a sidecar records and what a node records are one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sidewall_host_tests::cases::{self, Compiled, Enforcer, Error, Question, Restart, run};
use sidewall_host_tests::envoy::artifact::Artifact;
use sidewall_host_tests::probe::Protocol;

/// The command, asked about everything that a case says the decider of.
struct Explain {
    sidewall: PathBuf,
    asked: usize,
}

impl Enforcer for Explain {
    fn follow(&mut self, _: &Compiled) -> Result<(), Error> {
        Ok(())
    }

    fn restart(&mut self, _: &Restart, _: &Compiled) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn ask(&mut self, compiled: &Compiled, questions: &[Question]) -> Result<Vec<String>, Error> {
        // One family is enough for names; echo has no port to ask about; and whether a port of a node
        // leads to a Service depends on who asks.
        let asked = questions.iter().filter(|question| {
            question.source.is_ipv4()
                && question.protocol != Protocol::Icmp
                && question.node_port.is_none()
        });
        let mut unmet = Vec::new();
        for question in asked {
            if let Some(by) = &question.by {
                self.asked += 1;
                let found = self.names(compiled, question);
                if found != *by {
                    unmet.push(question.unmet(format!("explain names {found:?}, not {by:?}")));
                }
            }
        }
        Ok(unmet)
    }
}

impl Explain {
    /// The policies that deny, or the rules that allow, as the command tells them.
    fn names(&self, compiled: &Compiled, question: &Question) -> BTreeSet<String> {
        let (from, to) = (question.from.to_string(), question.to.to_string());
        let is_pod = !from.contains(':');
        let from = if is_pod {
            from
        } else {
            question.source.to_string()
        };
        let to = to.strip_prefix("address:").unwrap_or(&to).to_owned();
        let output = Command::new(&self.sidewall)
            .args(["explain", "--output", "json", "--manifests"])
            .arg(compiled.manifests())
            .args(["--from", &from, "--to", &to])
            .args(["--port", &question.dialled.port().to_string()])
            .args(["--protocol", &question.protocol.to_string()])
            .output()
            .expect("the command starts");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let connections = told["connections"].as_array().into_iter().flatten();
        let of_family = |each: &&Value| each["source"] == question.source.to_string();
        let connections: Vec<&Value> = connections.filter(of_family).collect();
        let allows = |each: &&Value| each["allowed"] == true;
        // Of several backends one that is denied is enough.
        let allowed = !connections.is_empty() && connections.iter().all(allows);
        if connections.is_empty() || allowed != question.expected {
            let said = String::from_utf8_lossy(&output.stderr);
            return BTreeSet::from([format!("({}) {told} {said}", output.status)]);
        }
        let sides = connections
            .iter()
            .flat_map(|each| [&each["egress"], &each["ingress"]]);
        let mut names = BTreeSet::new();
        for side in sides {
            let policies = side["policies"].as_array().into_iter().flatten();
            if question.expected {
                names.extend(side["rule"].as_str().map(str::to_owned));
            } else if side["verdict"] == "deny" {
                names.extend(policies.filter_map(|name| name.as_str().map(str::to_owned)));
            }
        }
        names
    }
}

#[test]
fn explain_names_whom_the_data_path_names() {
    let mut explain = Explain {
        sidewall: Artifact::Sidewall.find().expect("the command is built"),
        asked: 0,
    };
    let mut unmet = Vec::new();
    for case in cases::read(&cases::extra()).expect("the cases can be read") {
        let found = run(&case, &mut explain).unwrap_or_else(|error| panic!("{case}: {error}"));
        unmet.extend(found.iter().map(|unmet| format!("{case}: {unmet}")));
    }
    assert!(unmet.is_empty(), "{}", unmet.join("\n"));
    assert!(explain.asked > 100, "too little: {}", explain.asked);
}
