//! Cases held by a running lab: policies applied to what enforces there, and every pair probed.

use std::collections::BTreeSet;

use super::spec::Step;
use super::state::service_of;
use super::{Case, Error, State, Unmet};
use crate::lab::{Expect, Lab, LabConfig, Plane, Port, Probe, ProbeResult};
use crate::probe::Protocol;

/// How many probes run at the same time: denied ones do nothing but wait.
const WIDTH: usize = 64;

/// A lab in which cases run one after another.
#[derive(Debug)]
pub struct Runner {
    lab: Lab,
    plane: Plane,
    world: State,
    state: State,
    /// Pods whose connections begin at a sidecar.
    sidecars: BTreeSet<String>,
}

/// What was probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub probes: usize,
    /// Those that were tried a second time.
    pub repeated: usize,
    /// Expected denials.
    pub denied: usize,
    /// Those among them that saw a handshake all the same: with the client's own sidecar.
    pub handshakes: usize,
}

impl Runner {
    /// Starts a lab of that plane from a world.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(world: State, plane: Plane) -> Result<Self, Error> {
        let config = LabConfig::default().plane(plane).probe_width(WIDTH);
        let config = world
            .files()
            .fold(config, |config, (name, text)| config.manifest(name, text));
        let lab = Lab::start(config)?;
        let sidecars = lab.pods().into_iter();
        let sidecars = sidecars.filter_map(|(pod, has)| has.then_some(pod));
        Ok(Self {
            sidecars: sidecars.collect(),
            lab,
            plane,
            state: world.clone(),
            world,
        })
    }

    /// Probes everything that cases probe, without a policy: a denial then comes of the policies.
    ///
    /// # Errors
    ///
    /// When it cannot be probed.
    pub fn reach_all(&self, cases: &[Case], tally: &mut Tally) -> Result<Vec<Unmet>, Error> {
        let of_plane = cases
            .iter()
            .filter(|case| case.skipped(self.plane).is_none());
        let tables = of_plane
            .flat_map(|case| &case.steps)
            .flat_map(|step| &step.expect);
        let ports: BTreeSet<(Protocol, u16)> =
            tables.map(|table| (table.protocol, table.port)).collect();
        let mut unmet = Vec::new();
        for (protocol, port) in ports {
            unmet.extend(self.probe(0, protocol, port, |_, _| true, tally)?);
        }
        Ok(unmet)
    }

    /// Runs a case and undoes what it did: what is not as it says, of every step.
    ///
    /// # Errors
    ///
    /// When the case cannot be run at all.
    pub fn run(&mut self, case: &Case, tally: &mut Tally) -> Result<Vec<Unmet>, Error> {
        let mut unmet = Vec::new();
        for (number, step) in (1..).zip(&case.steps) {
            let mut next = self.state.clone();
            next.change(case, step)?;
            self.become_state(next)?;
            unmet.extend(self.hold(number, step, tally)?);
        }
        self.become_state(self.world.clone())?;
        Ok(unmet)
    }

    fn hold(&self, number: usize, step: &Step, tally: &mut Tally) -> Result<Vec<Unmet>, Error> {
        let mut unmet = Vec::new();
        for table in &step.expect {
            let allows = |from: &str, to: &str| table.allows(from, to);
            unmet.extend(self.probe(number, table.protocol, table.port, allows, tally)?);
        }
        Ok(unmet)
    }

    /// Makes the lab enforce other manifests.
    fn become_state(&mut self, next: State) -> Result<(), Error> {
        {
            let (changed, gone) = next.since(&self.state);
            for (name, text) in changed {
                self.lab.write_manifest(name, &text)?;
            }
            for name in gone {
                self.lab.remove_manifest(name)?;
            }
        }
        self.lab.wait_applied()?;
        self.state = next;
        Ok(())
    }

    /// Probes every pair of pods, by the pod's addresses and by those of its Service. What is not as
    /// expected is tried once more, as upstream does.
    fn probe(
        &self,
        step: usize,
        protocol: Protocol,
        port: u16,
        allows: impl Fn(&str, &str) -> bool,
        tally: &mut Tally,
    ) -> Result<Vec<Unmet>, Error> {
        let pods = self.state.pods();
        let mut probes = Vec::new();
        for from in &pods {
            for to in pods.iter().filter(|to| *to != from) {
                let expect = if allows(from, to) {
                    Expect::Allow
                } else {
                    Expect::Deny
                };
                for target in [to.clone(), format!("service:{}", service_of(to))] {
                    let probe = Probe::new(from, &target, Port::Number(port))
                        .map_err(crate::lab::Error::from)?;
                    probes.push(probe.by(protocol).expect(expect));
                }
            }
        }
        let results = self.lab.probe(&probes)?;
        tally.count(&results);
        let again: Vec<Probe> = results
            .iter()
            .filter(|result| !self.is_met(result))
            .map(|result| {
                let probe = Probe::new(&result.from, &result.to, Port::Number(port))
                    .map_err(crate::lab::Error::from)?;
                let probe = probe.by(protocol).over(result.family);
                Ok(Probe {
                    expect: result.expected,
                    ..probe
                })
            })
            .collect::<Result<_, Error>>()?;
        tally.repeated += again.len();
        let results = self.lab.probe(&again)?;
        let unmet = results.iter().filter(|result| !self.is_met(result));
        let unmet = unmet.map(|result| Unmet {
            step,
            protocol,
            port,
            found: result.to_string(),
        });
        Ok(unmet.collect())
    }

    /// An allowed connection is answered by the right server. A denied one is not even a handshake,
    /// unless the client's own sidecar makes it: then nobody answers.
    fn is_met(&self, result: &ProbeResult) -> bool {
        let by_sidecar = result.protocol == Protocol::Tcp
            && (self.plane == Plane::Proxy || self.sidecars.contains(&result.from));
        let handshake = result.expected == Some(Expect::Deny) && result.connected && !by_sidecar;
        result.ok == Some(true) && !handshake
    }
}

impl Tally {
    fn count(&mut self, results: &[ProbeResult]) {
        let denied = |result: &&ProbeResult| result.expected == Some(Expect::Deny);
        self.probes += results.len();
        self.denied += results.iter().filter(denied).count();
        let handshakes = results
            .iter()
            .filter(denied)
            .filter(|result| result.connected);
        self.handshakes += handshakes.count();
    }
}
