//! Rows of `semantics 1A` to `1E` and `1K`; test names begin with the rows they hold to.

mod peers;
mod ports;
mod selectors;
mod structure;
mod validation;

use super::{Admitted, Severity, admit};
use crate::model;
use crate::spec::{
    IntOrString, IpBlock, LabelSelector, LabelSelectorRequirement, NetworkPolicy, Peer, Port, Rule,
};

/// A policy with a name and nothing else: `spec: {}`.
fn policy() -> NetworkPolicy {
    NetworkPolicy {
        name: "p".to_owned(),
        ..NetworkPolicy::default()
    }
}

/// A policy of one ingress rule with these peers.
fn from(peers: Vec<Peer>) -> NetworkPolicy {
    let rule = Rule {
        peers: Some(peers),
        ports: None,
    };
    NetworkPolicy {
        ingress: Some(vec![rule]),
        ..policy()
    }
}

/// A policy of one ingress rule with these ports.
fn on(ports: Vec<Port>) -> NetworkPolicy {
    let rule = Rule {
        peers: None,
        ports: Some(ports),
    };
    NetworkPolicy {
        ingress: Some(vec![rule]),
        ..policy()
    }
}

/// The same rules for the other direction.
fn as_egress(policy: NetworkPolicy) -> NetworkPolicy {
    NetworkPolicy {
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: policy.ingress,
        ingress: None,
        ..policy
    }
}

fn labels(pairs: &[(&str, &str)]) -> LabelSelector {
    LabelSelector {
        match_labels: pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        match_expressions: Vec::new(),
    }
}

fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
    LabelSelector {
        match_labels: Vec::new(),
        match_expressions: vec![LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        }],
    }
}

fn pods(selector: LabelSelector) -> Peer {
    Peer {
        pod_selector: Some(selector),
        ..Peer::default()
    }
}

fn namespaces(selector: LabelSelector) -> Peer {
    Peer {
        namespace_selector: Some(selector),
        ..Peer::default()
    }
}

fn block(cidr: &str, except: &[&str]) -> Peer {
    let except = except.iter().map(|e| (*e).to_owned()).collect();
    Peer {
        ip_block: Some(IpBlock {
            cidr: cidr.to_owned(),
            except: Some(except),
        }),
        ..Peer::default()
    }
}

fn port(protocol: Option<&str>, port: Option<IntOrString>, end_port: Option<i32>) -> Port {
    Port {
        protocol: protocol.map(str::to_owned),
        port,
        end_port,
    }
}

const fn number(port: i32) -> Option<IntOrString> {
    Some(IntOrString::Int(port))
}

fn name(port: &str) -> Option<IntOrString> {
    Some(IntOrString::String(port.to_owned()))
}

/// Admits a policy that must be flawless.
fn flawless(raw: &NetworkPolicy) -> model::NetworkPolicy {
    let Admitted { policy, violations } = admit(raw);
    assert_eq!(violations, [], "{raw:?}");
    policy
}

/// The fields of all violations, which must all be of this severity.
fn fields(admitted: &Admitted, severity: Severity) -> Vec<&str> {
    for violation in &admitted.violations {
        assert_eq!(violation.severity, severity, "{violation}");
    }
    admitted
        .violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect()
}

/// The only ingress rule.
fn ingress_rule(policy: &model::NetworkPolicy) -> &model::Rule {
    match policy.ingress.as_deref() {
        Some([rule]) => rule,
        other => panic!("expected one ingress rule, found {other:?}"),
    }
}
