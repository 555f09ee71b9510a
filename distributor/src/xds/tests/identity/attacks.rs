use std::time::{Duration, SystemTime};

use sidewall_policy::model::NamespacedName;
use tonic::{Code, Status};

use super::kit::{Guarded, HOUR};
use crate::authority::{Bearer, Review};
use crate::snapshots::Recipient;
use crate::testing::{pki, pod, snapshot};
use crate::xds::tests::kit::{Sidecar, first, request};

const DB: &str = "spiffe://cluster.local/ns/default/sa/db";

/// A server that would have something for everybody.
async fn stocked() -> Guarded {
    let guarded = Guarded::start().await;
    for (name, ip) in [("db", "10.0.0.1"), ("web", "10.0.0.2")] {
        guarded.running.shelf.put(&pod(name), ip);
        guarded.registrar.runs(name, name);
    }
    for (name, ip) in [("one", "10.0.1.1"), ("two", "10.0.1.2")] {
        let node = Recipient::Node(name.into());
        let published = snapshot(&pod(name), ip);
        guarded.running.shelf.put_raw(&node, published);
    }
    guarded
}

fn in_an_hour() -> SystemTime {
    SystemTime::now() + HOUR
}

/// Nothing was sent, nobody is entered as connected.
fn nothing_left(guarded: &Guarded) {
    assert_eq!(guarded.running.metrics.pushes.get(), 0);
    assert_eq!(guarded.running.metrics.bytes.get(), 0);
    assert!(guarded.running.clients.all().is_empty());
}

async fn refusal(opened: Result<Sidecar, Status>) -> Status {
    match opened {
        Ok(mut sidecar) => sidecar.refusal().await,
        Err(status) => status,
    }
}

/// Tries to get a snapshot with a token, in vain.
async fn denied(
    guarded: &Guarded,
    node_id: &str,
    token: Option<&str>,
    code: Code,
    reason: &'static str,
) -> String {
    let before = guarded.refusals(reason);
    let status = refusal(guarded.open(node_id, token, None).await).await;
    assert_eq!(status.code(), code, "{status}");
    assert_eq!(guarded.refusals(reason), before + 1, "{reason}: {status}");
    nothing_left(guarded);
    let message = status.message().to_owned();
    if let Some(token) = token {
        assert!(!message.contains(token), "the token is told: {message}");
    }
    message
}

#[tokio::test]
async fn a_token_opens_its_own_pod_and_no_other() {
    let guarded = stocked().await;
    let db = guarded.registrar.issue("db", "db", "one", HOUR);
    for stolen in ["default/web", "default/nobody", "other/db"] {
        let says = denied(
            &guarded,
            stolen,
            Some(&db),
            Code::PermissionDenied,
            "other-recipient",
        )
        .await;
        assert_eq!(
            says,
            format!("node.id claims {stolen}, but the token is of default/db")
        );
    }
    let denied = denied(
        &guarded,
        "node~one",
        Some(&db),
        Code::PermissionDenied,
        "not-a-node",
    )
    .await;
    assert!(denied.contains("--node-service-account"), "{denied}");

    let mut own = guarded.open("default/db", Some(&db), None).await.unwrap();
    let response = own.receive().await;
    let expected = snapshot(&pod("db"), "10.0.0.1").revision;
    assert_eq!(response.resources[0].version, expected.to_string());
}

#[tokio::test]
async fn a_node_gets_its_own_bundle_and_no_other() {
    let guarded = stocked().await;
    let agent = guarded.registrar.issue("node", "agent-x", "one", HOUR);
    let says = denied(
        &guarded,
        "node~two",
        Some(&agent),
        Code::PermissionDenied,
        "other-recipient",
    )
    .await;
    assert_eq!(
        says,
        "node.id claims node two, but the token is of node one"
    );
    denied(
        &guarded,
        "default/db",
        Some(&agent),
        Code::PermissionDenied,
        "other-recipient",
    )
    .await;
    let mut own = guarded.open("node~one", Some(&agent), None).await.unwrap();
    let expected = snapshot(&pod("one"), "10.0.1.1").revision;
    assert_eq!(
        own.receive().await.resources[0].version,
        expected.to_string()
    );
}

