//! Random histories: whatever happened, every pod has the bytes of a compilation from scratch.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sidewall_policy::compile::Options;
use sidewall_policy::model::{Mode, Phase, TcpPath};
use sidewall_policy::spec;

use super::build::*;
use super::{Followed, delete};
use crate::cluster::{Event, Object, Target};
use crate::testing::config::tried;

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const APPS: [&str; 3] = ["web", "db", "tool"];
const TEAMS: [&str; 2] = ["red", "blue"];
/// Fewer than pods, so that addresses are used again and claimed twice.
const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"];

fn one_of(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(list)
}

fn a_pod() -> impl Strategy<Value = Object> {
    let state = (0..4u8, any::<bool>(), 0..3i64);
    let ports = vec((one_of(&["http", "admin"]), 8080..8082u16), 0..3);
    let place = (one_of(&NAMESPACES), one_of(&["a", "b", "c"]));
    let addresses = vec(one_of(&ADDRESSES), 0..3);
    (
        place,
        one_of(&APPS),
        addresses,
        ports,
        state,
        option::of(one_of(&["n1", "n2"])),
    )
        .prop_map(
            |((namespace, name), app, addresses, ports, (phase, special, created), node)| {
                let mut pod = pod(namespace, name, app, "10.9.9.9");
                pod.ips = addresses.into_iter().map(ip).collect();
                pod.ips.dedup();
                pod.ports = ports
                    .iter()
                    .map(|(name, number)| named_port(name, *number))
                    .collect();
                pod.node = node.map(Into::into);
                pod.created = created;
                pod.phase = match phase {
                    0 => Phase::Pending,
                    1 => Phase::Terminal,
                    _ => Phase::Running,
                };
                pod.host_network = special && phase == 2;
                pod.uid = (!special).then(|| format!("{}-{created}", pod.id).into());
                Object::Pod(pod)
            },
        )
}

fn a_peer() -> impl Strategy<Value = spec::Peer> {
    let block = |cidr: &str, except: Option<&str>| spec::Peer {
        ip_block: Some(spec::IpBlock {
            cidr: cidr.to_owned(),
            except: except.map(|cidr| vec![cidr.to_owned()]),
        }),
        ..spec::Peer::default()
    };
    prop_oneof![
        one_of(&APPS).prop_map(from_app),
        (one_of(&TEAMS), option::of(one_of(&APPS))).prop_map(|(team, app)| from_team(team, app)),
        Just(block("10.0.0.0/24", Some("10.0.0.2/32"))),
        Just(block("::/0", None)),
    ]
}

fn a_rule() -> impl Strategy<Value = spec::Rule> {
    let port = prop_oneof![
        one_of(&["http", "admin"]).prop_map(port_named),
        Just(spec::Port::default()),
        Just(spec::Port {
            port: Some(spec::IntOrString::Int(8080)),
            ..spec::Port::default()
        }),
    ];
    (vec(a_peer(), 0..3), vec(port, 0..3)).prop_map(|(peers, ports)| rule(peers, ports))
}

fn a_policy() -> impl Strategy<Value = Object> {
    let place = (one_of(&NAMESPACES), one_of(&["p", "q"]));
    let ingress = option::of(vec(a_rule(), 0..3));
    let egress = option::of(vec(a_rule(), 0..3));
    (place, option::of(one_of(&APPS)), ingress, egress, 0..4u8)
        .prop_filter(
            "a policy isolates somewhere",
            |(_, _, ingress, egress, _)| ingress.is_some() || egress.is_some(),
        )
        .prop_map(|((namespace, name), app, ingress, egress, mode)| {
            let mut object = policy(namespace, name, app, ingress, egress);
            if let (Object::NetworkPolicy(policy), 0) = (&mut object, mode) {
                policy.mode = Mode::Audit;
            }
            object
        })
}

fn a_namespace() -> impl Strategy<Value = Object> {
    (one_of(&NAMESPACES), one_of(&TEAMS), 0..6u8).prop_map(|(name, team, mode)| {
        let mut object = namespace(name, team);
        if let (Object::Namespace(namespace), 0) = (&mut object, mode) {
            namespace.mode = Mode::Audit;
        }
        object
    })
}

