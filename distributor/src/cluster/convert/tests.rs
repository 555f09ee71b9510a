//! Each kind from YAML to what verdicts depend on.

use std::net::IpAddr;

use sidewall_policy::model::{self, Mode, Phase, Pod, Protocol, TcpPath};

use crate::cluster::decode::{self, Loaded};
use crate::cluster::event::{Object, Service, Target};

fn load(text: &str) -> (Object, Vec<String>) {
    let Loaded {
        objects, problems, ..
    } = decode::file("test.yaml", text);
    let [object] = <[Object; 1]>::try_from(objects).expect("one object");
    (object, problems.iter().map(|p| p.field.clone()).collect())
}

fn pod(text: &str) -> (Pod, Vec<String>) {
    match load(&format!("apiVersion: v1\nkind: Pod\n{text}")) {
        (Object::Pod(pod), problems) => (pod, problems),
        (other, _) => panic!("not a pod: {other:?}"),
    }
}

fn service(text: &str) -> (Service, Vec<String>) {
    match load(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\n{text}"
    )) {
        (Object::Service(service), problems) => (service, problems),
        (other, _) => panic!("not a service: {other:?}"),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

#[test]
fn a_running_pod() {
    let (pod, problems) = pod(
        "metadata: {name: a, namespace: x, labels: {app: web}, creationTimestamp: '2024-01-01T00:00:00Z'}\n\
         spec:\n  nodeName: n1\n  \
           initContainers:\n  \
           - {name: once, ports: [{name: gone, containerPort: 1}]}\n  \
           - {name: sidecar, restartPolicy: Always, ports: [{name: metrics, containerPort: 9090}]}\n  \
           containers:\n  \
           - {name: c, ports: [{name: http, containerPort: 80}, {containerPort: 81}, {name: dns, containerPort: 53, protocol: UDP}]}\n\
         status:\n  phase: Running\n  podIP: 10.0.0.9\n  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}, {ip: '::ffff:10.0.0.2'}]\n",
    );
    assert_eq!(problems, [""; 0]);
    assert_eq!(pod.id.to_string(), "x/a");
    assert_eq!(pod.labels.get("app"), Some("web"));
    assert_eq!(pod.node.as_deref(), Some("n1"));
    assert_eq!(pod.ips, ips(&["10.0.0.1", "fd00::1", "10.0.0.2"]));
    assert_eq!(
        (pod.host_network, pod.phase, pod.created),
        (false, Phase::Running, 1_704_067_200)
    );
    let ports: Vec<_> = pod
        .ports
        .iter()
        .map(|p| (p.name.as_ref(), p.protocol, p.number))
        .collect();
    let expected = [
        ("dns", Protocol::Udp, 53),
        ("http", Protocol::Tcp, 80),
        ("metrics", Protocol::Tcp, 9090),
    ];
    assert_eq!(ports, expected);
}

/// The kubelet mirrors a static pod as a Pod that its Node owns (`semantics H14`).
#[test]
fn a_static_pod_is_a_pod() {
    let mirrored = |marks: &str| {
        pod(&format!(
            "metadata: {{name: a-n1, namespace: x, labels: {{app: web}}{marks}}}\n\
             spec: {{nodeName: n1, containers: [{{name: c}}]}}\n\
             status: {{phase: Running, podIP: 10.0.0.1}}\n"
        ))
    };
    let marks = ", annotations: {kubernetes.io/config.source: file, kubernetes.io/config.mirror: abc}, \
                 ownerReferences: [{apiVersion: v1, kind: Node, name: n1, uid: u, controller: true}]";
    let (found, problems) = mirrored(marks);
    assert_eq!(problems, [""; 0]);
    assert!(found.is_selectable());
    assert_eq!(found, mirrored("").0);
}

#[test]
fn a_pod_as_old_api_servers_show_it() {
    let (pod, _) = pod(
        "metadata: {name: a}\nspec: {hostNetwork: true}\nstatus: {podIP: 10.0.0.1, phase: Failed}\n",
    );
    assert_eq!(pod.ips, ips(&["10.0.0.1"]));
    assert_eq!((pod.host_network, pod.phase), (true, Phase::Terminal));
}

#[test]
fn bad_parts_of_a_pod_are_left_out() {
    let (pod, problems) = pod("metadata: {name: a}\n\
         spec: {containers: [{name: c, ports: [{name: a, containerPort: 0}, {name: b, containerPort: 1, protocol: ICMP}, {name: c, containerPort: 2}]}]}\n\
         status: {phase: Dreaming, podIPs: [{ip: 10.0.0.256}, {ip: 10.0.0.1}]}\n");
    assert_eq!(
        problems,
        [
            "status.phase",
            "status.podIPs[0].ip",
            "spec.containers[0].ports[0].containerPort",
            "spec.containers[0].ports[1].protocol",
        ],
    );
    assert_eq!(
        (pod.phase, pod.ips, pod.ports.len()),
        (Phase::Unknown, ips(&["10.0.0.1"]), 1)
    );
}

#[test]
fn a_namespace_carries_its_name_and_its_mode() {
    let text = |metadata| format!("apiVersion: v1\nkind: Namespace\nmetadata: {metadata}\n");
    let (object, problems) = load(&text(
        "{name: x, labels: {team: red, kubernetes.io/metadata.name: y}, annotations: {sidewall.dev/mode: audit}}",
    ));
    let Object::Namespace(namespace) = object else {
        panic!("not a namespace");
    };
    assert_eq!(problems, ["metadata.labels[kubernetes.io/metadata.name]"]);
    assert_eq!(
        namespace.labels.get("kubernetes.io/metadata.name"),
        Some("x")
    );
    assert_eq!(namespace.labels.get("team"), Some("red"));
    assert_eq!(namespace.mode, Mode::Audit);
    let (object, problems) = load(&text("{name: x, annotations: {sidewall.dev/mode: audti}}"));
    assert_eq!(problems, ["metadata.annotations[sidewall.dev/mode]"]);
    assert!(matches!(object, Object::Namespace(namespace) if namespace.mode == Mode::Enforce));
}

#[test]
fn a_node_has_the_addresses_of_its_status_and_its_annotation() {
    let (object, problems) = load(
        "apiVersion: v1\nkind: Node\n\
         metadata: {name: n, annotations: {sidewall.dev/node-addresses: '10.0.0.254, fe80::1,, what'}}\n\
         status: {addresses: [{type: InternalIP, address: 192.168.0.1}, {type: Hostname, address: n}, {type: ExternalIP, address: '2001:db8::1'}]}\n",
    );
    let Object::Node(node) = object else {
        panic!("not a node");
    };
    assert_eq!(
        problems,
        ["metadata.annotations[sidewall.dev/node-addresses]"]
    );
    assert_eq!(
        node.addresses,
        ips(&["192.168.0.1", "2001:db8::1", "10.0.0.254", "fe80::1"])
    );
}

#[test]
fn a_service_with_every_kind_of_address() {
    let (service, problems) = service(
        "spec:\n  type: LoadBalancer\n  selector: {app: web}\n  clusterIP: 10.96.0.1\n  \
           clusterIPs: [10.96.0.1, 'fd96::1']\n  externalIPs: [203.0.113.1]\n  ports:\n  \
           - {name: http, port: 80, targetPort: web, nodePort: 30080}\n  \
           - {name: dns, port: 53, protocol: UDP}\n  \
           - {name: alt, port: 81, targetPort: 8081}\n\
         status: {loadBalancer: {ingress: [{ip: 203.0.113.2}, {hostname: lb.example}]}}\n",
    );
    assert_eq!(problems, [""; 0]);
    assert_eq!(service.cluster_ips, ips(&["10.96.0.1", "fd96::1"]));
    assert_eq!(service.external_ips, ips(&["203.0.113.1", "203.0.113.2"]));
    assert!(service.selector.is_some());
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|p| (p.port, p.node_port, p.target.clone()))
        .collect();
    let expected = [
        (80, Some(30080), Target::Name("web".into())),
        (53, None, Target::Number(53)),
        (81, None, Target::Number(8081)),
    ];
    assert_eq!(ports, expected);
    assert_eq!(service.ports[1].protocol, Protocol::Udp);
}

