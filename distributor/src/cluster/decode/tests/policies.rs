//! What a policy that is not quite understood still does: nothing that would open anything.

use sidewall_policy::model::{NetworkPolicy, Peers, Ports, Rule};

use super::{load, policy, problems, with_spec};

/// Reads a policy with this spec; its only problem stands in `field`.
fn flawed(spec: &str, field: &str) -> NetworkPolicy {
    let loaded = load(&with_spec(spec));
    let fields: Vec<&str> = loaded.problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, [field], "{:?}", problems(&loaded));
    assert_eq!(loaded.problems[0].object, "NetworkPolicy default/p");
    policy(&loaded).clone()
}

fn is_nothing(rule: &Rule) -> bool {
    matches!(&rule.peers, Peers::Of(peers) if peers.is_empty())
        || matches!(&rule.ports, Ports::Of(ports) if ports.is_empty())
}

fn isolates_and_allows_nothing(rules: Option<&[Rule]>) -> bool {
    rules.is_some_and(|rules| rules.iter().all(is_nothing))
}

#[test]
fn a_good_policy_has_no_problems() {
    let loaded = load(&with_spec(
        "podSelector: {matchLabels: {role: db}}\n\
         policyTypes: [Ingress, Egress]\n\
         ingress:\n\
         - from:\n\
        \x20 - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}\n\
        \x20 - namespaceSelector: {matchExpressions: [{key: project, operator: In, values: [a]}]}\n\
        \x20   podSelector: {}\n\
        \x20 ports: [{protocol: TCP, port: 6379, endPort: 6380}, {port: http}]\n\
         egress: [{}]",
    ));
    assert_eq!(problems(&loaded), [""; 0]);
    let policy = policy(&loaded);
    let rule = &policy.ingress.as_ref().expect("ingress")[0];
    assert!(matches!(&rule.peers, Peers::Of(peers) if peers.len() == 2));
    assert!(matches!(&rule.ports, Ports::Of(ports) if ports.len() == 2));
    let everything = &policy.egress.as_ref().expect("egress")[0];
    assert_eq!(
        (&everything.peers, &everything.ports),
        (&Peers::Any, &Ports::Any)
    );
}

#[test]
fn an_unknown_field_in_a_peer_closes_that_peer() {
    let policy = flawed(
        "ingress: [{from: [{podSelector: {}, namespaceSelecter: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]}]",
        "spec.ingress[0].from[0].namespaceSelecter",
    );
    let rule = &policy.ingress.as_ref().expect("ingress")[0];
    assert!(matches!(&rule.peers, Peers::Of(peers) if peers.len() == 1));
}

#[test]
fn an_unknown_field_deep_in_a_peer_closes_it_too() {
    let policy = flawed(
        "egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, excepts: [10.0.0.0/8]}}]}]",
        "spec.egress[0].to[0].ipBlock.excepts",
    );
    assert!(isolates_and_allows_nothing(policy.egress.as_deref()));
}

#[test]
fn a_peer_of_the_wrong_type_closes_that_peer() {
    let policy = flawed(
        "ingress: [{from: [{podSelector: {matchLabels: {app: 1}}}]}]",
        "spec.ingress[0].from[0].podSelector.matchLabels.app",
    );
    assert!(isolates_and_allows_nothing(policy.ingress.as_deref()));
    let policy = flawed("ingress: [{from: [null]}]", "spec.ingress[0].from[0]");
    assert!(isolates_and_allows_nothing(policy.ingress.as_deref()));
}

#[test]
fn an_unknown_field_in_a_port_closes_that_port() {
    let policy = flawed(
        "ingress: [{ports: [{prot: UDP, port: 53}, {port: 80}]}]",
        "spec.ingress[0].ports[0].prot",
    );
    let rule = &policy.ingress.as_ref().expect("ingress")[0];
    assert!(matches!(&rule.ports, Ports::Of(ports) if ports.len() == 1));
}

#[test]
fn a_port_with_a_leading_zero_closes_that_port() {
    let policy = flawed(
        "ingress: [{ports: [{port: 080}]}]",
        "spec.ingress[0].ports[0].port",
    );
    assert!(isolates_and_allows_nothing(policy.ingress.as_deref()));
}

#[test]
fn an_unknown_field_in_a_rule_closes_that_rule() {
    let policy = flawed(
        "ingress: [{to: [{podSelector: {}}]}, {from: [{podSelector: {}}]}]",
        "spec.ingress[0].to",
    );
    let rules = policy.ingress.as_deref().expect("ingress");
    assert!(is_nothing(&rules[0]) && !is_nothing(&rules[1]));
    assert_eq!(rules[1].index, 1);
}

#[test]
fn lists_that_are_no_lists_close_their_rule() {
    for (spec, field) in [
        (
            "ingress: [{from: {podSelector: {}}}]",
            "spec.ingress[0].from",
        ),
        ("ingress: [{ports: 80}]", "spec.ingress[0].ports"),
        ("ingress: [null]", "spec.ingress[0]"),
        ("ingress: {}", "spec.ingress"),
    ] {
        let policy = flawed(spec, field);
        assert!(
            isolates_and_allows_nothing(policy.ingress.as_deref()),
            "{spec}"
        );
        assert_eq!(policy.egress, None, "{spec}");
    }
    let policy = flawed("egress: all", "spec.egress");
    assert!(isolates_and_allows_nothing(policy.egress.as_deref()));
}