fn a_service() -> impl Strategy<Value = Object> {
    let target = prop_oneof![
        Just(Target::Number(8080)),
        Just(Target::Name("http".into())),
    ];
    let place = (one_of(&NAMESPACES), one_of(&["s", "t"]));
    let addresses = prop_oneof![
        one_of(&["10.96.0.1", "10.96.0.2"]).prop_map(|ip| vec![ip]),
        one_of(&["10.96.0.3", "10.96.0.4", "10.0.0.200"]).prop_map(|ip| vec![ip, "fd00:96::1"]),
    ];
    let external = option::weighted(0.2, one_of(&["192.168.0.1", "203.0.113.1"]));
    let second_port = any::<bool>();
    (
        place,
        one_of(&APPS),
        addresses,
        external,
        (target, second_port),
        option::weighted(0.2, 30000..30002u16),
    )
        .prop_map(
            |((namespace, name), app, addresses, external, (target, second_port), node_port)| {
                let mut service = service(namespace, name, app, "10.9.9.9");
                service.cluster_ips = addresses.into_iter().map(ip).collect();
                service.external_ips = external.into_iter().map(ip).collect();
                service.ports[0].target = target;
                service.ports[0].node_port = node_port;
                if second_port {
                    let mut port = service.ports[0].clone();
                    port.name = "second".into();
                    port.port += 1;
                    port.node_port = None;
                    port.target = Target::Number(8081);
                    service.ports.push(port);
                }
                Object::Service(service)
            },
        )
}

fn a_slice() -> impl Strategy<Value = Object> {
    (
        one_of(&NAMESPACES),
        one_of(&["e", "f"]),
        one_of(&["s", "t"]),
        one_of(&ADDRESSES),
    )
        .prop_map(|(namespace, name, service, address)| {
            Object::EndpointSlice(slice(namespace, name, service, address))
        })
}

fn a_node() -> impl Strategy<Value = Object> {
    (
        one_of(&["n1", "n2"]),
        vec(one_of(&["192.168.0.1", "10.0.0.1"]), 0..2),
    )
        .prop_map(|(name, addresses)| node(name, &addresses))
}

fn an_event() -> impl Strategy<Value = Event> {
    let object = prop_oneof![
        6 => a_pod(),
        4 => a_policy(),
        2 => a_namespace(),
        2 => a_service(),
        1 => a_slice(),
        1 => a_node(),
    ];
    (object, 0..4u8).prop_map(|(object, fate)| match fate {
        0 => delete(&object),
        _ => apply(object),
    })
}

fn one_path() -> impl Strategy<Value = TcpPath> {
    proptest::sample::select(&[TcpPath::Kernel, TcpPath::NodeProxy][..])
}

/// Nodes with redirected pods name the addresses of Services.
fn an_event_of_redirected_pods() -> impl Strategy<Value = Event> {
    (an_event(), option::of(one_path())).prop_map(|(mut event, tcp_path)| {
        if let Event::Apply(Object::Pod(pod)) = &mut event {
            pod.tcp_path = tcp_path;
        }
        event
    })
}

proptest! {
    #![proptest_config(tried(400))]

    #[test]
    fn everybody_has_what_a_compilation_from_scratch_gives(
        batches in vec(vec(an_event(), 1..6), 1..14),
        node_plane in any::<bool>(),
        enforce_own_node_egress in any::<bool>(),
    ) {
        let mut followed = Followed::new(Options { node_plane, enforce_own_node_egress, ..Options::default() });
        for (number, batch) in batches.into_iter().enumerate() {
            followed.apply(batch);
            prop_assert_eq!(&followed.snapshots, &followed.compiled_from_scratch(), "after batch {}", number);
        }
    }

    #[test]
    fn the_order_of_events_does_not_matter(
        objects in vec(prop_oneof![a_pod(), a_policy(), a_namespace(), a_service(), a_slice(), a_node()], 1..20),
        seed in any::<u64>(),
    ) {
        let mut last = std::collections::BTreeMap::new();
        for object in objects {
            last.insert(object.reference(), object);
        }
        let mut sorted = Followed::new(Options::default());
        sorted.apply(last.values().cloned().map(apply));

        let mut shuffled: Vec<_> = last.into_values().collect();
        shuffled.sort_by_key(|object| {
            let mut hash = seed;
            for byte in object.reference().to_string().bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            hash
        });
        let mut other = Followed::new(Options::default());
        for object in shuffled {
            // Duplicates change nothing, neither do looks in between.
            other.apply([apply(object.clone()), apply(object)]);
        }
        prop_assert_eq!(sorted.snapshots, other.snapshots);
    }

    #[test]
    fn the_past_leaves_nothing_behind(
        batches in vec(vec(an_event_of_redirected_pods(), 1..6), 1..14),
        tcp_path in one_path(),
    ) {
        let options = Options { node_plane: true, tcp_path, ..Options::default() };
        let mut followed = Followed::new(options);
        let mut objects = std::collections::BTreeMap::new();
        for batch in batches {
            for event in &batch {
                match event {
                    Event::Apply(object) => objects.insert(object.reference(), object.clone()),
                    Event::Delete(reference) => objects.remove(reference),
                    Event::Synced(_) | Event::Report(..) => None,
                };
            }
            followed.apply(batch);
        }
        let mut fresh = Followed::new(options);
        fresh.apply(objects.into_values().map(apply));
        prop_assert_eq!(followed.snapshots, fresh.snapshots);
    }
}
