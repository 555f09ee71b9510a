//! Where a Service's connections end: as its EndpointSlices say, or as the endpoints controller
//! would.

use sidewall_policy::compile::Options;
use sidewall_policy::model::{Phase, Pod, Protocol};

use super::Followed;
use super::build::*;
use crate::cluster::{Object, Service, Target};

/// The backends of the first port of `x/s`, as `address:port`.
fn backends(objects: impl IntoIterator<Item = Object>) -> Vec<String> {
    let mut followed = Followed::new(Options::default());
    followed.apply(objects.into_iter().map(apply));
    let cluster = followed.index.cluster();
    let service = &cluster.services[&name("x", "s")];
    let backends = service.ports[0].backends.iter();
    backends
        .map(|backend| format!("{}:{}", backend.ip, backend.port))
        .collect()
}

fn to_web() -> Service {
    service("x", "s", "web", "10.96.0.1")
}

fn web(id: &str, address: &str) -> Pod {
    pod("x", id, "web", address)
}

#[test]
fn pods_of_the_same_namespace_that_the_selector_matches() {
    let mut finished = web("finished", "10.0.0.3");
    finished.phase = Phase::Terminal;
    let mut of_host = web("of-host", "192.168.0.1");
    of_host.host_network = true;
    let mut dual = web("dual", "10.0.0.4");
    dual.ips.push(ip("fd00::4"));
    let pods = [
        web("a", "10.0.0.1"),
        finished,
        of_host,
        dual,
        pod("y", "elsewhere", "web", "10.0.0.5"),
        pod("x", "other", "db", "10.0.0.6"),
    ];
    let objects = pods
        .map(Object::Pod)
        .into_iter()
        .chain([Object::Service(to_web())]);
    let expected = [
        "10.0.0.1:8080",
        "10.0.0.4:8080",
        "192.168.0.1:8080",
        "fd00::4:8080",
    ];
    assert_eq!(backends(objects), expected);
}

#[test]
fn a_named_target_is_another_number_on_each_pod() {
    let mut service = to_web();
    service.ports[0].target = Target::Name("http".into());
    let mut a = web("a", "10.0.0.1");
    a.ports = vec![named_port("http", 8080)];
    let mut b = web("b", "10.0.0.2");
    b.ports = vec![named_port("http", 9090)];
    let mut by_udp = web("by-udp", "10.0.0.3");
    by_udp.ports = vec![named_port("http", 7070)];
    by_udp.ports[0].protocol = Protocol::Udp;
    let without = web("without", "10.0.0.4");
    let pods = [a, b, by_udp, without].map(Object::Pod);
    let objects = pods.into_iter().chain([Object::Service(service)]);
    assert_eq!(backends(objects), ["10.0.0.1:8080", "10.0.0.2:9090"]);
}

#[test]
fn slices_say_it_all_when_there_are_any() {
    let mut of_other_port = slice("x", "s-3", "s", "10.0.0.4");
    of_other_port.ports[0].name = "other".into();
    let of_other_service = slice("x", "t-1", "t", "10.0.0.5");
    let of_other_namespace = slice("y", "s-1", "s", "10.0.0.6");
    let slices = [
        slice("x", "s-1", "s", "203.0.113.1"),
        of_other_port,
        of_other_service,
        of_other_namespace,
    ];
    let objects = slices.map(Object::EndpointSlice).into_iter();
    let objects = objects.chain([Object::Pod(web("a", "10.0.0.1")), Object::Service(to_web())]);
    assert_eq!(backends(objects), ["203.0.113.1:8080"]);
}

#[test]
fn without_a_selector_and_without_slices_there_are_none() {
    let mut service = to_web();
    service.selector = None;
    let objects = [Object::Pod(web("a", "10.0.0.1")), Object::Service(service)];
    assert_eq!(backends(objects), [""; 0]);
}

#[test]
fn a_slice_that_changes_hands_changes_both_services() {
    let mut followed = Followed::new(Options::default());
    let other = service("x", "t", "none", "10.96.0.2");
    followed.apply(
        [
            Object::Service(to_web()),
            Object::Service(other),
            Object::EndpointSlice(slice("x", "e", "s", "10.0.0.1")),
        ]
        .map(apply),
    );
    let count = |followed: &Followed| {
        let cluster = followed.index.cluster();
        ["s", "t"].map(|id| cluster.services[&name("x", id)].ports[0].backends.len())
    };
    assert_eq!(count(&followed), [1, 0]);
    followed.apply([apply(Object::EndpointSlice(slice(
        "x", "e", "t", "10.0.0.1",
    )))]);
    assert_eq!(count(&followed), [0, 1]);
}
