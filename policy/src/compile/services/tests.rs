//! Where services are found, and what tells that one has changed in more than its backends.

use super::*;
use crate::model::{Backend, ServicePort};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service(name: &str, address: &str) -> Service {
    let backend = |ip| Backend { ip, port: 8080 };
    let port = |port, node_port| ServicePort {
        protocol: Protocol::Tcp,
        port,
        node_port,
        backends: vec![backend(ip("10.244.1.11"))],
    };
    Service {
        id: NamespacedName::new("default", name),
        cluster_ips: vec![ip(address)],
        external_ips: Vec::new(),
        ports: vec![port(80, Some(30_080)), port(443, None)],
    }
}

#[test]
fn services_are_found_by_their_address() {
    let services = [
        service("a", "10.96.0.1"),
        service("b", "10.96.0.2"),
        service("c", "10.96.0.3"),
    ];
    let table = ServiceTable::new(services.iter());
    for service in &services {
        let found = table.at(service.cluster_ips[0]);
        let found = found.filter_map(|place| table.entries.get(place));
        let found: Vec<_> = found.map(|entry| (&entry.id, entry.port)).collect();
        assert_eq!(found, [(&service.id, 80), (&service.id, 443)]);
    }
    assert_eq!(table.at(ip("10.96.0.4")).count(), 0);
}

#[test]
fn only_backends_are_taken_in_by_themselves() {
    type Change = fn(&mut Service);
    let changes: [(&str, Change, Option<Vec<usize>>); 7] = [
        ("nothing", |_| {}, Some(Vec::new())),
        (
            "a backend",
            |service| service.ports[1].backends.clear(),
            Some(vec![1]),
        ),
        (
            "an address",
            |service| service.cluster_ips = vec![ip("10.96.0.9")],
            None,
        ),
        (
            "a node port",
            |service| service.ports[0].node_port = Some(30_081),
            None,
        ),
        ("a port", |service| service.ports[1].port = 444, None),
        ("a port less", |service| drop(service.ports.pop()), None),
        (
            "a port more",
            |service| {
                let more = ServicePort {
                    port: 8443,
                    ..service.ports[1].clone()
                };
                service.ports.push(more);
            },
            None,
        ),
    ];
    for (what, change, places) in changes {
        let mut changed = service("a", "10.96.0.1");
        let others = service("b", "10.96.0.2");
        let others = Service {
            ports: others.ports[1..].to_vec(),
            ..others
        };
        let mut table = ServiceTable::new([&changed, &others].into_iter());
        let before = table.clone();
        change(&mut changed);
        assert_eq!(table.set_backends(&changed), places, "{what}");
        let wanted = match places {
            Some(_) => ServiceTable::new([&changed, &others].into_iter()),
            None => before,
        };
        assert_eq!(table, wanted, "{what}");
    }
}
