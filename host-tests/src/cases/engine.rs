//! Cases held by the policy engine alone: manifests compiled, snapshots judged, no packet sent.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;
use sidewall_distributor::cluster::manifests::Folder;
use sidewall_distributor::index::{Change, Index};
use sidewall_policy::compile::Options;
use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::snapshot::Snapshot;

use super::state::{id, service_of};
use super::{Case, Error, State, Table, Unmet};
use crate::probe::Protocol;

/// Runs a case: what is not as it says, of every step, table, pair of pods, family and way, which is
/// the pod's own address or that of its Service.
///
/// # Errors
///
/// When the case cannot be run at all.
pub fn judge(case: &Case, world: &State) -> Result<Vec<Unmet>, Error> {
    let directory = tempfile::tempdir().map_err(|source| Error::File {
        path: std::env::temp_dir(),
        reason: source.to_string(),
    })?;
    let mut engine = Engine {
        folder: Folder::new(directory.path()),
        index: Index::new(Options::default()),
        snapshots: BTreeMap::new(),
    };
    let mut state = world.clone();
    write(directory.path(), &State::default(), &state)?;
    let mut unmet = Vec::new();
    for (number, step) in (1..).zip(&case.steps) {
        let before = state.clone();
        state.change(case, step)?;
        write(directory.path(), &before, &state)?;
        engine.refresh()?;
        for table in &step.expect {
            engine.hold(&state, number, table, &mut unmet);
        }
    }
    Ok(unmet)
}

struct Engine {
    folder: Folder,
    index: Index,
    /// By `namespace/name` of the pod.
    snapshots: BTreeMap<String, Snapshot>,
}

impl Engine {
    /// Compiles what the folder says now.
    fn refresh(&mut self) -> Result<(), Error> {
        for event in self.folder.refresh() {
            self.index.apply(event);
        }
        for (recipient, change) in self.index.take_changes() {
            let recipient = recipient.to_string();
            match change {
                Change::Gone => self.snapshots.remove(&recipient),
                Change::Snapshot(bytes) => match Snapshot::check(bytes) {
                    Ok(snapshot) => self.snapshots.insert(recipient, snapshot),
                    Err(source) => return Err(Error::Snapshot { recipient, source }),
                },
            };
        }
        Ok(())
    }

    fn hold(&self, state: &State, step: usize, table: &Table, unmet: &mut Vec<Unmet>) {
        let pods = addresses(state, "Pod");
        let services = addresses(state, "Service");
        for (from, sources) in &pods {
            for (to, targets) in pods.iter().filter(|(to, _)| *to != from) {
                let expected = table.allows(from, to);
                let service = services.get(&service_of(to)).map_or(&[][..], Vec::as_slice);
                for (source, target, vip) in sources.iter().flat_map(|source| {
                    let same = |ip: &&IpAddr| ip.is_ipv4() == source.is_ipv4();
                    let target = targets.iter().find(same);
                    let vip = service.iter().find(same);
                    target
                        .zip(vip)
                        .map(|(target, vip)| (*source, *target, *vip))
                }) {
                    let allows = |pod: &str, destination| {
                        let flow = Flow {
                            source,
                            destination,
                            protocol: code(table.protocol),
                            port: table.port,
                        };
                        let snapshot = self.snapshots.get(pod);
                        snapshot
                            .is_some_and(|snapshot| snapshot.judge(&flow).verdict == Verdict::Allow)
                    };
                    // The server sees the backend's address, whatever the client dialled.
                    let served = allows(to, target);
                    for (dialled, name) in [(target, to.clone()), (vip, service_of(to))] {
                        if (allows(from, dialled) && served) != expected {
                            let word = |allowed| if allowed { "allowed" } else { "denied" };
                            let Table { port, protocol, .. } = *table;
                            unmet.push(Unmet {
                                step,
                                protocol,
                                port,
                                found: format!(
                                    "{from} -> {name} ({dialled}) {protocol} {port}: {}, expected {}",
                                    word(!expected),
                                    word(expected)
                                ),
                            });
                        }
                    }
                }
            }
        }
    }
}

/// The addresses of pods or Services.
fn addresses(state: &State, kind: &str) -> BTreeMap<String, Vec<IpAddr>> {
    let texts = |object: &Value| -> Vec<IpAddr> {
        let pod = object["status"]["podIPs"].as_array().into_iter().flatten();
        let service = object["spec"]["clusterIPs"]
            .as_array()
            .into_iter()
            .flatten();
        let all = pod.map(|entry| &entry["ip"]).chain(service);
        all.filter_map(|ip| ip.as_str()?.parse().ok()).collect()
    };
    state
        .objects(kind)
        .map(|object| (id(object), texts(object)))
        .collect()
}

/// The IANA number; cases do not speak of ICMP.
fn code(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
        Protocol::Icmp => 1,
    }
}

fn write(folder: &Path, before: &State, after: &State) -> Result<(), Error> {
    let (changed, gone) = after.since(before);
    let done = |name: &str, done: std::io::Result<()>| {
        done.map_err(|source| Error::File {
            path: folder.join(name),
            reason: source.to_string(),
        })
    };
    for (name, text) in changed {
        done(name, fs::write(folder.join(name), text))?;
    }
    for name in gone {
        done(name, fs::remove_file(folder.join(name)))?;
    }
    Ok(())
}
