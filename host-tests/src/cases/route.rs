//! The nodes that a connection passes, and what it looks like to each behind the choice of a Service's
//! backend.

use std::net::{IpAddr, SocketAddr};

use sidewall_policy::eval::Flow;
use sidewall_policy::model::Cluster;

use super::compiled::View;
use super::{Compiled, Question};
use crate::lab::Party;

/// A node whose rules a connection meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// The node.
    pub(super) node: String,
    /// What its rules see.
    pub(super) flow: Flow,
}

/// The way to one of the question's ends, node by node. What a node's own processes send meets no rules
/// there.
pub(super) fn hops(compiled: &Compiled, question: &Question, end: SocketAddr) -> Vec<Hop> {
    let view = &compiled.node;
    let mut hops = Vec::new();
    let flow = |source, destination: SocketAddr| Flow {
        source,
        destination: destination.ip(),
        protocol: question.protocol_number(),
        port: destination.port(),
    };
    let node_of = |address| view.owner(address)?.node.clone();
    let start = start(compiled, view, question);
    let target = node_of(end.ip());
    // A node translates what is dialled unless that is a port of another one.
    let translates =
        |node: Option<&String>| question.node_port.is_none() || question.node_port.as_ref() == node;
    let mut source = question.source;
    let first = if translates(start.as_ref()) {
        end
    } else {
        question.dialled
    };
    let is_pods = view.owner(question.source).is_some();
    if let Some(node) = start.as_ref().filter(|_| is_pods) {
        hops.push(Hop {
            node: node.clone(),
            flow: flow(source, first),
        });
    }
    if start.is_some() && question.node_port == start {
        source = masquerade(compiled.cluster(), question, source);
    } else if let Some(node) = &question.node_port {
        hops.push(Hop {
            node: node.clone(),
            flow: flow(source, end),
        });
        if target.as_ref() != Some(node) {
            source = masquerade(compiled.cluster(), question, source);
        }
    }
    if let Some(node) = target
        && hops.last().is_none_or(|hop| hop.node != node)
        && (start.as_ref() != Some(&node) || question.node_port.is_some())
    {
        hops.push(Hop {
            node,
            flow: flow(source, end),
        });
    }
    hops
}

/// The node that a question is asked from.
fn start(compiled: &Compiled, view: &View, question: &Question) -> Option<String> {
    match &question.from {
        Party::Pod(name) => match view.owner(question.source) {
            Some(owner) => owner.node.clone(),
            // A pod on its node's network.
            None => {
                let mut pods = compiled.cluster().pods.values();
                let pod = pods.find(|pod| pod.id.to_string() == *name)?;
                pod.node.as_ref().map(ToString::to_string)
            }
        },
        Party::Node(name) => Some(name.clone()),
        Party::External(_) => None,
    }
}

/// The source that the backends behind a node's port see.
pub(super) fn masquerade(cluster: &Cluster, question: &Question, source: IpAddr) -> IpAddr {
    let Some(name) = &question.node_port else {
        return source;
    };
    let node = cluster.nodes.get(name.as_str());
    let mut addresses = node.into_iter().flat_map(|node| &node.addresses);
    let same = addresses.find(|ip| ip.is_ipv4() == source.is_ipv4());
    same.copied().unwrap_or(source)
}
