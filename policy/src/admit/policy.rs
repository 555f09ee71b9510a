//! The policy as a whole: identity, policy types and rules (`semantics 1A`).

use super::field::Path;
use super::{Admitted, Findings, invalid, mode, names, peer, port, selector};
use crate::model::{Direction, NamespacedName, NetworkPolicy, Peers, Ports, Rule, Selector};
use crate::spec;

/// Defaults and validates one policy. Never fails: see the module's table for what becomes of
/// flawed pieces.
pub fn admit(raw: &spec::NetworkPolicy) -> Admitted {
    let mut findings = Findings::default();
    let id = identity(raw, &mut findings);
    let (mode, flaw) = mode(raw.mode.as_deref());
    findings.0.extend(flaw);

    let spec = Path::root("spec");
    let pod_selector = match &raw.pod_selector {
        None => Some(Selector::everything()),
        Some(raw) => selector::read(
            raw,
            spec.field("podSelector"),
            "the policy isolates every pod of its namespace and allows nothing",
            &mut findings,
        ),
    };
    let types = PolicyTypes::read(raw, spec.field("policyTypes"), &mut findings);
    // Rules of a direction that policyTypes leaves out are validated like any other and then
    // ignored (`semantics A5`, `A6`).
    let mut side = |direction: Direction, raw: &Option<Vec<spec::Rule>>| {
        let path = spec.field(direction.as_str());
        let rules = rules(direction, raw.as_deref(), path, &mut findings);
        match types.effect(direction) {
            Effect::None => None,
            Effect::Rules if pod_selector.is_some() => Some(rules),
            Effect::Rules | Effect::Closed => Some(Vec::new()),
        }
    };
    let ingress = side(Direction::Ingress, &raw.ingress);
    let egress = side(Direction::Egress, &raw.egress);

    Admitted {
        policy: NetworkPolicy {
            id,
            pod_selector: pod_selector.unwrap_or_else(Selector::everything),
            ingress,
            egress,
            mode,
        },
        violations: findings.0,
    }
}

fn identity(raw: &spec::NetworkPolicy, findings: &mut Findings) -> NamespacedName {
    let metadata = Path::root("metadata");
    let namespace = match raw.namespace.as_deref() {
        None | Some("") => "default",
        Some(namespace) => namespace,
    };
    if raw.name.is_empty() {
        findings.refuse(
            metadata.field("name"),
            "Required value: a name is required",
            "the policy is in effect without a name",
        );
    } else if let Err(why) = names::dns_subdomain(&raw.name) {
        findings.refuse(
            metadata.field("name"),
            invalid(&raw.name, why),
            "the policy is in effect under this name",
        );
    }
    if let Err(why) = names::dns_label(namespace) {
        findings.refuse(
            metadata.field("namespace"),
            invalid(namespace, why),
            "the policy selects nothing: no pod can live in this namespace",
        );
    }
    NamespacedName::new(namespace, raw.name.as_str())
}

/// `spec.policyTypes`, defaulted (`semantics A3`).
#[derive(Debug)]
struct PolicyTypes {
    ingress: bool,
    egress: bool,
    /// Something in the list was refused, so what it does not name may still have been meant.
    flawed: bool,
}

/// What a policy does in one direction.
enum Effect {
    /// It does not isolate.
    None,
    /// It isolates, and its rules allow.
    Rules,
    /// It isolates and allows nothing.
    Closed,
}

impl PolicyTypes {
    fn read(raw: &spec::NetworkPolicy, path: Path<'_>, findings: &mut Findings) -> Self {
        const CLOSED: &str =
            "both directions are isolated, and one that is not named allows nothing";
        let before = findings.0.len();
        let given = raw.policy_types.as_deref().unwrap_or_default();
        if given.is_empty() {
            return Self {
                ingress: true,
                egress: raw.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
                flawed: false,
            };
        }
        if given.len() > 2 {
            let reason = invalid(given, "may not specify more than two policyTypes");
            findings.refuse(path, reason, CLOSED);
        }
        for (index, name) in given.iter().enumerate() {
            if !matches!(name.as_str(), "Ingress" | "Egress") {
                let reason = invalid(name, "supported values: \"Ingress\", \"Egress\"");
                findings.refuse(path.index(index), reason, CLOSED);
            }
        }
        // Doubles are legal: it is a set (`semantics A7`).
        let names = |wanted| given.iter().any(|name| name == wanted);
        Self {
            ingress: names("Ingress"),
            egress: names("Egress"),
            flawed: findings.0.len() > before,
        }
    }

    fn effect(&self, direction: Direction) -> Effect {
        let named = match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        };
        match (named, self.flawed) {
            (true, _) => Effect::Rules,
            (false, true) => Effect::Closed,
            (false, false) => Effect::None,
        }
    }
}

/// Reads the rules of one direction. Every rule stays in its place, even one that matches nothing
/// any more: indexes are what users see.
fn rules(
    direction: Direction,
    raw: Option<&[spec::Rule]>,
    path: Path<'_>,
    findings: &mut Findings,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, raw) in (0u32..).zip(raw.unwrap_or_default()) {
        let path = path.index(index as usize);
        let peers = match raw.peers.as_deref() {
            None | Some([]) => Peers::Any,
            Some(items) => {
                let list = path.field(direction.peers_field());
                let read = |(i, item)| peer::read(item, list.index(i), findings);
                Peers::Of(items.iter().enumerate().filter_map(read).collect())
            }
        };
        let ports = match raw.ports.as_deref() {
            None | Some([]) => Ports::Any,
            Some(items) => {
                let list = path.field("ports");
                let read = |(i, item)| port::read(item, list.index(i), findings);
                Ports::Of(items.iter().enumerate().filter_map(read).collect())
            }
        };
        rules.push(Rule {
            index,
            peers,
            ports,
        });
    }
    rules
}
