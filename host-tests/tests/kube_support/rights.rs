//! What the chart lets a distributor do. The real API server holds it to that; the stand-in asks for nothing.

use anyhow::Result;
use serde_json::{Value, json};
use sidewall_host_tests::apiserver::{ApiServer, Kubectl, Token};

use crate::rendered::{EVERYTHING, render};

const NAMESPACE: &str = "sidewall-system";
const ACCOUNT: &str = "sidewall";

/// A kubeconfig for the distributor's service account, with the rights that the chart gives it.
pub fn of_the_chart(server: &ApiServer, kubectl: &Kubectl) -> Result<String> {
    if !server.is_real() {
        return Ok(server.kubeconfig());
    }
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    });
    let rendered = render(EVERYTHING)?.into_iter().map(|object| object.value);
    let rights = rendered.filter(|object| {
        let kind = object["kind"].as_str().unwrap_or_default();
        kind == "ServiceAccount" || kind.contains("Role")
    });
    let manifest = |object: Value| format!("---\n{object}\n");
    let manifests: String = [namespace]
        .into_iter()
        .chain(rights)
        .map(manifest)
        .collect();
    kubectl.apply(&manifests)?;
    let token = server.issue(Token {
        audiences: Vec::new(),
        namespace: NAMESPACE.to_owned(),
        service_account: ACCOUNT.to_owned(),
        pod: None,
        node: None,
        expires: None,
    })?;
    Ok(server.kubeconfig_with(&token))
}
