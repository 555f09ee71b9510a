//! The table as text, as data, and from one to the next.

#[path = "../../../../policy/tests/support/flow.rs"]
mod flow;
mod golden;
mod histories;
mod kernel;
mod listing;
mod order;
mod packet;
mod planner;
mod scratch;
mod sequences;
mod verdicts;
#[path = "../../../../policy/tests/support/cluster.rs"]
mod worlds;

/// As flows know it.
use worlds as cluster;

use ipnet::IpNet;
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{Cluster, NamespacedName};
use sidewall_policy::snapshot::Snapshot;

use super::{DeniedTcp, Settings};

const CONTROL_PLANES: [&str; 2] = ["10.96.0.50:18000", "[fd00:96::50]:18000"];

fn settings() -> Settings {
    Settings {
        cluster_cidrs: ranges(["10.244.0.0/16", "fd00:244::/32"]),
        ..with_ranges(["10.244.1.0/24", "fd00:244:1::/64"])
    }
}

fn with_ranges(pods: [&str; 2]) -> Settings {
    Settings {
        pod_cidrs: ranges(pods),
        cluster_cidrs: ranges(["10.0.0.0/8", "fd00::/16"]),
        control_planes: CONTROL_PLANES.map(|text| text.parse().unwrap()).to_vec(),
        denied_tcp: DeniedTcp::Drop,
        proxy_port: Some(15100),
        nflog_group: 4747,
    }
}

/// The snapshot of node `n1`.
fn snapshot(cluster: &Cluster, options: &Options) -> Snapshot {
    let local = cluster.pods.values();
    let local = local.filter(|pod| pod.node.as_deref() == Some("n1"));
    let ids: Vec<NamespacedName> = local.map(|pod| pod.id.clone()).collect();
    Snapshot::check(compile_snapshot(cluster, &ids, options)).unwrap()
}

fn ranges(texts: [&str; 2]) -> Vec<IpNet> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}
