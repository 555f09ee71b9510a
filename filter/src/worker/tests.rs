//! What becomes of a host that refuses calls. All else is tested with the built module.

use std::cell::{Cell, RefCell};

use proxy_wasm::types::{Bytes, LogLevel, MetricType};
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::model::{
    Cluster, Labels, Mode, NamespacedName, NetworkPolicy, Phase, Pod, Selector,
};

use super::*;
use crate::host::MetricId;

const ROOT: u32 = 1;

/// A host that remembers what it was asked to do, and refuses what it is told to.
#[derive(Default)]
struct Recorder {
    configuration: RefCell<Vec<u8>>,
    refuses_sharing: bool,
    gone: Option<u32>,
    current: Cell<u32>,
    closed: RefCell<Vec<u32>>,
    logs: RefCell<Vec<(LogLevel, String)>>,
}

impl Host for Recorder {
    fn configuration(&self, _: usize) -> Option<Bytes> {
        Some(self.configuration.borrow().clone())
    }

    fn property(&self, [end, _]: [&str; 2]) -> Option<Bytes> {
        Some(match end {
            "source" => b"10.0.0.9:40000".to_vec(),
            _ => b"10.0.0.1:80".to_vec(),
        })
    }

    fn set_filter_state(&self, _: &str, _: &str) {}

    fn close_downstream(&self) {
        self.closed.borrow_mut().push(self.current.get());
    }

    fn enter(&self, context: u32) -> bool {
        self.current.set(context);
        self.gone != Some(context)
    }

    fn shared(&self, _: &str) -> Option<Bytes> {
        None
    }

    fn share(&self, _: &str, _: &[u8]) -> bool {
        !self.refuses_sharing
    }

    fn define_metric(&self, _: MetricType, _: &str) -> Option<MetricId> {
        None
    }

    fn increment_metric(&self, _: MetricId) {}

    fn record_metric(&self, _: MetricId, _: u64) {}

    fn now(&self) -> u64 {
        0
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.logs.borrow_mut().push((level, message.to_owned()));
    }
}

/// The snapshot of 10.0.0.1, which everybody may enter, or nobody.
fn snapshot(is_open: bool) -> Vec<u8> {
    let pod = NamespacedName::new("shop", "db");
    let mut cluster = Cluster::default();
    cluster.pods.insert(
        pod.clone(),
        Pod {
            id: pod.clone(),
            labels: Labels::default(),
            node: None,
            ips: vec![[10, 0, 0, 1].into()],
            host_network: false,
            uid: None,
            phase: Phase::Running,
            created: 0,
            tcp_path: None,
            ports: Vec::new(),
        },
    );
    let policy = NetworkPolicy {
        id: NamespacedName::new("shop", "closed"),
        pod_selector: Selector::everything(),
        ingress: Some(Vec::new()),
        egress: None,
        mode: Mode::Enforce,
    };
    if !is_open {
        cluster.policies.insert(policy.id.clone(), policy);
    }
    compile_snapshot(&cluster, &[pod], &Options::default())
}

fn push(worker: &mut Worker, host: &Recorder, is_open: bool) -> bool {
    host.configuration.replace(snapshot(is_open));
    worker.configure(host, ROOT, host.configuration.borrow().len())
}

#[test]
fn a_snapshot_that_cannot_be_shared_is_in_force_all_the_same() {
    let host = Recorder {
        refuses_sharing: true,
        ..Recorder::default()
    };
    let mut worker = Worker::default();
    assert!(push(&mut worker, &host, true));
    assert!(worker.admit(&host, 2));
    let logs = host.logs.borrow();
    let (level, message) = &logs[0];
    assert_eq!(*level, LogLevel::Error);
    assert!(message.contains("shared data refused"), "{message}");
}

#[test]
fn a_stream_that_is_gone_is_passed_over_when_others_are_cut() {
    let host = Recorder {
        gone: Some(3),
        ..Recorder::default()
    };
    let mut worker = Worker::default();
    push(&mut worker, &host, true);
    for context in [2, 3, 4] {
        assert!(worker.admit(&host, context));
    }
    push(&mut worker, &host, false);
    assert_eq!(*host.closed.borrow(), [2, 4]);
    assert_eq!(host.current.get(), ROOT, "the root's own context again");
    let logs = host.logs.borrow();
    let records = logs.iter().filter(|(_, m)| m.contains("\"cut\":true"));
    assert_eq!(records.count(), 2);
    assert!(logs.iter().any(|(_, m)| m.ends_with("2 cut")), "{logs:?}");
}
