//! Those who should get nothing.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use sidewall_distributor::xds::{Credentials, Distributor, Link, follow};
use sidewall_host_tests::envoy::template;
use tokio_util::sync::CancellationToken;

use crate::pki::{self, Authority, Pair};
use crate::site::{PATIENCE, Site, XDS, XDS_NAME, mount};

const HOUR: Duration = Duration::from_secs(3600);

/// A way to ask for a snapshot.
struct Attempt<'a> {
    node_id: &'a str,
    token: &'a str,
    /// The label of the counter.
    reason: &'a str,
    /// What the client hears, and the log says.
    says: &'a str,
}

/// Asks for a snapshot as a node's agent would: why it was turned away, or none if it was not.
fn ask(site: &Site, node_id: &str, token: &str) -> Result<Option<String>> {
    let secrets = site.credentials("asking", token)?.join("secrets");
    let credentials = Credentials {
        ca: secrets.join("ca.crt"),
        token: secrets.join("token"),
        server_name: Some(XDS_NAME.to_owned()),
    };
    let distributor = Distributor::new(format!("https://{XDS}").parse()?, Some(credentials))?;
    let asking = async move || {
        let cancellation = CancellationToken::new();
        let mut follower = follow(distributor, node_id.to_owned(), cancellation.clone());
        let _end = cancellation.drop_guard();
        let down = |link: &Link| matches!(link, Link::Down { .. });
        let answered = async {
            tokio::select! {
                biased;
                held = follower.snapshots.wait_for(Option::is_some) => held.map(|_| None),
                lost = follower.status.wait_for(down) => lost.map(|link| Some(link.to_string())),
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answered).await;
        Ok(answer.context("neither a snapshot nor a refusal")??)
    };
    site.netns.run(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(asking())
    })?
}

/// Asks in vain, and says why.
fn refused(site: &Site, node_id: &str, token: &str) -> Result<String> {
    ask(site, node_id, token)?.context("it got a snapshot")
}

pub fn stolen_and_spoilt_credentials_open_nothing() -> Result<()> {
    let site = Site::start("theft")?;
    let now = SystemTime::now();
    let web = site.issue(("shop", "web"), "web", now + HOUR)?;
    let agent = site.issue(("sidewall-system", "node"), "agent", now + HOUR)?;
    let expired = site.issue(("shop", "db"), "db", now - Duration::from_secs(5))?;
    let vault = pki::token("db", "vault", now + HOUR);
    let unknown = pki::token("forged", "sidewall", now + HOUR);
    // Bound to a pod that is gone.
    let withdrawn = site.issue(("shop", "db"), "db-old", now + HOUR)?;
    for attempt in [
        Attempt {
            node_id: "shop/db",
            token: &web,
            reason: "other-recipient",
            says: "node.id claims shop/db, but the token is of shop/web",
        },
        Attempt {
            node_id: "node~one",
            token: &web,
            reason: "not-a-node",
            says: "node.id claims node one, but shop/web is not the service account of the node plane",
        },
        Attempt {
            node_id: "node~two",
            token: &agent,
            reason: "other-recipient",
            says: "node.id claims node two, but the token is of node one",
        },
        Attempt {
            node_id: "shop/db",
            token: &expired,
            reason: "token-expired",
            says: "the token has expired",
        },
        Attempt {
            node_id: "shop/db",
            token: &vault,
            reason: "token-audience",
            says: "the token is for the audiences [\"vault\"], not for \"sidewall\"",
        },
        Attempt {
            node_id: "shop/db",
            token: &unknown,
            reason: "token-rejected",
            says: "the API server does not accept the token: ",
        },
        Attempt {
            node_id: "shop/db",
            token: &withdrawn,
            reason: "token-rejected",
            says: "the API server does not accept the token",
        },
    ] {
        let before = site.refusals(attempt.reason)?;
        let heard = refused(&site, attempt.node_id, attempt.token)?;
        ensure!(
            heard.contains(attempt.says),
            "{heard:?} without {:?}",
            attempt.says
        );
        site.until(attempt.reason, || {
            Ok(site.refusals(attempt.reason)? > before)
        })?;
        let lines = site.logged(attempt.says)?;
        let line = lines
            .last()
            .with_context(|| format!("no log line {:?}", attempt.says))?;
        ensure!(
            line["reason"] == attempt.reason && line["peer"].is_string(),
            "{line}"
        );
    }

    // Another CA: the client is the one who hangs up.
    site.certify(&Authority::new())?;
    let heard = refused(&site, "shop/web", &web)?;
    ensure!(heard.contains("certificate"), "{heard}");
    site.certify(&site.ca)?;

    ensure!(
        site.counter("sidewall_xds_pushes_total")? == 0,
        "something was sent"
    );
    ensure!(
        site.counter("sidewall_xds_sent_bytes_total")? == 0,
        "bytes were sent"
    );
    let log = std::fs::read_to_string(site.folder.join("serve.log"))?;
    for token in [&web, &agent, &expired, &vault, &unknown, &withdrawn] {
        ensure!(!log.contains(token.as_str()), "a token is in the log");
    }

    // What is refused to others is there for its owner.
    let credentials = site.credentials("web", &web)?;
    let mut envoy = site.envoy(
        template::SIDECAR,
        "sidecar~10.0.0.1~web.shop~cluster.local",
        &credentials,
    )?;
    envoy.wait_ready(PATIENCE)?;
    ensure!(site.counter("sidewall_xds_pushes_total")? == 1);
    Ok(())
}

