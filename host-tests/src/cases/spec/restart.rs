//! Who may be restarted.

use serde::Deserialize;

/// A process that ends without notice and is started again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Restart {
    /// `distributor`.
    Distributor,
    /// `agent NODE`.
    Agent(String),
    /// `envoy NODE`: the node's.
    NodeEnvoy(String),
    /// `sidecar NAMESPACE/POD`.
    Sidecar(String),
}

impl TryFrom<String> for Restart {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(' ') {
            None if text == "distributor" => Ok(Self::Distributor),
            Some(("agent", node)) => Ok(Self::Agent(node.to_owned())),
            Some(("envoy", node)) => Ok(Self::NodeEnvoy(node.to_owned())),
            Some(("sidecar", pod)) if pod.contains('/') => Ok(Self::Sidecar(pod.to_owned())),
            _ => Err(format!(
                "{text:?} cannot be restarted: write distributor, agent NODE, envoy NODE or sidecar NAMESPACE/POD"
            )),
        }
    }
}
