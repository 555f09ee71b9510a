//! What `ip` is to do, gathered by namespace: one process for each, however much there is to do.

use std::collections::BTreeMap;

use crate::net::{Error, Netns, command};

/// Scripts by namespace, run in three stages, each needing what the one before has made.
#[derive(Default)]
pub(super) struct Batches {
    router: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
    leaves: BTreeMap<String, String>,
}

impl Batches {
    /// First: the router makes its lines.
    pub(super) fn router(&mut self, netns: &Netns, script: &str) {
        append(&mut self.router, netns, script);
    }

    /// Second: nodes get their addresses and make their lines.
    pub(super) fn node(&mut self, netns: &Netns, script: &str) {
        append(&mut self.nodes, netns, script);
    }

    /// Third: everybody else.
    pub(super) fn leaf(&mut self, netns: &Netns, script: &str) {
        append(&mut self.leaves, netns, script);
    }

    /// Runs it all, each stage in parallel.
    pub(super) fn run(self) -> Result<(), Error> {
        for stage in [self.router, self.nodes, self.leaves] {
            let mut running = Vec::new();
            for (netns, script) in stage {
                running.push(command::start(command::ip(&netns), script)?);
            }
            running.into_iter().try_for_each(command::Running::wait)?;
        }
        Ok(())
    }
}

fn append(scripts: &mut BTreeMap<String, String>, netns: &Netns, script: &str) {
    scripts
        .entry(netns.name().to_owned())
        .or_default()
        .push_str(script);
}