#[test]
fn services_without_an_address() {
    let (headless, _) =
        service("spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}\n");
    assert_eq!((headless.cluster_ips.len(), headless.ports.len()), (0, 0));
    let (external, _) = service("spec: {type: ExternalName, externalName: example.org}\n");
    assert_eq!((external.cluster_ips.len(), external.selector), (0, None));
}

#[test]
fn bad_ports_of_a_service_are_left_out() {
    let (service, problems) = service(
        "spec: {clusterIP: 10.96.0.1, ports: [{port: 70000}, {port: 80, targetPort: 0}, {port: 81, protocol: GRE}]}\n",
    );
    assert_eq!(problems, ["spec.ports[0].port", "spec.ports[2].protocol"]);
    let targets: Vec<_> = service.ports.iter().map(|p| p.target.clone()).collect();
    assert_eq!(targets, [Target::Number(80)], "0 means the same as none");
}

#[test]
fn an_endpoint_slice() {
    let (object, problems) = load(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}\n\
         addressType: IPv4\nports: [{name: http, port: 8080}, {name: any}]\n\
         endpoints:\n\
         - {addresses: [10.0.0.1]}\n\
         - {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}\n\
         - {addresses: [10.0.0.3], conditions: {ready: false}}\n",
    );
    let Object::EndpointSlice(slice) = object else {
        panic!("not a slice");
    };
    assert_eq!(problems, [""; 0]);
    assert_eq!(slice.service.as_deref(), Some("s"));
    assert_eq!(slice.ports.len(), 1);
    assert_eq!(slice.addresses, ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
}

