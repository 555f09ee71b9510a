//! A sidecar's configuration in the shape that Istio gives it, as files for an Envoy.

use serde_json::{Value, json};

/// Where the EnvoyFilter has the module.
const MODULE: &str = "/etc/sidewall/sidewall_filter.wasm";

/// The whole configuration of a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What Envoy starts with.
    pub bootstrap: Value,
    /// What the control plane sends as clusters.
    pub clusters: Vec<Value>,
    /// What it sends as listeners for what comes in.
    pub inbound: Vec<Value>,
    /// What it sends as listeners for what leaves.
    pub outbound: Vec<Value>,
}

impl Sample {
    /// The one in `host-tests/examples/istio`, before any patch.
    ///
    /// # Errors
    ///
    /// When a file is not YAML of the right type.
    pub fn read() -> Result<Self, serde_saphyr::Error> {
        Ok(Self {
            bootstrap: serde_saphyr::from_str(include_str!("../../examples/istio/bootstrap.yaml"))?,
            clusters: serde_saphyr::from_str(include_str!("../../examples/istio/clusters.yaml"))?,
            inbound: serde_saphyr::from_str(include_str!("../../examples/istio/inbound.yaml"))?,
            outbound: serde_saphyr::from_str(include_str!("../../examples/istio/outbound.yaml"))?,
        })
    }

    /// All listeners.
    pub fn listeners(&self) -> impl Iterator<Item = &Value> {
        self.inbound.iter().chain(&self.outbound)
    }

    /// The files that the bootstrap names, `listeners.json` and `clusters.json`, as templates whose
    /// distributor and module are the placeholders of `envoy/`.
    ///
    /// `None` when there is no cluster `sidewall-distributor` with one address.
    #[must_use]
    pub fn file_templates(&self) -> Option<Vec<(String, String)>> {
        let mut clusters = self.clusters.clone();
        let distributor = clusters
            .iter_mut()
            .find(|cluster| cluster["name"] == "sidewall-distributor")?;
        let address = distributor.pointer_mut(
            "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address",
        )?;
        // As a string, for JSON has no other place for a placeholder; Envoy reads it as a number.
        *address = json!({"address": "${SIDEWALL_HOST}", "port_value": "${SIDEWALL_PORT}"});
        let listener = "type.googleapis.com/envoy.config.listener.v3.Listener";
        let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let listeners = response(listener, self.listeners()).replace(MODULE, "${SIDEWALL_WASM}");
        Some(vec![
            ("listeners.json".to_owned(), listeners),
            ("clusters.json".to_owned(), response(cluster, &clusters)),
        ])
    }
}

/// A discovery response in the form that Envoy reads from files.
fn response<'a>(type_url: &str, resources: impl IntoIterator<Item = &'a Value>) -> String {
    let resources: Vec<_> = resources
        .into_iter()
        .map(|resource| {
            let mut resource = resource.clone();
            resource["@type"] = type_url.into();
            resource
        })
        .collect();
    json!({"version_info": "1", "resources": resources}).to_string()
}
