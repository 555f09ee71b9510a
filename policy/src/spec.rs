//! Raw NetworkPolicy input: the shape of `networking.k8s.io/v1`, before defaulting and validation.
//!
//! Absence is kept (`Option`) because the API gives it meaning (`semantics 1A`). Whoever reads
//! manifests or an API server fills these in; [`crate::admit`] turns them into [`crate::model`].

/// `metadata` and `spec` of a NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkPolicy {
    /// `metadata.namespace`; `None` or empty means `default` (`semantics A21`).
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// The value of the annotation `sidewall.dev/mode`, if there is one: `enforce` or `audit`.
    pub mode: Option<String>,
    /// `spec.podSelector`.
    pub pod_selector: Option<LabelSelector>,
    /// `spec.policyTypes`.
    pub policy_types: Option<Vec<String>>,
    /// `spec.ingress`.
    pub ingress: Option<Vec<Rule>>,
    /// `spec.egress`.
    pub egress: Option<Vec<Rule>>,
}

/// An ingress or egress rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// `from` or `to`.
    pub peers: Option<Vec<Peer>>,
    /// `ports`.
    pub ports: Option<Vec<Port>>,
}

/// A NetworkPolicyPeer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// `podSelector`.
    pub pod_selector: Option<LabelSelector>,
    /// `namespaceSelector`.
    pub namespace_selector: Option<LabelSelector>,
    /// `ipBlock`.
    pub ip_block: Option<IpBlock>,
}

/// An IPBlock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpBlock {
    /// `cidr`.
    pub cidr: String,
    /// `except`.
    pub except: Option<Vec<String>>,
}

/// A NetworkPolicyPort.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Port {
    /// `protocol`.
    pub protocol: Option<String>,
    /// `port`.
    pub port: Option<IntOrString>,
    /// `endPort`.
    pub end_port: Option<i32>,
}

/// A number or a name.
#[derive(Clone, Debug, PartialEq)]
pub enum IntOrString {
    /// A port number, not yet checked.
    Int(i32),
    /// A port name, not yet checked.
    String(String),
}

/// A `metav1.LabelSelector`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector {
    /// `matchLabels`, in any order.
    pub match_labels: Vec<(String, String)>,
    /// `matchExpressions`.
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// A `metav1.LabelSelectorRequirement`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelectorRequirement {
    /// `key`.
    pub key: String,
    /// `operator`.
    pub operator: String,
    /// `values`.
    pub values: Vec<String>,
}
