//! What a node's agent records of the drops in its kernel, by way of the kernel's packet log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ipnet::IpNet;
use prometheus_client::registry::Registry;
use serde_json::Value;
use sidewall_distributor::node::nflog;
use sidewall_distributor::node::resets::Resets;
use sidewall_policy::record::PREFIX;
use sidewall_policy::snapshot::Snapshot;
use tokio::sync::{oneshot, watch};

use super::super::Error;
use super::super::told::Told;
use crate::net::Netns;

/// A listener in a node's namespace. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Records {
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    lines: Receiver<String>,
    // Held: the listener ends when it goes.
    _stop: oneshot::Sender<()>,
}

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    /// The source port, where the protocol has one.
    pub(super) number: Option<u16>,
    /// Source and destination as they were recorded.
    pub(super) ends: (String, String),
    /// What it tells; `None` of a packet that belongs to no pod.
    pub(super) told: Option<Told>,
}

impl Records {
    pub(super) fn start(node: &Netns, pod_cidrs: Vec<IpNet>, group: u16) -> Result<Self, Error> {
        let (snapshots, followed) = watch::channel(None);
        let (line, lines) = channel();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = channel();
        node.spawn(move || {
            let listened = listen(group, &pod_cidrs, &followed, &line, stopped, &ready);
            if let Err(error) = listened {
                let _ = ready.send(Err(error));
            }
        })
        .map_err(crate::lab::Error::from)?;
        let failed = |reason: String| Error::Kernel {
            node: node.name().to_owned(),
            reason,
        };
        match is_ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(failed(reason)),
            Err(_) => {
                return Err(failed(
                    "the reader of the kernel's log has ended".to_owned(),
                ));
            }
        }
        Ok(Self {
            snapshots,
            lines,
            _stop: stop,
        })
    }

    /// From now on drops are explained by this snapshot.
    pub(super) fn explain_by(&self, snapshot: Option<Arc<Snapshot>>) {
        self.snapshots.send_replace(snapshot);
    }

    /// The next record, if there is one in time.
    pub(super) fn next(&self, timeout: Duration) -> Option<Recorded> {
        let line = self.lines.recv_timeout(timeout).ok()?;
        let json = line.strip_prefix(PREFIX)?;
        let record: Value = serde_json::from_str(json).ok()?;
        let end = |field: &str| record[field].as_str().map(str::to_owned);
        let (source, destination) = (end("source")?, end("destination")?);
        let with_port: Option<SocketAddr> = source.parse().ok();
        Some(Recorded {
            number: with_port.map(|source| source.port()),
            ends: (source, destination),
            told: Told::by_record(&record),
        })
    }
}

fn listen(
    group: u16,
    pod_cidrs: &[IpNet],
    snapshots: &watch::Receiver<Option<Arc<Snapshot>>>,
    lines: &Sender<String>,
    stopped: oneshot::Receiver<()>,
    ready: &Sender<Result<(), String>>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let listener = nflog::Listener::bind(group);
        let listener = listener.await.map_err(|error| error.to_string())?;
        let metrics = nflog::Metrics::register(&mut Registry::default());
        let resets = Resets::open();
        let _ = ready.send(Ok(()));
        let report = |record: &sidewall_policy::record::Record| {
            let _ = lines.send(record.line());
        };
        tokio::select! {
            error = listener.run(pod_cidrs, snapshots, &resets, &metrics, report) => Err(error.to_string()),
            _ = stopped => Ok(()),
        }
    })
}
