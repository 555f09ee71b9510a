//! Cases held by the policy engine alone: snapshots judged as sidecars and as nodes use them, and the
//! reference evaluator asked the same. No packet is sent.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::model::Direction;
use sidewall_policy::reference::{self, Opinion};
use sidewall_policy::snapshot::Snapshot;

use super::compiled::View;
use super::route::{hops, masquerade};
use super::run::{Enforcer, run};
use super::spec::{PlaneName, Restart};
use super::told::Told;
use super::{Case, Compiled, Error, Question, Unmet};

/// Runs a case: what is not as it says, of every step, question and plane; where the reference
/// evaluator is of another opinion than a snapshot; and where the index has another snapshot than
/// compiling everything from scratch gives.
///
/// # Errors
///
/// When the case cannot be run at all.
pub fn judge(case: &Case) -> Result<Vec<Unmet>, Error> {
    let skipped = case.skip.keys().copied().collect();
    run(case, &mut Engine { skipped })
}

struct Engine {
    /// Planes that the case does not concern.
    skipped: BTreeSet<PlaneName>,
}

/// What is said of a whole connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts {
    /// One for each end that it may have.
    pub(super) allowed: Vec<bool>,
    /// Every side that was judged on the way.
    pub(super) sides: Vec<Told>,
    /// Where the reference is of another opinion.
    disagreements: Vec<String>,
}

impl Enforcer for Engine {
    fn follow(&mut self, _: &Compiled) -> Result<(), Error> {
        Ok(())
    }

    fn restart(&mut self, _: &Restart, _: &Compiled) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn ask(&mut self, compiled: &Compiled, questions: &[Question]) -> Result<Vec<String>, Error> {
        let mut unmet: Vec<String> = compiled
            .outdated()
            .iter()
            .map(|who| format!("{who}: the index has another snapshot than compiling from scratch"))
            .collect();
        for question in questions {
            let mut told = Vec::new();
            for (plane, judge) in [
                (PlaneName::Proxy, by_sidecars as fn(&_, &_) -> Verdicts),
                (PlaneName::Node, by_nodes),
            ] {
                if !question.concerns(plane) || self.skipped.contains(&plane) {
                    continue;
                }
                let verdicts = judge(compiled, question);
                unmet.extend(verdicts.unmet(question, plane));
                told.push(verdicts);
            }
            if let [sidecars, nodes] = &told[..] {
                unmet.extend(sidecars.names_others(nodes, question));
            }
        }
        Ok(unmet)
    }
}

impl Verdicts {
    /// The verdict, if it is the same wherever the connection ends; where it ends nowhere, nobody
    /// answers.
    fn verdict(&self) -> Option<bool> {
        let all: BTreeSet<bool> = self.allowed.iter().copied().collect();
        match all.len() {
            0 => Some(false),
            1 => all.into_iter().next(),
            _ => None,
        }
    }

    fn unmet(&self, question: &Question, plane: PlaneName) -> Vec<String> {
        let sides = &self.sides;
        let mut unmet: Vec<String> = self
            .disagreements
            .iter()
            .map(|difference| question.unmet(format!("{plane:?}: {difference}")))
            .collect();
        let found = match self.verdict() {
            Some(allowed) if allowed == question.expected => None,
            Some(true) => Some("allowed"),
            Some(false) => Some("denied"),
            None => Some("allowed by some backends only"),
        };
        unmet.extend(found.map(|found| question.unmet(format!("{plane:?}: {found} by {sides:?}"))));
        if let Some(by) = &question.by
            && *by != self.named(question.expected)
        {
            let named = self.named(question.expected);
            unmet.push(question.unmet(format!("{plane:?}: {named:?} decide, not {by:?}")));
        }
        unmet
    }

    /// Who decides: the policies of the sides that deny, or the rules of those that allow.
    fn named(&self, allowed: bool) -> BTreeSet<String> {
        let sides = self.sides.iter().filter(|side| side.allows() == allowed);
        if allowed {
            sides.filter_map(|side| side.rule.clone()).collect()
        } else {
            sides.flat_map(|side| side.policies.clone()).collect()
        }
    }

    /// Sides that both planes deny and for which they name different policies.
    fn names_others(&self, nodes: &Self, question: &Question) -> Vec<String> {
        let denied = |verdicts: &Self| -> BTreeSet<_> {
            let sides = verdicts.sides.iter().filter(|side| !side.allows());
            sides
                .map(|side| (side.direction, side.pod.clone(), side.policies.clone()))
                .collect()
        };
        let (one, other) = (denied(self), denied(nodes));
        let differ = one.iter().filter(|(direction, pod, policies)| {
            let same_side =
                |side: &&(&str, String, Vec<String>)| side.0 == *direction && side.1 == *pod;
            other
                .iter()
                .any(|side| same_side(&side) && side.2 != *policies)
        });
        differ
            .map(|side| question.unmet(format!("sidecars name {side:?}, nodes {other:?}")))
            .collect()
    }

