//! Cases held by the built filter under wasmtime: each pod has a process with its snapshot, and each
//! TCP connection passes the gate of the client's sidecar and that of the server's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::model::Direction;
use sidewall_policy::snapshot::Snapshot;

use super::route::masquerade;
use super::run::{Enforcer, run};
use super::spec::{PlaneName, Restart};
use super::told::Told;
use super::{Case, Compiled, Error, Question, Unmet};
use crate::wasm_host::{Connection, Plugin, Process};

/// The port that every client connects from.
const CLIENT_PORT: u16 = 40_000;

/// The sidecars of all pods, kept from case to case.
#[derive(Default)]
pub struct Wasm {
    sidecars: BTreeMap<String, Sidecar>,
}

struct Sidecar {
    process: Process,
    /// What it was given last.
    snapshot: Vec<u8>,
}

impl Wasm {
    /// Runs a case: what is not as it says, and where the filter's words are not those of the snapshot.
    ///
    /// # Errors
    ///
    /// When the filter is not built, refuses a snapshot or traps.
    pub fn run(&mut self, case: &Case) -> Result<Vec<Unmet>, Error> {
        if case.skip.contains_key(&PlaneName::Proxy) {
            return Ok(Vec::new());
        }
        run(case, self)
    }

    /// Asks a pod's sidecar about a connection: whether it lets pass, and what is wrong with what it
    /// tells.
    fn judge(
        &mut self,
        compiled: &Compiled,
        pod: &str,
        ends: (IpAddr, SocketAddr),
    ) -> Result<(bool, Vec<String>), Error> {
        let (source, destination) = ends;
        let (Some(sidecar), Some(snapshot)) = (self.sidecars.get_mut(pod), compiled.proxy.pod(pod))
        else {
            return Ok((false, vec![format!("{pod} has no sidecar")]));
        };
        let flow = Flow {
            source,
            destination: destination.ip(),
            protocol: 6,
            port: destination.port(),
        };
        let process = &mut sidecar.process;
        process.forget();
        let source = SocketAddr::new(source, CLIENT_PORT);
        let connection = Connection::new(&source.to_string(), &destination.to_string());
        let stream = process.connect(0, connection);
        let allowed = process.is_open(stream);
        let told = told(
            process,
            process.stream(stream).filter_state.get("sidewall_decision"),
        );
        process.finish(stream);
        let expected = expected(snapshot, &flow);
        let wrong = (told != expected)
            .then(|| format!("the sidecar of {pod} tells {told:?}, its snapshot {expected:?}"));
        Ok((allowed, wrong.into_iter().collect()))
    }

    fn ask_one(&mut self, compiled: &Compiled, question: &Question) -> Result<Vec<String>, Error> {
        let view = &compiled.proxy;
        let client = view.owner(question.source).map(|owner| owner.pod.clone());
        let mut found = Vec::new();
        let mut leaves = true;
        if let Some(client) = &client {
            let ends = (question.source, question.dialled);
            let (allowed, wrong) = self.judge(compiled, client, ends)?;
            leaves = allowed;
            found.extend(wrong);
        }
        let source = masquerade(compiled.cluster(), question, question.source);
        let mut arrives = Vec::new();
        for end in &question.ends {
            let server = view.owner(end.ip()).map(|owner| owner.pod.clone());
            match server.filter(|server| client.as_ref() != Some(server)) {
                Some(server) => {
                    let (allowed, wrong) = self.judge(compiled, &server, (source, *end))?;
                    arrives.push(leaves && allowed);
                    found.extend(wrong);
                }
                None => arrives.push(leaves),
            }
        }
        let as_expected = match question.expected {
            true => !arrives.is_empty() && arrives.iter().all(|allowed| *allowed),
            false => !arrives.iter().any(|allowed| *allowed),
        };
        if !as_expected {
            found.push(format!("the client's gate says {leaves}, both {arrives:?}"));
        }
        Ok(found
            .into_iter()
            .map(|found| question.unmet(found))
            .collect())
    }
}

