//! The comparison with the reference evaluator can fail: whatever a snapshot says wrongly is found.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::eval::Flow;
use sidewall_policy::model::{
    Cluster, Labels, Mode, NamespacedName, NetworkPolicy, Peers, Phase, Pod, PortMatch, PortRange,
    Ports, Protocol, Rule, Selector,
};
use sidewall_policy::snapshot::Snapshot;
use sidewall_policy::verify::verify;

const WEB: &str = "10.0.0.1";
const DB: &str = "10.0.0.2";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for (name, address) in [("web", WEB), ("db", DB)] {
        let pod = Pod {
            id: NamespacedName::new("shop", name),
            labels: Labels::default(),
            node: None,
            ips: vec![ip(address)],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            ports: Vec::new(),
            tcp_path: None,
        };
        cluster.pods.insert(pod.id.clone(), pod);
    }
    cluster
}

fn policy(name: &str, mode: Mode, ports: &[u16]) -> NetworkPolicy {
    let rule = |(index, number): (u32, &u16)| Rule {
        index,
        peers: Peers::Any,
        ports: Ports::Of(vec![PortMatch {
            protocol: Protocol::Tcp,
            port: PortRange::Numbers {
                low: *number,
                high: *number,
            },
        }]),
    };
    NetworkPolicy {
        id: NamespacedName::new("shop", name),
        pod_selector: Selector::everything(),
        ingress: Some((0..).zip(ports).map(rule).collect()),
        egress: None,
        mode,
    }
}

/// What is found when the snapshot of `wrong` answers for `right`.
fn found(right: &Cluster, wrong: &Cluster) -> Option<String> {
    let subjects: BTreeSet<NamespacedName> = right.pods.keys().cloned().collect();
    let ids: Vec<NamespacedName> = subjects.iter().cloned().collect();
    let options = Options::default();
    let snapshot = Snapshot::check(compile_snapshot(wrong, &ids, &options)).expect("it is good");
    let flow = Flow {
        source: ip(WEB),
        destination: ip(DB),
        protocol: 6,
        port: 80,
    };
    let error = verify(right, &options, (&snapshot, &subjects), &flow).err()?;
    assert!(error.to_string().contains("the reference evaluator says"));
    Some(error.what)
}

#[test]
fn every_kind_of_wrong_answer_is_found() {
    let with = |policies: &[NetworkPolicy]| {
        let mut cluster = cluster();
        for policy in policies {
            cluster.policies.insert(policy.id.clone(), policy.clone());
        }
        cluster
    };
    let (open, allowing) = (with(&[]), with(&[policy("p", Mode::Enforce, &[80])]));
    let closed = with(&[policy("p", Mode::Enforce, &[])]);
    let audited = with(&[policy("p", Mode::Audit, &[])]);
    let renamed = with(&[policy("q", Mode::Enforce, &[])]);
    let moved = with(&[policy("p", Mode::Enforce, &[81, 80])]);
    let mut without_db = cluster();
    without_db.pods.remove(&NamespacedName::new("shop", "db"));

    for (right, wrong, what) in [
        (&closed, &open, "verdict of ingress"),
        (&open, &closed, "verdict of ingress"),
        (&open, &without_db, "ingress is judged"),
        (&open, &audited, "ingress would deny"),
        (&open, &allowing, "reason of ingress"),
        (&closed, &renamed, "policies told"),
        (&allowing, &moved, "rule told"),
    ] {
        assert_eq!(found(right, right), None);
        assert_eq!(found(right, wrong).as_deref(), Some(what));
    }
}
