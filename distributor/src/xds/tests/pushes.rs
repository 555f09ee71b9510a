use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::{
    Node, TypedExtensionConfig, async_data_source, data_source,
};
use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::{
    FailurePolicy, PluginConfig, VmConfig, plugin_config::Vm,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use envoy_types::pb::google::protobuf::{Any, BytesValue, value::Kind};
use prost::{Message, Name};
use sidewall_policy::snapshot::Revision;

use super::kit::{Running, again, first, metadata, request};
use crate::snapshots::Published;
use crate::testing::{pod, recipient, snapshot};
use crate::xds::Refuser;

fn unpack<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value.as_slice()).unwrap()
}

fn plugin(response: &DeltaDiscoveryResponse) -> PluginConfig {
    let [resource] = &response.resources[..] else {
        panic!("exactly one resource: {response:?}")
    };
    assert_eq!(resource.name, "sidewall");
    let extension: TypedExtensionConfig = unpack(resource.resource.as_ref().unwrap());
    assert_eq!(extension.name, "sidewall");
    unpack::<Wasm>(&extension.typed_config.unwrap())
        .config
        .unwrap()
}

fn vm(plugin: PluginConfig) -> VmConfig {
    let Some(Vm::VmConfig(vm)) = plugin.vm else {
        panic!("no VM configuration")
    };
    vm
}

fn file(vm: VmConfig) -> String {
    let Some(async_data_source::Specifier::Local(source)) = vm.code.unwrap().specifier else {
        panic!("the code is not local")
    };
    let Some(data_source::Specifier::Filename(path)) = source.specifier else {
        panic!("the code is not a file")
    };
    path
}

fn carries(response: &DeltaDiscoveryResponse, published: &Published) {
    let bytes: BytesValue = unpack(&plugin(response).configuration.unwrap());
    assert_eq!(bytes.value, published.bytes);
    assert_eq!(
        response.resources[0].version,
        published.revision.to_string()
    );
    assert_eq!(response.system_version_info, published.revision.to_string());
    assert_eq!(response.type_url, super::TYPE_URL);
    assert!(response.removed_resources.is_empty() && !response.nonce.is_empty());
}

#[tokio::test]
async fn a_sidecar_gets_its_snapshot_when_it_connects() {
    let running = Running::start().await;
    let published = running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running
        .sidecar("sidecar~10.0.0.1~db.default~default.svc.cluster.local")
        .await;
    carries(&sidecar.receive().await, &published);
}

#[tokio::test]
async fn the_resource_is_the_carrier_and_shares_the_gates_vm() {
    let running = Running::start().await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let plugin = plugin(&running.sidecar("default/db").await.receive().await);
    assert_eq!(
        (plugin.name.as_str(), plugin.root_id.as_str()),
        ("sidewall-carrier", "sidewall")
    );
    assert_eq!(plugin.failure_policy(), FailurePolicy::FailReload);
    let backoff = plugin
        .reload_config
        .unwrap()
        .backoff
        .unwrap()
        .base_interval
        .unwrap();
    assert_eq!((backoff.seconds, backoff.nanos), (0, 100_000_000));
    let vm = vm(plugin);
    assert_eq!(
        (vm.vm_id.as_str(), vm.runtime.as_str()),
        ("sidewall", "envoy.wasm.runtime.v8")
    );
    assert_eq!(vm.configuration, None);
    assert_eq!(file(vm), "/etc/sidewall/sidewall_filter.wasm");
}

/// The same resource again would be acknowledged untried, also after a refusal (ADR 5).
#[tokio::test]
async fn one_snapshot_sent_twice_makes_two_resources() {
    let running = Running::start().await;
    let published = running.shelf.put(&pod("db"), "10.0.0.1");
    let (mut one, mut other) = (
        running.sidecar("default/db").await,
        running.sidecar("default/db").await,
    );
    let (one, other) = (one.receive().await, other.receive().await);
    carries(&one, &published);
    carries(&other, &published);
    let (mut one, mut other) = (plugin(&one), plugin(&other));
    assert_ne!(one, other);
    for plugin in [&mut one, &mut other] {
        let backoff = plugin
            .reload_config
            .as_mut()
            .unwrap()
            .backoff
            .as_mut()
            .unwrap();
        let longest = backoff.max_interval.take().unwrap();
        assert_eq!(
            longest.seconds, 3600,
            "Envoy wants at least the base interval"
        );
        assert!((0..1_000_000_000).contains(&longest.nanos), "{longest:?}");
    }
    assert_eq!(one, other, "and nothing else tells them apart");
}