#[test]
fn an_endpoint_slice_of_names_has_no_endpoints() {
    let (object, problems) = load(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-1}\n\
         addressType: FQDN\nendpoints: [{addresses: [example.org]}]\n",
    );
    assert_eq!(problems, [""; 0]);
    assert!(matches!(object, Object::EndpointSlice(slice) if slice.addresses.is_empty()));
}

#[test]
fn who_carries_a_pods_tcp() {
    let path = |annotations: &str, spec: &str| {
        let (pod, problems) = pod(&format!(
            "metadata: {{name: a, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n"
        ));
        (pod.tcp_path, problems)
    };
    let plain = "containers: [{name: c}]";
    let istio = "containers: [{name: c}, {name: istio-proxy}]";
    let native =
        "containers: [{name: c}], initContainers: [{name: istio-proxy, restartPolicy: Always}]";
    let none: Vec<String> = Vec::new();
    for (annotations, spec, expected) in [
        ("", plain, None),
        ("", istio, Some(TcpPath::Sidecar)),
        ("", native, Some(TcpPath::Sidecar)),
        (
            "sidecar.istio.io/status: '{}'",
            plain,
            Some(TcpPath::Sidecar),
        ),
        (
            "sidewall.dev/sidecar: 'true'",
            plain,
            Some(TcpPath::Sidecar),
        ),
        ("sidewall.dev/sidecar: 'false'", istio, None),
        (
            "sidewall.dev/redirect: 'false'",
            plain,
            Some(TcpPath::Kernel),
        ),
        (
            "sidewall.dev/redirect: 'true'",
            plain,
            Some(TcpPath::NodeProxy),
        ),
        (
            "sidewall.dev/redirect: 'false'",
            istio,
            Some(TcpPath::Sidecar),
        ),
    ] {
        assert_eq!(
            path(annotations, spec),
            (expected, none.clone()),
            "{annotations} {spec}"
        );
    }
    let (unread, problems) = path("sidewall.dev/redirect: 'no'", plain);
    assert_eq!(unread, None);
    assert_eq!(problems, ["metadata.annotations[sidewall.dev/redirect]"]);

    let namespace = |annotations: &str| match load(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: n, annotations: {{{annotations}}}}}\n"
    )) {
        (Object::Namespace(namespace), _) => namespace,
        (other, _) => panic!("not a namespace: {other:?}"),
    };
    let opted_out = namespace("sidewall.dev/redirect: 'false'");
    assert_eq!(opted_out.tcp_path, Some(TcpPath::Kernel));
    let (silent, _) = pod("metadata: {name: a}\nspec: {containers: [{name: c}]}\n");
    let path =
        |namespace: Option<&model::Namespace>, default| TcpPath::of(&silent, namespace, default);
    for default in [TcpPath::Kernel, TcpPath::NodeProxy] {
        assert_eq!(path(Some(&opted_out), default), TcpPath::Kernel);
        let opted_in = namespace("sidewall.dev/redirect: 'true'");
        assert_eq!(path(Some(&opted_in), default), TcpPath::NodeProxy);
        assert_eq!(path(Some(&namespace("")), default), default);
        assert_eq!(path(None, default), default);
    }
}
