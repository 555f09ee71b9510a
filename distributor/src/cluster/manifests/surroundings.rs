//! What a folder of manifests takes for granted: namespaces and nodes.
//!
//! An API server has no pod without its namespace, and a pod's node is known. In a folder both may
//! be missing, and that has consequences somebody should hear of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sidewall_policy::model::{Mode, Namespace};

use crate::cluster::event::{Kind, Object, ObjectRef};
use crate::problem::Problem;

/// Namespaces that every API server makes by itself.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Adds the namespaces that are always there, and tells of those and the nodes that are missing.
pub(super) fn complete(objects: &mut BTreeMap<ObjectRef, Object>) -> Vec<Problem> {
    for name in BUILT_IN {
        let reference = ObjectRef::cluster_scoped(Kind::Namespace, name);
        objects
            .entry(reference)
            .or_insert_with(|| Object::Namespace(built_in(name)));
    }
    let mut namespaces: BTreeSet<&Arc<str>> = BTreeSet::new();
    let mut nodes: BTreeSet<&Arc<str>> = BTreeSet::new();
    for object in objects.values() {
        if let Object::Pod(pod) = object {
            namespaces.insert(&pod.id.namespace);
            nodes.extend(&pod.node);
        }
    }
    let missing = |kind: Kind, name: &Arc<str>, consequence: &str| {
        let reference = ObjectRef::cluster_scoped(kind, Arc::clone(name));
        (!objects.contains_key(&reference)).then(|| Problem {
            object: reference.to_string(),
            field: String::new(),
            reason: format!("pods refer to it, but no manifest defines this {kind}"),
            consequence: consequence.to_owned(),
        })
    };
    let without_labels = "its labels are not known: no namespaceSelector matches its pods";
    let without_addresses =
        "its addresses are not known: traffic of its own processes is judged like any other";
    let namespaces = namespaces
        .into_iter()
        .filter_map(|name| missing(Kind::Namespace, name, without_labels));
    let nodes = nodes
        .into_iter()
        .filter_map(|name| missing(Kind::Node, name, without_addresses));
    namespaces.chain(nodes).collect()
}

fn built_in(name: &str) -> Namespace {
    Namespace {
        tcp_path: None,
        name: name.into(),
        labels: [("kubernetes.io/metadata.name", name)]
            .into_iter()
            .collect(),
        mode: Mode::Enforce,
    }
}
