//! What enforces the policies of a lab.

use sidewall_policy::model::TcpPath;

/// Which of the two places of enforcement a lab has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Plane {
    /// Sidecars alone, one in every pod that does not say `sidewall.dev/sidecar: "false"`.
    #[default]
    Proxy,
    /// Nodes alone: the agent `sidewall node` on each. No pod has a sidecar.
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

/// Which pods without a sidecar have their TCP carried by the Envoy of their node, as the chart's `node.redirect`
/// says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Redirect {
    /// None: nodes have no Envoy, and the kernel decides alone.
    #[default]
    Never,
    /// Those with `sidewall.dev/redirect: "true"`, on the pod or its namespace.
    OnRequest,
    /// All but those with `"false"`.
    All,
}

impl Redirect {
    /// Whether nodes have an Envoy.
    #[must_use]
    pub fn has_envoys(self) -> bool {
        self != Self::Never
    }

    /// The path of pods that name none.
    #[must_use]
    pub fn default_path(self) -> TcpPath {
        match self {
            Self::Never | Self::OnRequest => TcpPath::Kernel,
            Self::All => TcpPath::NodeProxy,
        }
    }
}