#[test]
fn lists_that_are_null_are_absent() {
    let loaded = load(&with_spec(
        "podSelector: null\ningress: [{from: null, ports: null}]\negress: null",
    ));
    assert_eq!(problems(&loaded), [""; 0]);
    let policy = policy(&loaded);
    assert_eq!(
        policy.ingress.as_ref().expect("ingress")[0].peers,
        Peers::Any
    );
    assert_eq!(policy.egress, None);
}

#[test]
fn an_unknown_field_in_the_spec_closes_both_directions() {
    let policy = flawed(
        "podSelector: {matchLabels: {a: b}}\negres: []\ningress: [{}]",
        "spec.egres",
    );
    assert_eq!(policy.pod_selector.requirements().len(), 1);
    assert_eq!(
        (policy.ingress, policy.egress),
        (Some(vec![]), Some(vec![]))
    );
}

#[test]
fn an_unknown_field_in_the_spec_leaves_the_directions_that_are_named() {
    let policy = flawed("policyTypes: [Egress]\nfoo: 1\negress: [{}]", "spec.foo");
    assert_eq!((policy.ingress, policy.egress), (None, Some(vec![])));
}

#[test]
fn a_selector_that_is_read_in_part_selects_at_least_as_much() {
    let policy = flawed(
        "podSelector: {matchLabels: {a: b}, matchExpression: []}\ningress: [{}]",
        "spec.podSelector.matchExpression",
    );
    assert_eq!(policy.pod_selector.requirements().len(), 1);
    assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None));
    let policy = flawed(
        "podSelector: {matchLabels: {a: 1}}\negress: [{}]",
        "spec.podSelector.matchLabels.a",
    );
    assert!(policy.pod_selector.requirements().is_empty());
    assert_eq!(
        (policy.ingress, policy.egress),
        (Some(vec![]), Some(vec![]))
    );
}

#[test]
fn policy_types_of_the_wrong_type_close_both_directions() {
    let policy = flawed("policyTypes: Egress\negress: [{}]", "spec.policyTypes");
    assert_eq!(
        (policy.ingress, policy.egress),
        (Some(vec![]), Some(vec![]))
    );
}

#[test]
fn a_spec_that_is_none_closes_both_directions() {
    let text =
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: 1}";
    let loaded = load(text);
    assert_eq!(loaded.problems[0].field, "spec");
    let policy = policy(&loaded);
    assert_eq!(
        (policy.ingress.as_deref(), policy.egress.as_deref()),
        (Some(&[][..]), Some(&[][..]))
    );
}

#[test]
fn fields_beside_the_spec() {
    let text = with_spec("ingress: [{}]") + "status: {}\n";
    assert_eq!(problems(&load(&text)), [""; 0]);
    let text = with_spec("ingress: [{}]") + "specs: {}\n";
    let loaded = load(&text);
    assert_eq!(loaded.problems[0].field, "specs");
    assert_eq!(policy(&loaded).egress.as_deref(), Some(&[][..]));
}

#[test]
fn a_misspelt_namespace_closes_the_policy_where_it_lands() {
    let text = with_spec("ingress: [{}]").replace("{name: p}", "{name: p, namespce: prod}");
    let loaded = load(&text);
    assert_eq!(loaded.problems[0].field, "metadata.namespce");
    assert_eq!(policy(&loaded).ingress.as_deref(), Some(&[][..]));

    let text = with_spec("ingress: [{}]").replace("{name: p}", "{name: p, namespace: prod, x: 1}");
    let loaded = load(&text);
    assert_eq!(loaded.problems[0].field, "metadata.x");
    assert_eq!(
        policy(&loaded).ingress.as_deref().map(<[_]>::len),
        Some(1),
        "in force"
    );
}

#[test]
fn a_key_twice_seals_the_namespace() {
    let loaded = load(&with_spec(
        "podSelector: {matchLabels: {a: b, a: c}}\ningress: [{}]",
    ));
    assert_eq!(loaded.problems[0].object, "NetworkPolicy default/p");
    let policy = policy(&loaded);
    assert!(policy.pod_selector.requirements().is_empty());
    assert_eq!(
        (policy.ingress.as_deref(), policy.egress.as_deref()),
        (Some(&[][..]), Some(&[][..]))
    );
}

#[test]
fn a_policy_without_a_name_is_in_force_under_its_place() {
    let text = with_spec("policyTypes: [Ingress]").replace("{name: p}", "{namespace: prod}");
    let loaded = load(&text);
    assert_eq!(loaded.problems.len(), 1, "{:?}", problems(&loaded));
    assert_eq!(loaded.problems[0].field, "metadata.name");
    assert_eq!(
        policy(&loaded).id.to_string(),
        "prod/(test.yaml document 1)"
    );
}