impl Enforcer for Wasm {
    fn follow(&mut self, compiled: &Compiled) -> Result<(), Error> {
        let snapshots = &compiled.proxy.snapshots;
        self.sidecars.retain(|pod, _| snapshots.contains_key(pod));
        for (pod, snapshot) in snapshots {
            if !self.sidecars.contains_key(pod) {
                self.sidecars.insert(pod.clone(), Sidecar::new()?);
            }
            if let Some(sidecar) = self.sidecars.get_mut(pod) {
                sidecar.take(snapshot)?;
            }
        }
        Ok(())
    }

    /// Before it has a snapshot again, a sidecar lets nothing pass, in either direction.
    fn restart(&mut self, who: &Restart, compiled: &Compiled) -> Result<Vec<String>, Error> {
        let Restart::Sidecar(pod) = who else {
            return Ok(Vec::new());
        };
        let mut sidecar = Sidecar::new()?;
        let mut unmet = Vec::new();
        for ends in [
            ("192.0.2.1:1", "192.0.2.2:80"),
            ("[2001:db8::1]:1", "[2001:db8::2]:80"),
        ] {
            let stream = sidecar.process.connect(0, Connection::new(ends.0, ends.1));
            if sidecar.process.is_open(stream) {
                unmet.push(format!(
                    "the sidecar of {pod} has no snapshot and lets {ends:?} pass"
                ));
            }
        }
        if let Some(snapshot) = compiled.proxy.pod(pod) {
            sidecar.take(snapshot)?;
        }
        self.sidecars.insert(pod.clone(), sidecar);
        Ok(unmet)
    }

    fn ask(&mut self, compiled: &Compiled, questions: &[Question]) -> Result<Vec<String>, Error> {
        let mut unmet = Vec::new();
        for question in questions
            .iter()
            .filter(|each| each.concerns(PlaneName::Proxy))
        {
            unmet.extend(self.ask_one(compiled, question)?);
        }
        Ok(unmet)
    }
}

impl Sidecar {
    /// With a gate and no snapshot.
    fn new() -> Result<Self, Error> {
        let mut process = Process::new(1)?;
        process.load(Plugin::gate())?;
        Ok(Self {
            process,
            snapshot: Vec::new(),
        })
    }

    fn take(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        if self.snapshot != snapshot.bytes() {
            self.process.load(Plugin::carrier(snapshot.bytes()))?;
            self.snapshot = snapshot.bytes().to_vec();
        }
        Ok(())
    }
}

/// What a gate tells of a connection: its record, if it denies, and the word for access logs.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    record: Vec<Option<Told>>,
    access: String,
}

fn told(process: &Process, access: Option<&String>) -> Words {
    let records = process.records().unwrap_or_default();
    Words {
        record: records.iter().map(Told::by_record).collect(),
        access: access.cloned().unwrap_or_default(),
    }
}

/// The same, from the snapshot.
fn expected(snapshot: &Snapshot, flow: &Flow) -> Words {
    let decision = snapshot.judge(flow);
    let direction = decision.direction().map(Direction::as_str);
    let sides = Told::by(snapshot, flow, &decision);
    let deciding = sides
        .into_iter()
        .find(|told| Some(told.direction) == direction);
    let name = |(namespace, name): (&str, &str)| format!("{namespace}/{name}");
    let (verdict, policies) = match (decision.verdict, decision.would_deny(), &deciding) {
        (Verdict::Allow, false, _) => ("allow", snapshot.allowed_by(&decision).map(name).collect()),
        (Verdict::Allow, true, deciding) => ("would-deny", policies(deciding.as_ref())),
        (Verdict::Deny, _, deciding) => ("deny", policies(deciding.as_ref())),
    };
    let access = [vec![verdict.to_owned()], vec![policies.join(",")]].concat();
    Words {
        record: if verdict == "allow" {
            Vec::new()
        } else {
            vec![deciding]
        },
        access: access.join(" ").trim_end().to_owned(),
    }
}

fn policies(told: Option<&Told>) -> Vec<String> {
    told.map_or_else(Vec::new, |told| told.policies.clone())
}
