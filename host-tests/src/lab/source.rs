//! Where the distributor of a lab gets its objects from.

/// Where the distributor reads the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// From the folder of manifests.
    #[default]
    Manifests,
    /// From an API server, to which the manifests are applied with `kubectl`.
    Kube,
}
