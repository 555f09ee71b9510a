//! Cases held by a running lab: what they say is applied to what enforces there, and probed.

mod records;

use std::collections::BTreeSet;

use super::spec::{Entry, PlaneName, Restart, Step, Table};
use super::state::service_of;
use super::{Case, Error, State, Unmet};
use crate::lab::{
    Expect, Lab, LabConfig, Party, Plane, Port, Probe, ProbeResult, Redirect, Target,
};
use crate::probe::Protocol;

/// How many probes run at the same time: denied ones do nothing but wait.
const WIDTH: usize = 64;

/// A lab in which cases of one world run one after another.
#[derive(Debug)]
pub struct Runner {
    lab: Lab,
    plane: Plane,
    redirect: Redirect,
    world: State,
    state: State,
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
    /// Starts a lab of that plane from a world, whose nodes decide in the kernel alone or redirect TCP to
    /// their Envoys.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(world: State, plane: Plane, redirect: Redirect) -> Result<Self, Error> {
        let config = LabConfig::default()
            .plane(plane)
            .redirect(redirect)
            .probe_width(WIDTH);
        let config = world
            .files()
            .fold(config, |config, (name, text)| config.manifest(name, text));
        Ok(Self {
            lab: Lab::start(config)?,
            plane,
            redirect,
            state: world.clone(),
            world,
        })
    }

    /// Probes every pair of pods at whatever the tables of cases probe, without a policy: a denial then
    /// comes of the policies.
    ///
    /// # Errors
    ///
    /// When it cannot be probed.
    pub fn reach_all(&self, cases: &[&Case], tally: &mut Tally) -> Result<Vec<Unmet>, Error> {
        let of_plane = cases
            .iter()
            .filter(|case| case.skipped(self.plane).is_none());
        let tables = of_plane
            .flat_map(|case| &case.steps)
            .flat_map(|step| &step.expect);
        let ports: BTreeSet<(Protocol, u16)> =
            tables.map(|table| (table.protocol, table.port)).collect();
        let mut probes = Vec::new();
        for (protocol, port) in ports {
            let open = Table {
                port,
                protocol,
                deny: Vec::new(),
                allow: Vec::new(),
            };
            probes.extend(self.of_table(&open));
        }
        self.probe(0, &probes, tally)
    }

    /// Runs a case and undoes what it did: what is not as it says, of every step.
    ///
    /// # Errors
    ///
    /// When the case cannot be run at all.
    pub fn run(&mut self, case: &Case, tally: &mut Tally) -> Result<Vec<Unmet>, Error> {
        let mut unmet = Vec::new();
        for (number, step) in (1..).zip(&case.steps) {
            self.advance(case, step)?;
            let tables = step.expect.iter().flat_map(|table| self.of_table(table));
            let mut probes: Vec<Probe> = tables.collect();
            probes.extend(step.probe.iter().flat_map(|entry| self.of_entry(entry)));
            unmet.extend(self.restart(number, step, &probes, tally)?);
            let before = self.records()?;
            unmet.extend(self.probe(number, &probes, tally)?);
            let named = self.misnamed(step, &before)?.into_iter();
            unmet.extend(named.map(|found| Unmet {
                step: number,
                found,
            }));
        }
        self.become_state(self.world.clone())?;
        self.lab.wait_applied()?;
        Ok(unmet)
    }

    fn advance(&mut self, case: &Case, step: &Step) -> Result<(), Error> {
        let before = self.state.clone();
        let mut after = before.clone();
        after.change(case, step)?;
        for _ in 0..step.churn {
            self.become_state(after.clone())?;
            self.become_state(before.clone())?;
        }
        self.become_state(after)?;
        self.lab.wait_applied()?;
        Ok(())
    }

    /// Makes the lab other manifests, and does not wait until they are enforced.
    fn become_state(&mut self, next: State) -> Result<(), Error> {
        {
            let (changed, gone) = next.since(&self.state);
            // An address is taken by another pod once the one that had it is gone.
            for name in gone {
                self.lab.remove_manifest(name)?;
            }
            for (name, text) in changed {
                self.lab.write_manifest(name, &text)?;
            }
        }
        self.state = next;
        Ok(())
    }

    /// Ends somebody, holds the lab to what is denied meanwhile, and starts it again.
    fn restart(
        &self,
        number: usize,
        step: &Step,
        probes: &[Probe],
        tally: &mut Tally,
    ) -> Result<Vec<Unmet>, Error> {
        let denied: Vec<Probe> = probes
            .iter()
            .filter(|probe| probe.expect == Some(Expect::Deny))
            .cloned()
            .collect();
        let mut unmet = Vec::new();
        for who in &step.restart {
            match who {
                Restart::Distributor => self.lab.kill_distributor(),
                Restart::Agent(node) if self.plane.has_nodes() => self.lab.kill_agent(node)?,
                Restart::NodeEnvoy(node) if self.redirect.has_envoys() => {
                    self.lab.kill_node_envoy(node)?;
                }
                Restart::Sidecar(pod) if self.has_sidecar(pod) => self.lab.kill_sidecar(pod)?,
                _ => continue,
            }
            unmet.extend(self.probe(number, &denied, tally)?);
            match who {
                Restart::Distributor => self.lab.start_distributor()?,
                Restart::Agent(node) => self.lab.start_agent(node)?,
                Restart::NodeEnvoy(node) => self.lab.start_node_envoy(node)?,
                Restart::Sidecar(pod) => self.lab.start_sidecar(pod)?,
            }
            unmet.extend(self.probe(number, &denied, tally)?);
            self.lab.wait_applied()?;
        }
        Ok(unmet)
    }

    /// Every pair of pods, by the pod's addresses and by those of its Service.
    fn of_table(&self, table: &Table) -> Vec<Probe> {
        let pods = self.state.pods();
        let services: BTreeSet<String> = self
            .state
            .objects("Service")
            .map(super::state::id)
            .collect();
        let mut probes = Vec::new();
        for from in &pods {
            for to in pods.iter().filter(|to| *to != from) {
                let service = service_of(to);
                let service = services.contains(&service).then_some(service);
                for target in [Some(Target::Pod(to.clone())), service.map(Target::Service)] {
                    probes.extend(target.map(|target| Probe {
                        from: Party::Pod(from.clone()),
                        to: target,
                        protocol: table.protocol,
                        port: Port::Number(table.port),
                        family: None,
                        expect: Some(expect(table.allows(from, to))),
                    }));
                }
            }
        }
        probes
    }

    fn of_entry(&self, entry: &Entry) -> Vec<Probe> {
        let plane = PlaneName::of(self.plane);
        let is_carried = self.plane != Plane::Proxy || entry.protocol == Protocol::Tcp;
        if !is_carried || entry.skip.contains_key(&plane) {
            return Vec::new();
        }
        let pods = self.state.pods();
        let mut probes = Vec::new();
        for (pairs, allowed) in [(&entry.allow, true), (&entry.deny, false)] {
            for (from, to) in pairs.iter().flat_map(|pairs| pairs.expand(&pods)) {
                probes.push(Probe {
                    from,
                    to,
                    protocol: entry.protocol,
                    port: Port::Number(entry.port),
                    family: entry.family,
                    expect: Some(expect(allowed)),
                });
            }
        }
        probes
    }

    /// Probes. What is not as expected is tried once more, as upstream does.
    fn probe(&self, step: usize, probes: &[Probe], tally: &mut Tally) -> Result<Vec<Unmet>, Error> {
        let results = self.lab.probe(probes)?;
        tally.count(&results);
        let again: Vec<Probe> = results
            .iter()
            .filter(|result| !self.is_met(result))
            .map(|result| {
                let probe = Probe::new(&result.from, &result.to, Port::Number(result.port))
                    .map_err(crate::lab::Error::from)?;
                let probe = probe.by(result.protocol).over(result.family);
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
            found: result.to_string(),
        });
        Ok(unmet.collect())
    }

    /// An allowed connection is answered by the right server. A denied one is not even a handshake,
    /// unless the client's own sidecar makes it: then nobody answers. Where there are no nodes that
    /// enforce, the server's sidecar makes it, too.
    fn is_met(&self, result: &ProbeResult) -> bool {
        let by_sidecar = result.protocol == Protocol::Tcp
            && (self.plane == Plane::Proxy || self.has_sidecar(&result.from));
        let handshake = result.expected == Some(Expect::Deny) && result.connected && !by_sidecar;
        result.ok == Some(true) && !handshake
    }

    fn has_sidecar(&self, pod: &str) -> bool {
        let pods = self.lab.pods();
        pods.iter().any(|(name, has)| name == pod && *has)
    }
}

fn expect(allowed: bool) -> Expect {
    if allowed { Expect::Allow } else { Expect::Deny }
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
