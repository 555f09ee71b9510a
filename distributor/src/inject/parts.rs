//! What a pod gets: `parts.yaml` beside this file, filled in.

use serde_json::Value;

use super::tree::Tree;
use super::{Endpoint, Error};

/// The names of the containers that are added.
pub(super) const NAMES: [&str; 2] = ["sidewall-redirect", "sidewall-sidecar"];

const PARTS: &str = include_str!("parts.yaml");
const BOOTSTRAP: &str = include_str!("../../../envoy/sidecar.yaml");

/// Where the image has the filter.
const FILTER: &str = "/etc/sidewall/sidewall_filter.wasm";

/// Where the image says where Envoy finds its token and the distributor's CA: in the volume that is added.
const SECRETS: &str = "/etc/sidewall/sds";

/// Containers and volumes, ready to be put into a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    pub(super) init_containers: Vec<Tree>,
    pub(super) volumes: Vec<Tree>,
    /// Whether a pod gets the readiness gate, too.
    pub readiness_gate: bool,
}

impl Parts {
    /// Fills them in. `name` is what the distributor's certificate is for, if that is not its host.
    ///
    /// # Errors
    ///
    /// When the bootstrap asks for something that this does not know, which is a mistake in this
    /// command.
    pub fn new(image: &str, distributor: &Endpoint, name: Option<&str>) -> Result<Self, Error> {
        let bootstrap = bootstrap(distributor, name.unwrap_or(&distributor.host))?;
        let mut parts: Tree =
            serde_saphyr::from_str(PARTS).map_err(|error| Error::Bootstrap(error.to_string()))?;
        parts.each_text(&|text| match text.as_str() {
            "IMAGE" => image.clone_into(text),
            "BOOTSTRAP" => bootstrap.clone_into(text),
            _ => {}
        });
        let list = |name| parts.get(name).map_or(&[][..], Tree::items).to_vec();
        Ok(Self {
            init_containers: list("initContainers"),
            volumes: list("volumes"),
            readiness_gate: false,
        })
    }
}

/// The sidecar's bootstrap in one line of JSON, which Envoy takes on its command line.
fn bootstrap(distributor: &Endpoint, name: &str) -> Result<String, Error> {
    let text = BOOTSTRAP
        .replace("${SIDEWALL_HOST}", &distributor.host)
        .replace("${SIDEWALL_NAME}", name)
        .replace("${SIDEWALL_PORT}", &distributor.port.to_string())
        .replace("${SIDEWALL_WASM}", FILTER)
        .replace("${SIDEWALL_SDS}", SECRETS);
    let bootstrap: Value =
        serde_saphyr::from_str(&text).map_err(|error| Error::Bootstrap(error.to_string()))?;
    let text = bootstrap.to_string();
    // Kubernetes would replace $(NAME), and ${NAME} was meant to be filled in.
    if text.contains("$(") || text.contains("${") {
        return Err(Error::Bootstrap("a placeholder is left in it".to_owned()));
    }
    Ok(text)
}
