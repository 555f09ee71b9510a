//! What a server and a node's agent say to each other, held to the bytes of the release that is out: each
//! must be understood by a neighbour of another release.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sidewall-distributor neighbours` writes the files anew. That is right only
//! when a release that understands both forms is out already (docs/how-to/upgrade.md).

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::google::protobuf::Duration;
use envoy_types::util::pack_any;
use prost::Message;
use sidewall_policy::snapshot::{READABLE, VERSION};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::xds::Refuser;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/xds/tests/client/golden")
}

/// A message as it was sent by the release that is out.
fn golden<M: Message + Default>(name: &str) -> M {
    let path = folder().join(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    M::decode(bytes.as_slice()).unwrap()
}

/// Holds a message to the one of that name.
fn unchanged<M: Message + Default + std::fmt::Debug>(name: &str, message: &M) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(folder().join(name), message.encode_to_vec()).unwrap();
    }
    assert!(
        message.encode_to_vec() == golden::<M>(name).encode_to_vec(),
        "{name} has changed: {message:#?}"
    );
}

/// The snapshot of node `worker-1` in this format.
fn bundle(version: u16) -> Published {
    let path = format!("../policy/tests/golden/v{version}.node.snapshot");
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    Published {
        revision: Snapshot::check(bytes.clone()).unwrap().revision(),
        bytes: Bytes::from(bytes),
        published_at: std::time::SystemTime::now(),
    }
}

/// Without the fraction of a second that tells one push from another.
fn unsalted(mut response: DeltaDiscoveryResponse) -> DeltaDiscoveryResponse {
    let any = response.resources[0].resource.as_mut().unwrap();
    let mut extension = TypedExtensionConfig::decode(any.value.as_slice()).unwrap();
    let wasm = extension.typed_config.as_mut().unwrap();
    let mut filter = Wasm::decode(wasm.value.as_slice()).unwrap();
    let reload = filter.config.as_mut().unwrap().reload_config.as_mut();
    reload.unwrap().backoff.as_mut().unwrap().max_interval = Some(Duration {
        seconds: 3600,
        nanos: 0,
    });
    *wasm = pack_any(filter);
    *any = pack_any(extension);
    response
}

/// A refusal, but for how it is put.
fn without_words(mut nack: DeltaDiscoveryRequest) -> DeltaDiscoveryRequest {
    nack.error_detail.as_mut().unwrap().message.clear();
    nack
}

/// As a release to come may write it.
fn of_the_future(published: &Published, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = published.bytes.to_vec();
    change(&mut bytes);
    let hash = xxh3_64(&[&bytes[..16], &bytes[24..]].concat());
    bytes[16..24].copy_from_slice(&hash.to_le_bytes());
    bytes
}

#[tokio::test]
async fn a_server_understands_the_agents_of_its_neighbours() {
    let running = Running::start().await;
    let published = bundle(VERSION);
    running.shelf.put_raw(&node(), published.clone());
    let mut stream = running.open(golden("hello")).await;
    unchanged("response", &unsalted(stream.receive().await));
    stream.send(golden("ack")).await;
    running
        .until_of(&node(), "applied", acked(published.revision))
        .await;

    let next = put(&running, "10.0.0.2");
    assert_eq!(stream.receive().await.nonce, "2");
    stream.send(golden("nack")).await;
    let refused = |stream: &Stream| stream.refused.is_some();
    let stream = running.until_of(&node(), "refused", refused).await;
    let refused = stream.refused.unwrap();
    let expected = (next.revision, Refuser::Client);
    assert_eq!((refused.revision, refused.by), expected);

    // Whoever comes back with what is wanted is sent nothing.
    running.shelf.put_raw(&node(), published.clone());
    let mut stream = running.open(golden("hello-again")).await;
    let holds = |stream: &Stream| stream.sent.is_none() && acked(published.revision)(stream);
    running.until_of(&node(), "applied", holds).await;
    stream.hears_nothing().await;
}

#[tokio::test]
async fn an_agent_understands_the_servers_of_its_neighbours() {
    let mut server = Scripted::start().await;
    let mut agent = Agent::of(server.address);
    unchanged("hello", &server.hears().await);
    let mut response: DeltaDiscoveryResponse = golden("response");
    let published = bundle(VERSION);
    server.says(response.clone()).await;
    agent.holds(published.revision).await;
    unchanged("ack", &server.hears().await);

    // Every format that is read.
    for version in READABLE {
        response = with_bytes(&format!("v{version}"), &bundle(version).bytes);
        server.says(response.clone()).await;
        let answer: DeltaDiscoveryRequest = server.hears().await;
        assert_eq!(answer.error_detail, None, "format version {version}");
    }
}

#[tokio::test]
async fn an_agent_refuses_what_a_release_to_come_may_send_and_takes_what_follows() {
    let mut server = Scripted::start().await;
    let mut agent = Agent::of(server.address);
    server.hears().await;
    let published = bundle(VERSION);
    server.says(response("1", &published)).await;
    agent.holds(published.revision).await;
    server.hears().await;

    let version = READABLE.end() + 1;
    let newer = of_the_future(&published, |bytes| {
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
    });
    let flag = of_the_future(&published, |bytes| bytes[11] |= 0x80);
    let named = format!("format version {version} is not one that is read here");
    for (nonce, bytes, reason) in [
        ("2", newer, named.as_str()),
        ("3", flag, "unknown flags 0x8000"),
    ] {
        server.says(with_bytes(nonce, &bytes)).await;
        let nack = server.hears().await;
        if nonce == "2" {
            unchanged("nack", &without_words(nack.clone()));
        }
        let error = nack.error_detail.expect("a refusal");
        assert!(error.message.contains(reason), "{}", error.message);
        assert_eq!(agent.held(), Some(published.revision), "the last good one");
    }

    let next = snapshot(&pod("db"), "10.0.0.2");
    server.says(response("4", &next)).await;
    agent.holds(next.revision).await;
    assert_eq!(server.hears().await.error_detail, None);
    server.breaks_off().await;
    server.hears().await;
    server.says(response("5", &published)).await;
    agent.holds(published.revision).await;
    server.hears().await;
    server.breaks_off().await;
    unchanged("hello-again", &server.hears().await);
}
