//! Any addresses, any protocol, any port: the compiled snapshot decides as the reference does, on
//! 256 random worlds.

#![no_main]

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::Flow;
use sidewall_policy::model::{Cluster, NamespacedName};
use sidewall_policy::reference;
use sidewall_policy::snapshot::Snapshot;
use sidewall_policy::verify::verify;

/// What the engine's own property tests are made of.
#[path = "../../policy/tests/support"]
mod support {
    #[allow(dead_code, reason = "the flows of property tests use the rest")]
    pub mod cluster;
}

/// One question.
#[derive(Arbitrary, Debug)]
struct Asked {
    source: End,
    destination: End,
    protocol: u8,
    port: u16,
}

/// An address of the world, seldom met by chance, or any other.
#[derive(Arbitrary, Debug)]
enum End {
    Known(u8),
    Mapped(u8),
    Any(IpAddr),
}

struct World {
    cluster: Cluster,
    subjects: BTreeSet<NamespacedName>,
    options: Options,
    snapshot: Snapshot,
    addresses: Vec<IpAddr>,
}

thread_local! {
    static WORLDS: RefCell<HashMap<u8, World>> = RefCell::default();
}

fuzz_target!(|input: (u8, Vec<Asked>)| {
    let (number, questions) = input;
    WORLDS.with_borrow_mut(|worlds| {
        let world = worlds.entry(number).or_insert_with(|| World::new(number));
        for asked in &questions {
            world.ask(asked);
        }
    });
});

impl World {
    fn new(number: u8) -> Self {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[number; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let tree = support::cluster::cluster().new_tree(&mut runner);
        let cluster = tree.expect("strategies reject nothing").current();
        let options = Options {
            node_plane: number & 1 != 0,
            enforce_own_node_egress: number & 2 != 0,
            ..Options::default()
        };
        let ids: Vec<NamespacedName> = cluster.pods.keys().cloned().collect();
        let bytes = compile_snapshot(&cluster, &ids, &options);
        let snapshot = Snapshot::check(bytes).expect("what the compiler writes is good");
        let mut addresses = support::cluster::pod_addresses();
        addresses.extend(support::cluster::external_addresses());
        for node in ["n1", "n2"] {
            addresses.extend(support::cluster::node_addresses(node));
        }
        addresses.extend(
            cluster
                .services
                .values()
                .flat_map(|service| service.addresses()),
        );
        let subjects = ids.into_iter().collect();
        Self {
            cluster,
            subjects,
            options,
            snapshot,
            addresses,
        }
    }

    fn address(&self, end: &End) -> IpAddr {
        let known = |place: u8| self.addresses[usize::from(place) % self.addresses.len()];
        match end {
            End::Known(place) => known(*place),
            End::Mapped(place) => match known(*place) {
                IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                v6 @ IpAddr::V6(_) => v6,
            },
            End::Any(address) => *address,
        }
    }

    fn ask(&self, asked: &Asked) {
        let flow = Flow {
            source: self.address(&asked.source),
            destination: self.address(&asked.destination),
            protocol: asked.protocol,
            port: asked.port,
        };
        let subject = (&self.snapshot, &self.subjects);
        if let Err(difference) = verify(&self.cluster, &self.options, subject, &flow) {
            let opinion = reference::judge(&self.cluster, &self.options, &flow);
            let decision = self.snapshot.judge(&flow);
            let told = self.snapshot.explain(&flow, &decision);
            panic!(
                "{difference}\n{flow:?}\n{opinion:#?}\n{decision:#?}\n{told:#?}\n{:#?}",
                self.cluster
            );
        }
    }
}