    /// Takes in what a snapshot and the reference say of the sides of some pods.
    fn take(
        &mut self,
        told: &[Told],
        opinion: &Opinion,
        is_judged: impl Fn(&Told) -> bool,
    ) -> bool {
        let of_reference = Told::by_reference(opinion).into_iter().filter(&is_judged);
        let of_reference: Vec<Told> = of_reference.collect();
        let mut told: Vec<Told> = told.to_vec();
        told.retain(is_judged);
        let same = told.len() == of_reference.len()
            && told
                .iter()
                .zip(&of_reference)
                .all(|(told, reference)| told.agrees(reference));
        if !same {
            self.disagreements.push(format!(
                "the snapshot says {told:?}, the reference {of_reference:?}"
            ));
        }
        let allows = told.iter().all(Told::allows);
        self.sides.extend(told);
        allows
    }
}

fn opinion(view: &View, flow: &Flow) -> Opinion {
    reference::judge(&view.cluster, &view.options, flow)
}

/// As the client's and the server's sidecars judge.
pub(super) fn by_sidecars(compiled: &Compiled, question: &Question) -> Verdicts {
    let view = &compiled.proxy;
    let mut verdicts = Verdicts::default();
    let mut leaves = true;
    if let Some(client) = view
        .owner(question.source)
        .and_then(|owner| view.pod(&owner.pod))
    {
        let flow = flow(question, question.source, question.dialled);
        let told = side(client, &flow, Direction::Egress);
        let opinion = opinion(view, &flow);
        leaves = verdicts.take(&told, &opinion, |told| told.direction == "egress");
    }
    let source = masquerade(compiled.cluster(), question, question.source);
    for end in &question.ends {
        let mut allowed = leaves;
        let is_itself = |server: &str| {
            let client = view.owner(question.source);
            client.is_some_and(|client| client.pod == server)
        };
        if let Some(server) = view
            .owner(end.ip())
            .filter(|server| !is_itself(&server.pod))
            && let Some(snapshot) = view.pod(&server.pod)
        {
            let flow = flow(question, source, *end);
            let told = side(snapshot, &flow, Direction::Ingress);
            let opinion = opinion(view, &flow);
            allowed &= verdicts.take(&told, &opinion, |told| told.direction == "ingress");
        }
        verdicts.allowed.push(allowed);
    }
    if question.ends.is_empty() && leaves {
        // Let go, and then there is nobody.
        verdicts.allowed.clear();
    }
    verdicts
}

/// As the kernels of the nodes on the way judge.
pub(super) fn by_nodes(compiled: &Compiled, question: &Question) -> Verdicts {
    let view = &compiled.node;
    let mut verdicts = Verdicts::default();
    for end in &question.ends {
        let mut allowed = true;
        for hop in hops(compiled, question, *end) {
            let Some(snapshot) = view.node(&hop.node) else {
                allowed = false;
                continue;
            };
            let decision = snapshot.judge(&hop.flow);
            let told = Told::by(snapshot, &hop.flow, &decision);
            let opinion = opinion(view, &hop.flow);
            let subjects: BTreeSet<String> = snapshot
                .subjects()
                .map(|subject| format!("{}/{}", subject.namespace, subject.name))
                .collect();
            allowed &= verdicts.take(&told, &opinion, |told| subjects.contains(&told.pod));
            allowed &= !is_unknown(compiled, &hop.node, &hop.flow);
        }
        verdicts.allowed.push(allowed);
    }
    verdicts
}

/// Whether an end is in the range of the node's pods, but no pod.
fn is_unknown(compiled: &Compiled, node: &str, flow: &Flow) -> bool {
    let ranges = compiled.pod_cidrs.get(node).map_or(&[][..], Vec::as_slice);
    [flow.source, flow.destination].into_iter().any(|address| {
        let owner = compiled.node.owner(address);
        let is_here = owner.is_some_and(|owner| owner.node.as_deref() == Some(node));
        !is_here && ranges.iter().any(|range| range.contains(&address))
    })
}

fn side(snapshot: &Snapshot, flow: &Flow, direction: Direction) -> Vec<Told> {
    let decision = snapshot.judge(flow);
    let mut told = Told::by(snapshot, flow, &decision);
    told.retain(|told| told.direction == direction.as_str());
    debug_assert!(!told.is_empty() || decision.verdict == Verdict::Allow);
    told
}

fn flow(question: &Question, source: std::net::IpAddr, destination: SocketAddr) -> Flow {
    Flow {
        source,
        destination: destination.ip(),
        protocol: question.protocol_number(),
        port: destination.port(),
    }
}