#[tokio::test]
async fn the_bootstrap_says_where_its_filter_is() {
    let running = Running::start().await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let path = metadata(
        "sidewall_wasm",
        Kind::StringValue("/opt/filter.wasm".to_owned()),
    );
    let node = Node {
        id: "default/db".to_owned(),
        metadata: Some(path),
        ..Node::default()
    };
    let mut sidecar = running
        .open(DeltaDiscoveryRequest {
            node: Some(node),
            ..first("")
        })
        .await;
    assert_eq!(
        file(vm(plugin(&sidecar.receive().await))),
        "/opt/filter.wasm"
    );
}

#[tokio::test]
async fn a_change_is_pushed_and_its_ack_is_recorded() {
    let running = Running::start().await;
    let before = running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running.sidecar("default/db").await;
    let response = sidecar.receive().await;
    carries(&response, &before);
    sidecar.ack(&response).await;
    running
        .until("db", "acked", |stream| {
            stream
                .acked
                .is_some_and(|acked| acked.revision == before.revision)
        })
        .await;

    let after = running.shelf.put(&pod("db"), "10.0.0.2");
    assert_ne!(before.revision, after.revision);
    let response = sidecar.receive().await;
    carries(&response, &after);
    let sent = running
        .until("db", "sent", |stream| {
            stream
                .sent
                .is_some_and(|sent| sent.revision == after.revision)
        })
        .await;
    assert_eq!(
        sent.acked.map(|acked| acked.revision),
        Some(before.revision),
        "an unanswered push is not applied"
    );
    sidecar.ack(&response).await;
    running
        .until("db", "acked", |stream| {
            stream
                .acked
                .is_some_and(|acked| acked.revision == after.revision)
        })
        .await;
    let metrics = &running.metrics;
    assert_eq!(
        (
            metrics.pushes.get(),
            metrics.acks.get(),
            metrics.nacks.get()
        ),
        (2, 2, 0)
    );
    assert!(metrics.bytes.get() > (before.bytes.len() + after.bytes.len()) as u64);
}

#[tokio::test]
async fn changes_during_a_push_come_as_one() {
    let running = Running::start().await;
    let first = running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running.sidecar("default/db").await;
    let response = sidecar.receive().await;
    carries(&response, &first);
    for last in 2..50 {
        running.shelf.put(&pod("db"), &format!("10.0.0.{last}"));
    }
    sidecar.hears_nothing().await;
    let latest = running.shelf.put(&pod("db"), "10.0.0.99");
    sidecar.ack(&response).await;
    carries(&sidecar.receive().await, &latest);
    sidecar.hears_nothing().await;
}

#[tokio::test]
async fn a_nack_is_recorded_and_the_next_change_is_pushed_at_once() {
    let running = Running::start().await;
    let bad = running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running.sidecar("default/db").await;
    let response = sidecar.receive().await;
    sidecar
        .nack(&response, "Unable to create Wasm plugin sidewall-carrier")
        .await;
    let stream = running
        .until("db", "refused", |stream| stream.refused.is_some())
        .await;
    let refused = stream.refused.unwrap();
    assert_eq!(
        (refused.revision, refused.by),
        (bad.revision, Refuser::Client)
    );
    assert_eq!(
        refused.reason,
        "Unable to create Wasm plugin sidewall-carrier"
    );
    assert_eq!((stream.acked, running.metrics.nacks.get()), (None, 1));
    sidecar.hears_nothing().await;

    let good = running.shelf.put(&pod("db"), "10.0.0.2");
    let response = sidecar.receive().await;
    carries(&response, &good);
    sidecar.ack(&response).await;
    let stream = running
        .until("db", "acked", |stream| stream.acked.is_some())
        .await;
    assert_eq!(stream.refused, None);
}

#[tokio::test]
async fn a_refused_snapshot_is_offered_again_later_and_later_until_it_is_taken() {
    let running = Running::start().await;
    let published = running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running.sidecar("default/db").await;
    let mut response = sidecar.receive().await;
    for seconds in [1, 2] {
        let refused = Instant::now();
        sidecar.nack(&response, "no room").await;
        let again = sidecar.receive().await;
        carries(&again, &published);
        let after = refused.elapsed();
        assert!(after >= Duration::from_secs(seconds), "{after:?}");
        assert_ne!(
            plugin(&again),
            plugin(&response),
            "the same resource would be acknowledged untried"
        );
        response = again;
    }
    assert_eq!(running.metrics.nacks.get(), 2);
    sidecar.ack(&response).await;
    let stream = running
        .until("db", "acked", |stream| stream.acked.is_some())
        .await;
    assert_eq!(stream.refused, None);
    assert_eq!(running.metrics.pushes.get(), 3);
}

