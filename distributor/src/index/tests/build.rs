//! Objects in a few words.

use std::net::IpAddr;

use sidewall_policy::admit::admit;
use sidewall_policy::model::{
    Labels, Mode, Namespace, NamespacedName, Node, Phase, Pod, PodPort, Protocol, Requirement,
    Selector, Test,
};
use sidewall_policy::spec;

use crate::cluster::{EndpointPort, EndpointSlice, Event, Object, Service, ServicePort, Target};

pub(crate) fn name(namespace: &str, name: &str) -> NamespacedName {
    NamespacedName::new(namespace, name)
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A running pod with `app` as its only label.
pub(crate) fn pod(namespace: &str, pod: &str, app: &str, address: &str) -> Pod {
    Pod {
        id: name(namespace, pod),
        labels: labels(&[("app", app)]),
        node: Some("n1".into()),
        ips: vec![ip(address)],
        host_network: false,
        uid: None,
        phase: Phase::Running,
        created: 0,
        tcp_path: None,
        ports: Vec::new(),
    }
}

pub(crate) fn named_port(port: &str, number: u16) -> PodPort {
    PodPort {
        name: port.into(),
        protocol: Protocol::Tcp,
        number,
    }
}

pub(crate) fn namespace(namespace: &str, team: &str) -> Object {
    Object::Namespace(Namespace {
        tcp_path: None,
        name: namespace.into(),
        labels: labels(&[("kubernetes.io/metadata.name", namespace), ("team", team)]),
        mode: Mode::Enforce,
    })
}

pub(crate) fn node(node: &str, addresses: &[&str]) -> Object {
    Object::Node(Node {
        name: node.into(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
    })
}

/// A Service whose port leads to `target` on the pods labelled `app`.
pub(crate) fn service(namespace: &str, service: &str, app: &str, address: &str) -> Service {
    Service {
        id: name(namespace, service),
        cluster_ips: vec![ip(address)],
        external_ips: Vec::new(),
        selector: Some(selector(&[("app", app)]).expect("labels")),
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            target: Target::Number(8080),
        }],
    }
}

pub(crate) fn slice(namespace: &str, slice: &str, service: &str, address: &str) -> EndpointSlice {
    EndpointSlice {
        id: name(namespace, slice),
        service: Some(service.into()),
        ports: vec![EndpointPort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        addresses: vec![ip(address)],
    }
}

fn selector(pairs: &[(&str, &str)]) -> Option<Selector> {
    let requirement = |(key, value): &(&str, &str)| Requirement {
        key: (*key).into(),
        test: Test::In(vec![(*value).into()]),
    };
    Some(Selector::new(pairs.iter().map(requirement).collect()))
}

/// A selector as manifests write it.
pub(crate) fn match_labels(pairs: &[(&str, &str)]) -> spec::LabelSelector {
    spec::LabelSelector {
        match_labels: pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        match_expressions: Vec::new(),
    }
}

/// Pods of the policy's own namespace.
pub(crate) fn from_app(app: &str) -> spec::Peer {
    spec::Peer {
        pod_selector: Some(match_labels(&[("app", app)])),
        ..spec::Peer::default()
    }
}

/// Pods of the namespaces of a team.
pub(crate) fn from_team(team: &str, app: Option<&str>) -> spec::Peer {
    spec::Peer {
        pod_selector: app.map(|app| match_labels(&[("app", app)])),
        namespace_selector: Some(match_labels(&[("team", team)])),
        ip_block: None,
    }
}

pub(crate) fn rule(peers: Vec<spec::Peer>, ports: Vec<spec::Port>) -> spec::Rule {
    spec::Rule {
        peers: Some(peers),
        ports: Some(ports),
    }
}

pub(crate) fn port_named(port: &str) -> spec::Port {
    spec::Port {
        port: Some(spec::IntOrString::String(port.to_owned())),
        ..spec::Port::default()
    }
}

pub(crate) fn policy(
    namespace: &str,
    policy: &str,
    app: Option<&str>,
    ingress: Option<Vec<spec::Rule>>,
    egress: Option<Vec<spec::Rule>>,
) -> Object {
    let mut types = Vec::new();
    if ingress.is_some() {
        types.push("Ingress".to_owned());
    }
    if egress.is_some() {
        types.push("Egress".to_owned());
    }
    let admitted = admit(&spec::NetworkPolicy {
        namespace: Some(namespace.to_owned()),
        name: policy.to_owned(),
        mode: None,
        pod_selector: app.map(|app| match_labels(&[("app", app)])),
        policy_types: Some(types),
        ingress,
        egress,
    });
    assert_eq!(admitted.violations, [], "the policy of this test is good");
    Object::NetworkPolicy(admitted.policy)
}

pub(crate) fn apply(object: Object) -> Event {
    Event::Apply(object)
}
