//! The ranges that pods of a node get their addresses from, as its Node object says.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tracing::warn;

/// Why a node's ranges are not known.
#[derive(Debug, thiserror::Error)]
pub enum PodRangesError {
    /// No API server is known, or it refuses.
    #[error(
        "Node {node}: cannot be read from the API server; or name its pod ranges with --pod-cidr"
    )]
    Api {
        /// The node.
        node: String,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
    /// The cluster gives nodes no ranges.
    #[error("Node {node}: has no spec.podCIDRs; name its pod ranges with --pod-cidr")]
    None {
        /// The node.
        node: String,
    },
    /// What it says is no range.
    #[error("Node {node}: spec.podCIDRs: {range:?} is no range")]
    Range {
        /// The node.
        node: String,
        /// What it says.
        range: String,
        /// What is wrong with it.
        #[source]
        source: ipnet::AddrParseError,
    },
}

/// Asks the API server of the cluster that this runs in, until it answers.
///
/// # Errors
///
/// When there is none, when it refuses, or when the node has no ranges.
pub async fn pod_ranges(node: &str) -> Result<Vec<IpNet>, PodRangesError> {
    let client = Client::try_default().await;
    ask(client.map_err(|error| api(node, error))?, node).await
}

async fn ask(client: Client, node: &str) -> Result<Vec<IpNet>, PodRangesError> {
    let nodes: Api<Node> = Api::all(client);
    // Whoever starts a node's agent has nothing better to do than to wait for its ranges.
    let patience = ExponentialBuilder::default()
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times();
    let found = (|| nodes.get(node))
        .retry(patience)
        .when(|error| !is_refusal(error))
        .notify(|error, wait| {
            warn!("Node {node}: cannot be read, trying again in {wait:?}: {error}");
        })
        .await;
    let spec = found.map_err(|error| api(node, error))?.spec;
    let spec = spec.unwrap_or_default();
    let ranges = spec.pod_cidrs.filter(|ranges| !ranges.is_empty());
    let ranges = ranges.unwrap_or_else(|| spec.pod_cidr.into_iter().collect());
    if ranges.is_empty() {
        return Err(PodRangesError::None {
            node: node.to_owned(),
        });
    }
    let range = |range: String| match range.parse() {
        Ok(parsed) => Ok(parsed),
        Err(source) => Err(PodRangesError::Range {
            node: node.to_owned(),
            range,
            source,
        }),
    };
    ranges.into_iter().map(range).collect()
}

/// Asking again would not help.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [401, 403, 404].contains(&status.code))
}

fn api(node: &str, source: kube::Error) -> PodRangesError {
    PodRangesError::Api {
        node: node.to_owned(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Json, Router};
    use kube::Config;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    /// An API server that knows the node `worker` with this spec, after it has failed once.
    async fn asked(name: &str, spec: Value) -> Result<Vec<IpNet>, PodRangesError> {
        let requests = Arc::new(AtomicUsize::new(0));
        let node = move || {
            let is_first = requests.fetch_add(1, Ordering::Relaxed) == 0;
            let node = json!({"metadata": {"name": "worker"}, "spec": spec});
            async move {
                if is_first {
                    Err(StatusCode::SERVICE_UNAVAILABLE)
                } else {
                    Ok(Json(node))
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let missing = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no such node", "reason": "NotFound", "code": 404});
        let router = Router::new()
            .route("/api/v1/nodes/worker", get(node))
            .fallback(move || {
                let missing = missing.clone();
                async move { (StatusCode::NOT_FOUND, Json(missing)) }
            });
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let answer = ask(Client::try_from(config).unwrap(), name).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn a_node_says_its_ranges() {
        let both =
            json!({"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]});
        let expected: Vec<IpNet> = ["10.244.1.0/24", "fd00:244:1::/64"]
            .map(|range| range.parse().unwrap())
            .into();
        assert_eq!(asked("worker", both).await.unwrap(), expected);
        let old = json!({"podCIDR": "10.244.1.0/24"});
        assert_eq!(asked("worker", old).await.unwrap(), expected[..1]);
    }

    #[tokio::test]
    async fn a_node_without_ranges_says_what_to_do() {
        let message = asked("worker", json!({})).await.unwrap_err().to_string();
        assert_eq!(
            message,
            "Node worker: has no spec.podCIDRs; name its pod ranges with --pod-cidr"
        );
        let wrong = asked("worker", json!({"podCIDR": "here"})).await;
        assert!(
            matches!(wrong, Err(PodRangesError::Range { .. })),
            "{wrong:?}"
        );
    }

    #[tokio::test]
    async fn who_is_refused_does_not_ask_again() {
        let refused = asked("stranger", json!({})).await;
        assert!(
            matches!(refused, Err(PodRangesError::Api { .. })),
            "{refused:?}"
        );
    }
}