#[tokio::test]
async fn a_token_that_is_not_good_opens_nothing() {
    let guarded = stocked().await;
    let now = SystemTime::now();
    let forged = pki::token("db", "sidewall", now + HOUR);
    let says = denied(
        &guarded,
        "default/db",
        Some(&forged),
        Code::Unauthenticated,
        "token-rejected",
    )
    .await;
    assert!(says.ends_with("invalid bearer token"), "{says}");

    let expired = pki::token("db", "sidewall", now - Duration::from_secs(1));
    let says = denied(
        &guarded,
        "default/db",
        Some(&expired),
        Code::Unauthenticated,
        "token-expired",
    )
    .await;
    assert!(says.contains("has expired"), "{says}");

    let audience = pki::token("db", "vault", now + HOUR);
    let says = denied(
        &guarded,
        "default/db",
        Some(&audience),
        Code::Unauthenticated,
        "token-audience",
    )
    .await;
    assert!(says.contains("\"vault\""), "{says}");

    let says = denied(
        &guarded,
        "default/db",
        None,
        Code::Unauthenticated,
        "no-credentials",
    )
    .await;
    assert!(says.contains("authorization: Bearer"), "{says}");

    denied(
        &guarded,
        "default/db",
        Some("abc"),
        Code::Unauthenticated,
        "malformed-token",
    )
    .await;
    denied(
        &guarded,
        "somebody",
        Some(&forged),
        Code::InvalidArgument,
        "malformed-id",
    )
    .await;

    let unbound = pki::token("unbound", "sidewall", now + HOUR);
    let bearer = Bearer {
        account: NamespacedName::new("default", "db"),
        pod: None,
        pod_uid: None,
        node: None,
    };
    guarded
        .registrar
        .says(&unbound, Review::Authenticated(bearer));
    let says = denied(
        &guarded,
        "default/db",
        Some(&unbound),
        Code::PermissionDenied,
        "token-unbound",
    )
    .await;
    assert!(says.contains("names no pod"), "{says}");
}

#[tokio::test]
async fn without_an_answer_nobody_gets_in_who_was_not_in_a_moment_ago() {
    let guarded = stocked().await;
    let db = guarded.registrar.issue("db", "db", "one", HOUR);
    let web = guarded.registrar.issue("web", "web", "one", HOUR);
    guarded.registrar.is_away(true);
    let says = denied(
        &guarded,
        "default/db",
        Some(&db),
        Code::Unavailable,
        "unavailable",
    )
    .await;
    assert!(says.contains("connection refused"), "{says}");
    let pair = guarded.client_ca.client(DB, in_an_hour());
    let status = refusal(guarded.open("default/db", None, Some(&pair)).await).await;
    assert_eq!(status.code(), Code::Unavailable);
    nothing_left(&guarded);

    guarded.registrar.is_away(false);
    let mut before = guarded.open("default/db", Some(&db), None).await.unwrap();
    before.receive().await;
    guarded.registrar.is_away(true);
    let mut again = guarded.open("default/db", Some(&db), None).await.unwrap();
    again.receive().await;
    let status = refusal(guarded.open("default/web", Some(&web), None).await).await;
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_certificate_opens_the_pods_of_its_service_account() {
    let guarded = stocked().await;
    let refused = async |node_id: &str, id: &str, reason: &'static str| {
        let pair = guarded.client_ca.client(id, in_an_hour());
        let before = guarded.refusals(reason);
        let status = refusal(guarded.open(node_id, None, Some(&pair)).await).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert_eq!(guarded.refusals(reason), before + 1, "{reason}: {status}");
        nothing_left(&guarded);
        status.message().to_owned()
    };
    for claimed in ["default/web", "default/nobody", "other/db"] {
        let says = refused(claimed, DB, "other-account").await;
        assert!(says.contains("default/db"), "{says}");
    }
    refused("node~one", DB, "certificate-for-node").await;
    for id in [
        "spiffe://other.example/ns/default/sa/db",
        "spiffe://cluster.local/db",
        "https://cluster.local/ns/default/sa/db",
    ] {
        refused("default/db", id, "certificate-name").await;
    }
    let pair = guarded.client_ca.client(DB, in_an_hour());
    let mut own = guarded.open("default/db", None, Some(&pair)).await.unwrap();
    assert_eq!(own.receive().await.resources.len(), 1);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_does_not_get_through_the_handshake() {
    let guarded = stocked().await;
    let stranger = pki::Authority::new();
    let bad = [
        pki::self_signed(DB),
        stranger.client(DB, in_an_hour()),
        guarded.client_ca.client(DB, SystemTime::now() - HOUR),
    ];
    // A token does not make up for it.
    let token = guarded.registrar.issue("db", "db", "one", HOUR);
    for (tried, pair) in bad.iter().enumerate() {
        refusal(guarded.open("default/db", Some(&token), Some(pair)).await).await;
        assert_eq!(guarded.refusals("certificate"), tried as u64 + 1);
        nothing_left(&guarded);
    }
}

#[tokio::test]
async fn plain_text_is_not_understood() {
    let guarded = stocked().await;
    let connected = guarded.running.try_client().await;
    if let Ok(client) = connected {
        let opened = Sidecar::open(client, first("default/db"), None).await;
        refusal(opened).await;
    }
    assert_eq!(guarded.refusals("handshake"), 1);
    nothing_left(&guarded);
}

#[tokio::test]
async fn who_it_is_cannot_change_on_the_way() {
    let guarded = stocked().await;
    let db = guarded.registrar.issue("db", "db", "one", HOUR);
    let mut sidecar = guarded.open("default/db", Some(&db), None).await.unwrap();
    sidecar.receive().await;
    let mut other = first("default/web");
    other.resource_names_subscribe = request().resource_names_subscribe;
    sidecar.send(other).await;
    let status = sidecar.refusal().await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(guarded.refusals("changed-id"), 1);
    assert_eq!(guarded.running.metrics.pushes.get(), 1);
}
