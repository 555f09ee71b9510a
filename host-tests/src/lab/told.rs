//! What a lab's Envoys, agents, kernels and distributor tell.

use serde_json::Value;

use super::daemon::Daemon;
use super::{Error, Lab, Status, distributor, lock};
use crate::envoy::{Envoy, Stats, logs};

impl Lab {
    /// The decision records of a pod's sidecar so far, oldest first. Their fields are documented
    /// with the filter.
    ///
    /// # Errors
    ///
    /// When the pod has no running sidecar.
    pub fn decisions(&self, pod: &str) -> Result<Vec<Value>, Error> {
        self.sidecar(pod, |envoy| envoy.decisions())
    }

    /// The access log of a pod's sidecar so far: one entry a connection that has ended.
    ///
    /// # Errors
    ///
    /// When the pod has no running sidecar.
    pub fn access_log(&self, pod: &str) -> Result<Vec<Value>, Error> {
        self.sidecar(pod, |envoy| envoy.access())
    }

    /// Counters and gauges of a pod's sidecar whose names match a regular expression.
    ///
    /// # Errors
    ///
    /// When the pod has no running sidecar, or that does not answer.
    pub fn stats(&self, pod: &str, filter: &str) -> Result<Stats, Error> {
        let sidecar = lock(&self.hosts).sidecar(pod)?;
        sidecar.with(|envoy| envoy.stats(filter))
    }

    /// Does something with a pod's sidecar.
    ///
    /// # Errors
    ///
    /// When the pod has no running sidecar.
    pub fn sidecar<T>(&self, pod: &str, work: impl FnOnce(&mut Envoy) -> T) -> Result<T, Error> {
        let sidecar = lock(&self.hosts).sidecar(pod)?;
        sidecar.with(|envoy| Ok(work(envoy)))
    }

    /// Does something with a node's Envoy.
    ///
    /// # Errors
    ///
    /// When the node does not enforce, or its Envoy was ended.
    pub fn node_envoy<T>(
        &self,
        node: &str,
        work: impl FnOnce(&mut Envoy) -> T,
    ) -> Result<T, Error> {
        let plane = lock(&self.hosts).node(node)?;
        plane.envoy(node)?.with(|envoy| Ok(work(envoy)))
    }

    /// The decision records of a node so far: those of its agent, then those of its Envoy if it has one,
    /// each oldest first.
    ///
    /// # Errors
    ///
    /// When the node does not enforce, or its Envoy was ended.
    pub fn node_decisions(&self, node: &str) -> Result<Vec<Value>, Error> {
        let mut records = self.agent_decisions(node)?;
        if lock(&self.hosts).node(node)?.envoy.is_some() {
            records.extend(self.node_envoy(node, |envoy| envoy.decisions())?);
        }
        Ok(records)
    }

    /// The decision records of a node's agent so far, oldest first: what the kernel dropped, and
    /// what was ended in it.
    ///
    /// # Errors
    ///
    /// When the node does not enforce.
    pub fn agent_decisions(&self, node: &str) -> Result<Vec<Value>, Error> {
        Ok(logs::decisions(&self.agent_log(node)?))
    }

    /// GET on an agent's admin port, such as `/metrics`.
    ///
    /// # Errors
    ///
    /// When the node does not enforce, its agent was ended, or the answer is not 200.
    pub fn agent_get(&self, node: &str, path: &str) -> Result<String, Error> {
        let node = lock(&self.hosts).node(node)?;
        node.agent.with(|agent| agent.get(path))
    }

    /// What a node's agent has logged so far, those before it included.
    ///
    /// # Errors
    ///
    /// When the node does not enforce.
    pub fn agent_log(&self, node: &str) -> Result<String, Error> {
        let node = lock(&self.hosts).node(node)?;
        Ok(node.agent.log())
    }

    /// The rules in a node's kernel, as `nft list ruleset` prints them.
    ///
    /// # Errors
    ///
    /// When there is no such node, or `nft` fails.
    pub fn ruleset(&self, node: &str) -> Result<String, Error> {
        let netns = self.netns(&format!("node:{node}"))?;
        let mut command = netns.command("nft");
        command.args(["list", "ruleset"]);
        let output = command.output().map_err(|source| Error::File {
            step: "starting",
            path: "nft".into(),
            source,
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Command {
            what: format!("`nft list ruleset` on node {node}"),
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// What the distributor says of every pod, and what it finds wrong with the manifests.
    ///
    /// # Errors
    ///
    /// When it does not run or does not answer.
    pub fn status(&self) -> Result<Status, Error> {
        self.distributor(distributor::status)
    }

    /// GET on the distributor's admin port, such as `/metrics`.
    ///
    /// # Errors
    ///
    /// When it does not run, or the answer is not 200.
    pub fn distributor_get(&self, path: &str) -> Result<String, Error> {
        self.distributor(|distributor| distributor.get(path))
    }

    /// The distributor's log so far.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn distributor_log(&self) -> Result<String, Error> {
        self.distributor(|distributor| Ok(distributor.log()))
    }

    fn distributor<T>(&self, work: impl FnOnce(&Daemon) -> Result<T, Error>) -> Result<T, Error> {
        match lock(&self.distributor).as_ref() {
            Some(distributor) => work(distributor),
            None => Err(distributor::not_running()),
        }
    }
}