pub fn an_api_server_that_is_away_lets_nobody_new_in() -> Result<()> {
    let site = Site::start("away")?;
    let now = SystemTime::now();
    let web = site.issue(("shop", "web"), "web", now + HOUR)?;
    let db = site.issue(("shop", "db"), "db", now + HOUR)?;
    let credentials = site.credentials("web", &web)?;
    let mut envoy = site.envoy(
        template::SIDECAR,
        "sidecar~10.0.0.1~web.shop~cluster.local",
        &credentials,
    )?;
    envoy.wait_ready(PATIENCE)?;

    site.api.kill();
    let heard = refused(&site, "shop/db", &db)?;
    ensure!(heard.contains("Unavailable"), "{heard}");
    site.until("counted", || Ok(site.refusals("unavailable")? > 0))?;
    ensure!(
        site.counter("sidewall_xds_streams")? == 1,
        "the sidecar stays"
    );

    site.api.restart()?;
    ensure!(ask(&site, "shop/db", &db)?.is_none(), "still refused");
    Ok(())
}

/// The sidecar's bootstrap with a client certificate instead of a token.
fn by_certificate(site: &Site, pair: &Pair) -> Result<String> {
    let secrets = site.credentials("certified", "no token")?.join("secrets");
    mount(&secrets, "client.crt", &pair.certificate)?;
    mount(&secrets, "client.key", &pair.key)?;
    let file = |name: &str| format!("{{filename: \"{}\"}}", secrets.join(name).display());
    let certificate = format!(
        "tls_certificates: [{{certificate_chain: {}, private_key: {}}}]",
        file("client.crt"),
        file("client.key")
    );
    let cut = |text: &'static str, at: &str| {
        let parts = text.split_once(at);
        parts.with_context(|| format!("envoy/sidecar.yaml has no {at:?}"))
    };
    let (before, token) = cut(template::SIDECAR, "        http_filters:\n")?;
    let (_, tls) = cut(token, "    transport_socket:\n")?;
    let (outer, inner) = cut(tls, "        common_tls_context:\n")?;
    Ok(format!(
        "{before}    transport_socket:\n{outer}        common_tls_context:\n          {certificate}\n{inner}"
    ))
}

pub fn a_certificate_opens_the_pods_of_its_service_account_alone() -> Result<()> {
    let site = Site::start("certificates")?;
    let id = "spiffe://cluster.local/ns/shop/sa/web";
    let good = site.client_ca.client(id, SystemTime::now() + HOUR);
    let credentials = site.folder.join("certified");
    let node_id = |pod: &str| format!("sidecar~10.0.0.1~{pod}.shop~cluster.local");
    for (pod, pair, reason, says) in [
        (
            "db",
            &good,
            "other-account",
            "node.id claims shop/db, which is no pod of the certificate's service account shop/web",
        ),
        (
            "web",
            &pki::self_signed(id),
            "certificate",
            "the client's certificate is refused",
        ),
    ] {
        let bootstrap = by_certificate(&site, pair)?;
        let envoy = site.envoy(&bootstrap, &node_id(pod), &credentials)?;
        site.until(reason, || Ok(site.refusals(reason)? > 0))?;
        ensure!(envoy.admin("/ready").is_err(), "{pod} is ready");
        envoy.kill();
        let lines = site.logged(says)?;
        let line = lines
            .last()
            .with_context(|| format!("no log line {says:?}"))?;
        ensure!(line["reason"] == reason, "{line}");
    }
    ensure!(
        site.counter("sidewall_xds_sent_bytes_total")? == 0,
        "bytes were sent"
    );

    let bootstrap = by_certificate(&site, &good)?;
    let mut envoy = site.envoy(&bootstrap, &node_id("web"), &credentials)?;
    envoy.wait_ready(PATIENCE)?;
    let connected = site.logged("client connected")?;
    ensure!(
        connected.len() == 1
            && connected[0]["recipient"] == "shop/web"
            && connected[0]["proof"] == "certificate",
        "{connected:?}"
    );
    Ok(())
}
