//! Policies that an API server would refuse.

use anyhow::{Context as _, Result};
use sidewall_host_tests::lab::Lab;

use super::{no_problems, takes, told};
use crate::cluster::policy;
use crate::connections::expect;

/// A flaw in `x/bad`, which means to select `x/c`, and what is left of the policy.
struct Flaw {
    spec: &'static str,
    field: &'static str,
    reason: &'static str,
    allow: &'static [&'static str],
    deny: &'static [&'static str],
}

const ISOLATED: &[&str] = &["x/a x/b -> x/c:8080"];

const FLAWS: [Flaw; 14] = [
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{from: [{}, {podSelector: {matchLabels: {app: b}}}]}]",
        field: "spec.ingress[0].from[0]",
        reason: "must specify a peer",
        allow: &["x/b -> x/c:8080"],
        deny: &["x/a -> x/c:8080"],
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 0.0.0.0/0}}]}]",
        field: "spec.ingress[0].from[0]",
        reason: "may not specify both ipBlock and another peer",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{from: [{ipBlock: {cidr: 10.244.2.12}}]}]",
        field: "spec.ingress[0].from[0].ipBlock.cidr",
        reason: "must be a valid CIDR",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [10.0.0.0/24]}}]}]",
        field: "spec.ingress[0].from[0].ipBlock.except[0]",
        reason: "must be a strict subset of cidr",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{ports: [{port: 70000}, {port: 81}]}]",
        field: "spec.ingress[0].ports[0].port",
        reason: "must be between 1 and 65535",
        allow: &["x/a x/b -> x/c:81"],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{ports: [{protocol: ICMP}]}]",
        field: "spec.ingress[0].ports[0].protocol",
        reason: "ICMP",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{ports: [{endPort: 9000}]}]",
        field: "spec.ingress[0].ports[0].endPort",
        reason: "may not be specified when port is not specified",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{ports: [{port: 8080, endPort: 80}]}]",
        field: "spec.ingress[0].ports[0].endPort",
        reason: "must be greater than or equal to port",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: Like, values: [b]}]}}]}]",
        field: "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator",
        reason: "not a valid selector operator",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: In}]}}]}]",
        field: "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values",
        reason: "must be specified when operator is In or NotIn",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        // Without the misspelt field the rule would let everybody in.
        spec: "podSelector: {matchLabels: {app: c}}, ingress: [{form: [{podSelector: {matchLabels: {app: b}}}]}]",
        field: "spec.ingress[0].form",
        reason: "unknown field",
        allow: &[],
        deny: ISOLATED,
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, policyTypes: [Egress], egress: [{to: [{}]}]",
        field: "spec.egress[0].to[0]",
        reason: "must specify a peer",
        allow: &["x/a x/b -> x/c:8080"],
        deny: &["x/c -> x/b:80"],
    },
    Flaw {
        spec: "podSelector: {matchLabels: {app: c}}, policyTypes: [Ingres]",
        field: "spec.policyTypes[0]",
        reason: "Ingres",
        allow: &[],
        deny: &["x/a x/b -> x/c:8080", "x/c -> x/b:80"],
    },
    Flaw {
        // Whom it was to select, nobody can tell: it isolates all of its namespace.
        spec: "podSelector: {matchLabels: {app: 'not a value'}}, policyTypes: [Ingress]",
        field: "spec.podSelector.matchLabels[app]",
        reason: "not a value",
        allow: &[],
        deny: &["x/a x/b -> x/c:8080", "x/a x/c -> x/b:80"],
    },
];

/// Each flaw by itself, with everybody else's policies in force all the while.
pub fn policies(lab: &Lab) -> Result<()> {
    for Flaw {
        spec,
        field,
        reason,
        allow,
        deny,
    } in FLAWS
    {
        lab.apply("bad.yaml", &policy("x/bad", spec))?;
        told(lab, "NetworkPolicy x/bad", field, reason).context(spec)?;
        expect(lab, allow, deny, spec)?;
        takes(lab, "b", spec)?;
    }
    let mended = "podSelector: {matchLabels: {app: c}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]";
    lab.apply("bad.yaml", &policy("x/bad", mended))?;
    no_problems(lab)?;
    expect(lab, &["x/b -> x/c:8080"], &["x/a -> x/c:8080"], "mended")?;
    lab.unapply("bad.yaml")?;
    expect(lab, &["x/a -> x/c:8080"], &[], "gone")
}
