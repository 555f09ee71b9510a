//! Clusters for a distributor that serves plain text, as JSON.

use serde_json::Value;

/// Takes TLS and the token from the cluster of the distributor, as [`super::template::plaintext`] takes them from
/// a bootstrap. `None` when there is no such cluster, or it has neither.
pub fn plaintext(clusters: &mut [Value]) -> Option<()> {
    let distributor = clusters
        .iter_mut()
        .find(|cluster| cluster["name"] == "sidewall-distributor")?;
    let fields = distributor.as_object_mut()?;
    fields.remove("transport_socket")?;
    let options =
        "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = distributor.pointer_mut(options)?;
    options.as_object_mut()?.remove("http_filters")?;
    Some(())
}
