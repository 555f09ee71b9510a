//! Bootstraps of Envoys to be measured: the listeners are made for measuring, the gate and the
//! carrier in them are those of `envoy/sidecar.yaml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::world::{PORTS, SUBJECT};
use crate::envoy::{ADMIN, template};

/// What stands in front of every chain.
#[derive(Clone, Debug)]
pub enum Front {
    /// No filter.
    Nothing,
    /// A wasm filter without a configuration.
    Wasm(PathBuf),
    /// Sidewall: gates, and a carrier that reads its snapshot from a file.
    Sidewall {
        /// The filter.
        module: PathBuf,
        /// The first snapshot.
        snapshot: Vec<u8>,
    },
    /// Envoy's own network RBAC, allowing these addresses.
    Rbac(Vec<Ipv4Addr>),
}

/// Where the listeners of a bootstrap are, and where they lead.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Answers and closes at once, without an upstream.
    pub answering: SocketAddr,
    /// Leads to an echo server.
    pub echoing: (SocketAddr, SocketAddr),
    /// Leads to a server of much data.
    pub streaming: (SocketAddr, SocketAddr),
}

impl Default for Places {
    fn default() -> Self {
        let port = |index| SocketAddr::from((SUBJECT, PORTS.start() + index));
        let server = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            answering: port(0),
            echoing: (port(1), server(9000)),
            streaming: (port(2), server(9001)),
        }
    }
}

/// Makes a bootstrap with these listeners and `more` that nobody connects to.
///
/// # Errors
///
/// When `envoy/sidecar.yaml` has no gate or no carrier where they are expected.
pub fn bootstrap(front: &Front, carried: &Path, more: u16) -> Result<String> {
    let filter = first_filter(front)?;
    let chain = |last: Value| -> Vec<Value> { filter.iter().cloned().chain([last]).collect() };
    let places = Places::default();
    let answer = json!({
        "name": "envoy.filters.network.direct_response",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
            "response": {"inline_string": "ok"},
        },
    });
    let mut listeners = vec![
        listener("answering", places.answering, &chain(answer.clone())),
        listener("echoing", places.echoing.0, &chain(proxy("echoing"))),
        listener("streaming", places.streaming.0, &chain(proxy("streaming"))),
    ];
    for index in 0..more {
        let address = SocketAddr::from((SUBJECT, 20_000 + index));
        listeners.push(listener(
            &format!("idle-{index}"),
            address,
            &chain(answer.clone()),
        ));
    }
    if let Front::Sidewall { module, .. } = front {
        let template = sidecar(module)?;
        let mut carrier = found(&template, "/static_resources/listeners/2")?;
        carrier["filter_chains"][0]["filters"] = json!([
            {
                "name": "sidewall",
                "config_discovery": {
                    "type_urls": ["type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm"],
                    "config_source": {
                        "resource_api_version": "V3",
                        "initial_fetch_timeout": "0s",
                        "path_config_source": {"path": carried},
                    },
                },
            },
            answer,
        ]);
        listeners.push(carrier);
    }
    let bootstrap = json!({
        "admin": {"address": address(ADMIN)},
        "static_resources": {
            "listeners": listeners,
            "clusters": [cluster("echoing", places.echoing.1), cluster("streaming", places.streaming.1)],
        },
    });
    Ok(bootstrap.to_string())
}

/// The discovery response that hands a snapshot to the carrier.
///
/// # Errors
///
/// As [`bootstrap`].
pub fn carrying(module: &Path, snapshot: &[u8], version: u32) -> Result<String> {
    let gate = gate(module)?;
    let mut plugin = gate["typed_config"].clone();
    plugin["config"]["name"] = json!("sidewall-carrier");
    plugin["config"]["configuration"] = json!({
        "@type": "type.googleapis.com/google.protobuf.BytesValue",
        "value": base64(snapshot),
    });
    let response = json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "sidewall",
            "typed_config": plugin,
        }],
    });
    Ok(response.to_string())
}

fn first_filter(front: &Front) -> Result<Option<Value>> {
    Ok(match front {
        Front::Nothing => None,
        Front::Sidewall { module, .. } => Some(gate(module)?),
        Front::Wasm(module) => {
            let mut filter = gate(module)?;
            let plugin = filter["typed_config"]["config"].as_object_mut();
            let plugin = plugin.context("the gate of envoy/sidecar.yaml has no config")?;
            plugin.remove("configuration");
            Some(filter)
        }
        Front::Rbac(allowed) => {
            let principal =
                |ip: &Ipv4Addr| json!({"remote_ip": {"address_prefix": ip, "prefix_len": 32}});
            let principals: Vec<_> = allowed.iter().map(principal).collect();
            Some(json!({
                "name": "envoy.filters.network.rbac",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
                    "stat_prefix": "bench",
                    "rules": {"policies": {"bench": {
                        "permissions": [{"any": true}],
                        "principals": [{"or_ids": {"ids": principals}}],
                    }}},
                },
            }))
        }
    })
}

/// The gate as users deploy it.
fn gate(module: &Path) -> Result<Value> {
    found(
        &sidecar(module)?,
        "/static_resources/listeners/0/filter_chains/2/filters/0",
    )
}

fn sidecar(module: &Path) -> Result<Value> {
    let module = module.to_string_lossy();
    let values = [
        ("SIDEWALL_HOST", "192.0.2.1"),
        ("SIDEWALL_PORT", "18000"),
        ("SIDEWALL_WASM", &module),
    ];
    let rendered = template::render(&template::plaintext(template::SIDECAR), &values)?;
    serde_saphyr::from_str(&rendered).context("envoy/sidecar.yaml")
}

fn found(template: &Value, path: &str) -> Result<Value> {
    template
        .pointer(path)
        .cloned()
        .with_context(|| format!("envoy/sidecar.yaml has no {path}"))
}

fn listener(name: &str, at: SocketAddr, filters: &[Value]) -> Value {
    json!({"name": name, "address": address(at), "filter_chains": [{"filters": filters}]})
}

fn proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": cluster,
            "cluster": cluster,
        },
    })
}

fn cluster(name: &str, at: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}],
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip(), "port_value": at.port()}})
}

/// Bytes as the JSON form of protobuf wants them.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) & 63;
            let is_filled = place <= three.len();
            text.push(if is_filled {
                char::from(ALPHABET[six as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn gates_and_carrier_are_of_one_vm() {
        let gate = gate(Path::new("/f.wasm")).unwrap();
        let carried: Value =
            serde_json::from_str(&carrying(Path::new("/f.wasm"), b"x", 1).unwrap()).unwrap();
        let of = |plugin: &Value| plugin["config"]["vm_config"].clone();
        assert!(of(&gate["typed_config"]).is_object());
        assert_eq!(
            of(&gate["typed_config"]),
            of(&carried["resources"][0]["typed_config"])
        );
    }
}
