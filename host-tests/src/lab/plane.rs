//! What enforces the policies of a lab.

/// Which of the two places of enforcement a lab has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Plane {
    /// Sidecars alone, one in every pod that does not say `sidewall.dev/sidecar: "false"`.
    #[default]
    Proxy,
    /// Nodes alone: on each the agent `sidewall node` and one Envoy. No pod has a sidecar.
    Node,
    /// Nodes, and sidecars in the pods that say they have one: by `sidewall.dev/sidecar: "true"`,
    /// Istio's status annotation, or a container named `istio-proxy`.
    Both,
}

impl Plane {
    /// Whether nodes enforce.
    #[must_use]
    pub fn has_nodes(self) -> bool {
        self != Self::Proxy
    }
}
