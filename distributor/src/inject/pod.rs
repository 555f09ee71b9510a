//! One pod, or the template of one.

use serde_json::Value;

use super::tree::Tree;
use super::{Error, Parts};
use crate::readiness::CONDITION;

/// Says on a pod whether it has a sidecar.
const SIDECAR: &str = "sidewall.dev/sidecar";

/// User and group of Envoy, whose connections are not redirected.
const PROXY_ID: u64 = 1337;

/// Ports of Envoy in the pod's network.
const PROXY_PORTS: [u64; 3] = [15_000, 15_001, 15_006];

/// Why no sidecar can stand for a pod, or should.
pub(super) fn reason_to_skip(template: &Tree) -> Option<&'static str> {
    let is_true = |path: &[&str]| template.at(path) == Some(&Tree::Scalar(Value::Bool(true)));
    let annotation = |name: &str| {
        let found = template.at(&["metadata", "annotations", name]);
        found.and_then(Tree::text)
    };
    if is_true(&["spec", "hostNetwork"]) {
        Some(
            "hostNetwork: a sidecar would redirect the connections of its whole node; NetworkPolicies mean the node there",
        )
    } else if annotation(SIDECAR) == Some("false") {
        Some("its annotation sidewall.dev/sidecar says so")
    } else if annotation("sidecar.istio.io/status").is_some()
        || containers(template).any(|(_, container)| container.name() == "istio-proxy")
    {
        Some("it has Istio's sidecar; patch that one instead (docs/how-to/istio.md)")
    } else if template.at(&["spec", "os", "name"]).and_then(Tree::text) == Some("windows") {
        Some("os.name is windows: connections are redirected by Linux")
    } else {
        None
    }
}

/// Makes sure that nothing in a pod goes round its sidecar.
pub(super) fn check(template: &Tree, object: &str) -> Result<(), Error> {
    let uncovered = |field: String, reason: String| {
        Err(Error::Uncovered {
            object: object.to_owned(),
            field,
            reason,
        })
    };
    let number = |tree: Option<&Tree>| match tree {
        Some(Tree::Scalar(value)) => value.as_u64(),
        _ => None,
    };
    let own = |container: &Tree| super::parts::NAMES.contains(&container.name());
    let pod = template.get("spec").into_iter();
    let pod = pod.map(|spec| ("spec".to_owned(), spec));
    let everything = containers(template)
        .filter(|(_, container)| !own(container))
        .map(|(list, container)| (format!("spec.{list}[{}]", container.name()), container))
        .chain(pod);
    for (path, part) in everything {
        for field in ["runAsUser", "runAsGroup"] {
            if number(part.at(&["securityContext", field])) == Some(PROXY_ID) {
                return uncovered(
                    format!("{path}.securityContext.{field}"),
                    format!(
                        "{PROXY_ID} is Envoy's own, whose connections no policy decides; run as another"
                    ),
                );
            }
        }
        for port in part.get("ports").map_or(&[][..], Tree::items) {
            let taken = number(port.get("containerPort"));
            if let Some(taken) = taken.filter(|port| PROXY_PORTS.contains(port)) {
                return uncovered(
                    format!("{path}.ports"),
                    format!("{taken} is a port of the sidecar's Envoy; use another"),
                );
            }
        }
    }
    Ok(())
}

/// Adds what a sidecar needs. What an earlier run has added is replaced.
pub(super) fn inject(template: &mut Tree, parts: &Parts) {
    template.set(&["metadata", "annotations", SIDECAR], "true".into());

    // First, so that the init containers of the pod are covered, too.
    let path = ["spec", "initContainers"];
    let mut first = parts.init_containers.clone();
    first.extend(others(template.at(&path), &parts.init_containers));
    template.set(&path, Tree::List(first));

    let path = ["spec", "volumes"];
    let mut volumes = others(template.at(&path), &parts.volumes);
    volumes.extend(parts.volumes.iter().cloned());
    template.set(&path, Tree::List(volumes));

    if parts.readiness_gate {
        add_readiness_gate(template);
    }
}

/// Adds the gate behind those that the pod has, unless it is one of them.
fn add_readiness_gate(template: &mut Tree) {
    let path = ["spec", "readinessGates"];
    let mut gates = template.at(&path).map_or(&[][..], Tree::items).to_vec();
    let kind = |gate: &Tree| gate.get("conditionType").and_then(Tree::text) == Some(CONDITION);
    if !gates.iter().any(kind) {
        let field = ("conditionType".to_owned(), CONDITION.into());
        gates.push(Tree::Map(vec![field]));
        template.set(&path, Tree::List(gates));
    }
}

/// Items that do not have the name of one of ours.
fn others(list: Option<&Tree>, ours: &[Tree]) -> Vec<Tree> {
    let is_ours = |item: &&Tree| ours.iter().any(|our| our.name() == item.name());
    let items = list.map_or(&[][..], Tree::items).iter();
    items.filter(|item| !is_ours(item)).cloned().collect()
}

/// Every container with the list it is in.
fn containers(template: &Tree) -> impl Iterator<Item = (&'static str, &Tree)> {
    let lists = ["initContainers", "containers"];
    lists.into_iter().flat_map(move |list| {
        let items = template.at(&["spec", list]).map_or(&[][..], Tree::items);
        items.iter().map(move |container| (list, container))
    })
}
