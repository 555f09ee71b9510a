//! `semantics 1K` from end to end: each row arrives as a problem with object, field and reason,
//! while the objects around it are read as if nothing had been.

use super::{load, names, problems, with_spec};

/// A spec in YAML, the field it is refused for, and a phrase of the reason.
const REFUSED: [(&str, &str, &str); 32] = [
    (
        "podSelector: {matchLabels: {a/b/c: d}}",
        "spec.podSelector.matchLabels",
        "a/b/c",
    ),
    (
        "podSelector: {matchLabels: {a: -b}}",
        "spec.podSelector.matchLabels[a]",
        "-b",
    ),
    (
        "podSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1']}]}",
        "spec.podSelector.matchExpressions[0].operator",
        "not a valid selector operator",
    ),
    (
        "podSelector: {matchExpressions: [{key: a, operator: In}]}",
        "spec.podSelector.matchExpressions[0].values",
        "must be specified when operator is In or NotIn",
    ),
    (
        "podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
        "spec.podSelector.matchExpressions[0].values",
        "may not be specified when operator is Exists or DoesNotExist",
    ),
    (
        "policyTypes: [Ingress, Egress, Ingress]",
        "spec.policyTypes",
        "more than two policyTypes",
    ),
    ("policyTypes: [ingress]", "spec.policyTypes[0]", "Ingress"),
    (
        "ingress: [{ports: [{protocol: ICMP}]}]",
        "spec.ingress[0].ports[0].protocol",
        "ICMP",
    ),
    (
        "egress: [{ports: [{protocol: tcp}]}]",
        "spec.egress[0].ports[0].protocol",
        "tcp",
    ),
    (
        "ingress: [{ports: [{port: 0}]}]",
        "spec.ingress[0].ports[0].port",
        "between 1 and 65535",
    ),
    (
        "egress: [{ports: [{port: 65536}]}]",
        "spec.egress[0].ports[0].port",
        "between 1 and 65535",
    ),
    (
        "ingress: [{ports: [{port: -80}]}]",
        "spec.ingress[0].ports[0].port",
        "between 1 and 65535",
    ),
    (
        "ingress: [{ports: [{port: this-is-too-long}]}]",
        "spec.ingress[0].ports[0].port",
        "15",
    ),
    (
        "ingress: [{ports: [{port: UPPER}]}]",
        "spec.ingress[0].ports[0].port",
        "UPPER",
    ),
    (
        "ingress: [{ports: [{port: a--b}]}]",
        "spec.ingress[0].ports[0].port",
        "a--b",
    ),
    (
        "ingress: [{ports: [{port: -a}]}]",
        "spec.ingress[0].ports[0].port",
        "-a",
    ),
    (
        "ingress: [{ports: [{port: '123'}]}]",
        "spec.ingress[0].ports[0].port",
        "letter",
    ),
    (
        "ingress: [{ports: [{endPort: 90}]}]",
        "spec.ingress[0].ports[0].endPort",
        "may not be specified when port is not specified",
    ),
    (
        "ingress: [{ports: [{port: http, endPort: 90}]}]",
        "spec.ingress[0].ports[0].endPort",
        "may not be specified when port is non-numeric",
    ),
    (
        "ingress: [{ports: [{port: 90, endPort: 80}]}]",
        "spec.ingress[0].ports[0].endPort",
        "greater than or equal to port",
    ),
    (
        "ingress: [{ports: [{port: 90, endPort: 70000}]}]",
        "spec.ingress[0].ports[0].endPort",
        "between 1 and 65535",
    ),
    (
        "ingress: [{from: [{}]}]",
        "spec.ingress[0].from[0]",
        "must specify a peer",
    ),
    (
        "egress: [{to: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]",
        "spec.egress[0].to[0]",
        "may not specify both ipBlock and another peer",
    ),
    (
        "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: a, operator: Is}]}}]}]",
        "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].operator",
        "not a valid selector operator",
    ),
    (
        "ingress: [{from: [{ipBlock: {}}]}]",
        "spec.ingress[0].from[0].ipBlock.cidr",
        "Required value",
    ),
    (
        "ingress: [{from: [{ipBlock: {cidr: 192.168.5.6}}]}]",
        "spec.ingress[0].from[0].ipBlock.cidr",
        "valid CIDR",
    ),
    (
        "ingress: [{from: [{ipBlock: {cidr: 'fd00:192:168::'}}]}]",
        "spec.ingress[0].from[0].ipBlock.cidr",
        "valid CIDR",
    ),
    (
        "egress: [{to: [{ipBlock: {cidr: 192.168.0.0/16, except: ['']}}]}]",
        "spec.egress[0].to[0].ipBlock.except[0]",
        "CIDR",
    ),
    (
        "egress: [{to: [{ipBlock: {cidr: 192.168.8.0/24, except: [192.168.9.1/32]}}]}]",
        "spec.egress[0].to[0].ipBlock.except[0]",
        "strict subset",
    ),
    (
        "egress: [{to: [{ipBlock: {cidr: 192.168.0.0/16, except: [192.168.0.0/16]}}]}]",
        "spec.egress[0].to[0].ipBlock.except[0]",
        "strict subset",
    ),
    (
        "egress: [{to: [{ipBlock: {cidr: 'fd00::/48', except: ['fd01::/64']}}]}]",
        "spec.egress[0].to[0].ipBlock.except[0]",
        "strict subset",
    ),
    (
        "egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: ['fd00::/8']}}]}]",
        "spec.egress[0].to[0].ipBlock.except[0]",
        "strict subset",
    ),
];

#[test]
fn each_refused_field_is_a_problem_and_everything_else_goes_on() {
    for (spec, field, reason) in REFUSED {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: before}}}}\n---\n{}---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: after}}}}\n",
            with_spec(spec),
        );
        let loaded = load(&text);
        let expected = [
            "Pod default/before",
            "NetworkPolicy default/p",
            "Pod default/after",
        ];
        assert_eq!(names(&loaded), expected, "{spec}");
        let [problem] = loaded.problems.as_slice() else {
            panic!("{spec}: not one problem: {:?}", problems(&loaded));
        };
        assert_eq!(problem.object, "NetworkPolicy default/p", "{spec}");
        assert_eq!(problem.field, field, "{spec}");
        assert!(problem.reason.contains(reason), "{spec}: {problem}");
        assert!(!problem.consequence.is_empty(), "{spec}");
    }
}

#[test]
fn a_name_that_no_object_can_have() {
    let loaded = load(&with_spec("policyTypes: [Ingress]").replace("{name: p}", "{name: P_1}"));
    let [problem] = loaded.problems.as_slice() else {
        panic!("not one problem: {:?}", problems(&loaded));
    };
    assert_eq!(
        (problem.object.as_str(), problem.field.as_str()),
        ("NetworkPolicy default/P_1", "metadata.name")
    );
}

#[test]
fn odd_but_legal_policies_are_no_problems() {
    for spec in [
        "policyTypes: [Ingress, Ingress]",
        "policyTypes: [Egress]\ningress: [{}]",
        "ingress: [{}, {}]",
        "ingress: [{ports: [{}]}]",
        "ingress: [{ports: [{port: 80}, {port: 80, endPort: 90}, {port: 85}]}]",
        "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.1.0/24]}}]}]",
        "ingress: [{from: [{podSelector: {}}, {podSelector: {}}]}]",
        "podSelector: {matchLabels: {a: ''}}",
    ] {
        assert_eq!(problems(&load(&with_spec(spec))), [""; 0], "{spec}");
    }
}
