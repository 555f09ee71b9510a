//! Waiting until everybody decides by the manifests as they are.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::node::Agent;
use super::proxy::Proxy;
use super::{Error, Lab, PATIENCE, Status, lock, tail};

/// How often is looked whether something has come about.
const GLANCE: Duration = Duration::from_millis(2);

/// Somebody who enforces, and by whose snapshot.
struct Waiting {
    /// `namespace/name` of a pod, or `node NAME`.
    recipient: String,
    enforcer: Enforcer,
}

enum Enforcer {
    Proxy(Arc<Proxy>),
    Agent(Arc<Agent>),
}

impl Lab {
    /// Waits until every running agent and every worker of every running Envoy decides by the
    /// manifests as they are now.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] names the pods and nodes that do not get there.
    pub fn wait_applied(&self) -> Result<(), Error> {
        let started = Instant::now();
        let expected = lock(&self.folder).expected().clone();
        let mut waiting = self.enforcers();
        loop {
            waiting.retain(|waiting| {
                !expected
                    .get(&waiting.recipient)
                    .is_some_and(|revision| waiting.enforcer.enforces(revision))
            });
            if waiting.is_empty() {
                break;
            }
            if started.elapsed() > PATIENCE {
                let status = self.status()?;
                let describe = |waiting: Waiting| {
                    let expected = expected.get(&waiting.recipient);
                    waiting.describe(expected.map(String::as_str), &status)
                };
                return Err(Error::NotApplied {
                    waited: PATIENCE,
                    missing: waiting.into_iter().map(describe).collect(),
                });
            }
            thread::sleep(GLANCE);
        }
        for Waiting { enforcer, .. } in self.enforcers() {
            if let Enforcer::Proxy(proxy) = enforcer {
                proxy.wait_ready(PATIENCE)?;
            }
        }
        Ok(())
    }

    /// Everybody who enforces at the moment.
    fn enforcers(&self) -> Vec<Waiting> {
        let hosts = lock(&self.hosts);
        let mut enforcers = Vec::new();
        for (pod, sidecar) in hosts.sidecars() {
            enforcers.push(Waiting {
                recipient: pod,
                enforcer: Enforcer::Proxy(sidecar),
            });
        }
        for (name, node) in hosts.nodes() {
            let agent = Enforcer::Agent(Arc::clone(&node.agent));
            let envoy = node.envoy.as_ref().map(Arc::clone).map(Enforcer::Proxy);
            for enforcer in std::iter::once(agent).chain(envoy) {
                enforcers.push(Waiting {
                    recipient: node_recipient(name),
                    enforcer,
                });
            }
        }
        enforcers.retain(|waiting| waiting.enforcer.is_running());
        enforcers
    }
}

/// A node as the distributor names it among those who get snapshots.
fn node_recipient(name: &str) -> String {
    format!("node {name}")
}

impl Enforcer {
    fn is_running(&self) -> bool {
        match self {
            Self::Proxy(proxy) => proxy.is_running(),
            Self::Agent(agent) => agent.is_running(),
        }
    }

    fn enforces(&self, revision: &str) -> bool {
        match self {
            Self::Proxy(proxy) => proxy.enforces(revision),
            Self::Agent(agent) => agent.enforces(revision),
        }
    }
}

impl Waiting {
    /// What is known of somebody who does not get there, in a line; of an agent also its log.
    fn describe(self, expected: Option<&str>, status: &Status) -> String {
        let Self {
            recipient,
            enforcer,
        } = self;
        let mut text = format!("  {recipient}: expected {expected:?}, ");
        let pods = status
            .pods
            .iter()
            .map(|pod| (pod.pod.clone(), format!("{pod:?}")));
        let nodes = status.nodes.iter();
        let nodes = nodes.map(|node| (node_recipient(&node.node), format!("{node:?}")));
        let _ = match pods.chain(nodes).find(|(name, _)| *name == recipient) {
            Some((_, status)) => write!(text, "distributor says {status}"),
            None => write!(text, "unknown to the distributor"),
        };
        match enforcer {
            Enforcer::Proxy(proxy) => {
                let ended = proxy.with(|envoy| Ok(envoy.ended()));
                if let Ok(Some(status)) = ended {
                    let _ = write!(text, ", Envoy has ended ({status})");
                }
            }
            Enforcer::Agent(agent) => {
                if let Ok(Some(status)) = agent.with(|daemon| Ok(daemon.ended())) {
                    let _ = write!(text, ", the agent has ended ({status})");
                }
                let _ = write!(
                    text,
                    "; the end of the agent's log:\n{}",
                    tail(&agent.log())
                );
            }
        }
        text.push('\n');
        text
    }
}