#[tokio::test]
async fn after_a_broken_stream_only_news_is_sent() {
    let running = Running::start().await;
    let published = running.shelf.put(&pod("db"), "10.0.0.1");
    let version = published.revision.to_string();
    let mut sidecar = running.open(again("default/db", &version)).await;
    sidecar.hears_nothing().await;
    let stream = running
        .until("db", "applied", |stream| stream.acked.is_some())
        .await;
    assert_eq!(
        stream.acked.map(|acked| acked.revision),
        Some(published.revision)
    );
    assert_eq!((stream.sent, running.metrics.pushes.get()), (None, 0));
    let news = running.shelf.put(&pod("db"), "10.0.0.2");
    carries(&sidecar.receive().await, &news);

    let mut behind = running.open(again("default/db", &version)).await;
    carries(&behind.receive().await, &news);
}

#[tokio::test]
async fn every_pod_gets_its_own_snapshot() {
    let running = Running::start().await;
    let db = running.shelf.put(&pod("db"), "10.0.0.1");
    let web = running.shelf.put(&pod("web"), "10.0.0.2");
    assert_ne!(db.bytes, web.bytes);
    let (mut one, mut other) = (
        running.sidecar("default/db").await,
        running.sidecar("default/web").await,
    );
    carries(&one.receive().await, &db);
    carries(&other.receive().await, &web);
    assert_eq!(running.metrics.streams.get(), 2);
}

#[tokio::test]
async fn a_pod_that_is_not_known_yet_waits_for_its_snapshot() {
    let running = Running::start().await;
    let mut sidecar = running.sidecar("default/late").await;
    sidecar.hears_nothing().await;
    let published = running.shelf.put(&pod("late"), "10.0.0.1");
    carries(&sidecar.receive().await, &published);
}

#[tokio::test]
async fn a_snapshot_that_fails_its_check_stays_here() {
    let running = Running::start().await;
    let good = running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running.sidecar("default/db").await;
    let response = sidecar.receive().await;
    sidecar.ack(&response).await;

    let mut broken = snapshot(&pod("db"), "10.0.0.2");
    broken.bytes = broken.bytes.slice(..broken.bytes.len() - 1);
    let strangers = snapshot(&pod("web"), "10.0.0.3");
    let mislabelled = Published {
        revision: Revision(1),
        ..snapshot(&pod("db"), "10.0.0.4")
    };
    for (published, reason) in [
        (broken, "does not pass its own check"),
        (strangers, "does not have the pod among its subjects"),
        (mislabelled, "but its bytes are revision"),
    ] {
        let revision = published.revision;
        running.shelf.put_raw(&recipient("db"), published);
        let stream = running
            .until("db", reason, |stream| {
                stream
                    .refused
                    .as_ref()
                    .is_some_and(|refused| refused.revision == revision)
            })
            .await;
        let refused = stream.refused.unwrap();
        assert_eq!(refused.by, Refuser::Distributor);
        assert!(refused.reason.contains(reason), "{}", refused.reason);
        assert_eq!(
            stream.acked.map(|acked| acked.revision),
            Some(good.revision)
        );
    }
    sidecar.hears_nothing().await;
    assert_eq!(
        (running.metrics.withheld.get(), running.metrics.pushes.get()),
        (3, 1)
    );

    let next = running.shelf.put(&pod("db"), "10.0.0.5");
    carries(&sidecar.receive().await, &next);
}

#[tokio::test]
async fn unsubscribing_silences_and_subscribing_again_always_answers() {
    let running = Running::start().await;
    running.shelf.put(&pod("db"), "10.0.0.1");
    let mut sidecar = running.sidecar("default/db").await;
    let response = sidecar.receive().await;
    sidecar.ack(&response).await;
    let names = vec!["sidewall".to_owned()];
    sidecar
        .send(DeltaDiscoveryRequest {
            resource_names_unsubscribe: names.clone(),
            ..request()
        })
        .await;
    sidecar.hears_nothing().await;
    let published = running.shelf.put(&pod("db"), "10.0.0.2");
    sidecar.hears_nothing().await;
    for _ in 0..2 {
        sidecar
            .send(DeltaDiscoveryRequest {
                resource_names_subscribe: names.clone(),
                ..request()
            })
            .await;
        let response = sidecar.receive().await;
        carries(&response, &published);
        sidecar.ack(&response).await;
    }
}

#[tokio::test]
async fn a_resource_that_does_not_exist_is_reported_missing_and_ours_never_is() {
    let running = Running::start().await;
    let names = vec!["sidewall".to_owned(), "other".to_owned()];
    let mut sidecar = running
        .open(DeltaDiscoveryRequest {
            resource_names_subscribe: names,
            ..first("default/db")
        })
        .await;
    let response = sidecar.receive().await;
    assert_eq!(response.removed_resources, ["other"]);
    assert!(response.resources.is_empty() && !response.nonce.is_empty());
    sidecar.ack(&response).await;
    sidecar.hears_nothing().await;
    assert_eq!(
        running.metrics.acks.get(),
        0,
        "no snapshot was acknowledged"
    );
    let published = running.shelf.put(&pod("db"), "10.0.0.1");
    carries(&sidecar.receive().await, &published);
}
