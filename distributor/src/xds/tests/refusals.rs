use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::protobuf::value::Kind;
use tonic::{Code, Status};

use super::kit::{Running, first, metadata, request};
use crate::testing::pod;

fn says(status: &Status, code: Code, parts: &[&str]) {
    assert_eq!(status.code(), code, "{status}");
    for part in parts {
        assert!(
            status.message().contains(part),
            "{part:?} is not in {:?}",
            status.message()
        );
    }
}

#[tokio::test]
async fn a_malformed_node_id_is_refused_with_its_reason() {
    let running = Running::start().await;
    let status = running.sidecar("nobody").await.refusal().await;
    says(
        &status,
        Code::InvalidArgument,
        &["\"nobody\"", "neither a '~' nor a '/'", "NAMESPACE/POD"],
    );
    assert!(
        running.clients.all().is_empty(),
        "a stranger is not entered"
    );
}

#[tokio::test]
async fn the_first_request_needs_a_node() {
    let running = Running::start().await;
    let status = running
        .open(DeltaDiscoveryRequest {
            node: None,
            ..first("")
        })
        .await
        .refusal()
        .await;
    says(&status, Code::InvalidArgument, &["must carry node"]);
}

#[tokio::test]
async fn the_filters_path_must_be_one() {
    let running = Running::start().await;
    for value in [
        Kind::BoolValue(true),
        Kind::StringValue("relative.wasm".to_owned()),
    ] {
        let metadata = Some(metadata("sidewall_wasm", value));
        let node = Node {
            id: "default/db".to_owned(),
            metadata,
            ..Node::default()
        };
        let status = running
            .open(DeltaDiscoveryRequest {
                node: Some(node),
                ..first("")
            })
            .await
            .refusal()
            .await;
        says(
            &status,
            Code::InvalidArgument,
            &["node.metadata.sidewall_wasm", "absolute path"],
        );
    }
}

#[tokio::test]
async fn another_type_is_refused_at_any_time() {
    let running = Running::start().await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let wrong = DeltaDiscoveryRequest {
        type_url: type_url.clone(),
        ..first("default/db")
    };
    let status = running.open(wrong).await.refusal().await;
    says(
        &status,
        Code::InvalidArgument,
        &["envoy.config.cluster.v3.Cluster", super::TYPE_URL],
    );

    let mut sidecar = running.sidecar("default/db").await;
    sidecar.receive().await;
    sidecar
        .send(DeltaDiscoveryRequest {
            type_url,
            ..request()
        })
        .await;
    says(
        &sidecar.refusal().await,
        Code::InvalidArgument,
        &[super::TYPE_URL],
    );
    running
        .until("db", "disconnected", |stream| {
            stream.disconnected_at.is_some()
        })
        .await;
}

#[tokio::test]
async fn the_type_may_be_left_out() {
    let running = Running::start().await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running
        .open(DeltaDiscoveryRequest {
            type_url: String::new(),
            ..first("default/db")
        })
        .await;
    assert_eq!(sidecar.receive().await.resources.len(), 1);
}

#[tokio::test]
async fn state_of_the_world_is_refused() {
    let running = Running::start().await;
    let mut client = running.client().await;
    let stream = tokio_stream::once(DiscoveryRequest::default());
    let status = client.stream_extension_configs(stream).await.unwrap_err();
    says(&status, Code::Unimplemented, &["api_type: DELTA_GRPC"]);
    let status = client
        .fetch_extension_configs(DiscoveryRequest::default())
        .await
        .unwrap_err();
    says(&status, Code::Unimplemented, &["api_type: DELTA_GRPC"]);
}
