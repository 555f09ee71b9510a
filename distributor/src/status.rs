//! `sidewall status`: what a distributor says of every pod and node, for people.

mod text;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use crate::problem::Problem;

/// How long the distributor may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes: a few hundred for each of 100,000 pods.
const LONGEST: usize = 128 << 20;

/// The arguments of `sidewall status`. Ends with 0 if everybody who is connected decides by what they should
/// and nothing is wrong with the objects, 1 if not, and 2 if there is no answer.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The distributor's --admin-listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18080")]
    admin: SocketAddr,

    /// Show everybody, not only those who do not decide by what they should
    #[arg(long)]
    all: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No distributor answers there.
    #[error("--admin {address}: the distributor does not answer: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: SocketAddr,
        /// What happened instead.
        reason: String,
    },
    /// Something else answers there.
    #[error("--admin {address}: this is no distributor's /status: {source}")]
    Unreadable {
        /// Where it was looked for.
        address: SocketAddr,
        /// Where its answer is not what it should be.
        source: serde_json::Error,
    },
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Write(#[from] io::Error),
}

/// What is read of `/status`.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    synced: bool,
    pods: Vec<Recipient>,
    nodes: Vec<Recipient>,
    problems: Vec<Problem>,
}

/// A pod or a node.
#[derive(Debug, Deserialize)]
struct Recipient {
    #[serde(alias = "pod", alias = "node")]
    name: String,
    state: String,
    wanted: Option<Wanted>,
    applied: Option<Applied>,
    refused: Option<Refused>,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    revision: String,
    since: String,
}

#[derive(Debug, Deserialize)]
struct Applied {
    revision: String,
    at: String,
}

#[derive(Debug, Deserialize)]
struct Refused {
    reason: String,
}

impl Status {
    /// Whether there is nothing to be mended and nothing to be waited for. Who has never been connected may
    /// have no sidecar, and who is not connected keeps what it has.
    fn is_settled(&self) -> bool {
        let all = self.pods.iter().chain(&self.nodes);
        self.synced && self.problems.is_empty() && all.clone().all(Recipient::is_settled)
    }
}

impl Recipient {
    fn is_settled(&self) -> bool {
        matches!(self.state.as_str(), "applied" | "absent")
    }
}

impl Args {
    /// Asks, and prints the answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn run(self) -> Result<ExitCode, Error> {
        let address = self.admin;
        let unreachable = |reason| Error::Unreachable { address, reason };
        let asked = tokio::time::timeout(PATIENCE, ask(address)).await;
        let body = asked
            .map_err(|_| unreachable(format!("not within {PATIENCE:?}")))?
            .map_err(unreachable)?;
        let status: Status = serde_json::from_slice(&body)
            .map_err(|source| Error::Unreadable { address, source })?;
        let mut out = anstream::stdout().lock();
        text::write(&mut out, &status, self.all)?;
        out.flush()?;
        Ok(if status.is_settled() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

async fn ask(address: SocketAddr) -> Result<Bytes, String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri = Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/status")
        .build()
        .map_err(|error| error.to_string())?;
    // Its own words say no more than that it could not connect; what the system said is beneath them.
    let innermost = |error: &dyn std::error::Error| {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        innermost.to_string()
    };
    let response = client.get(uri).await.map_err(|error| innermost(&error))?;
    if response.status() != StatusCode::OK {
        return Err(format!("GET /status: {}", response.status()));
    }
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| innermost(&*error))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, state: &str, wanted: &str, applied: &str) -> Value {
        json!({
            "pod": name, "state": state, "sent": null, "streams": 1, "since": null, "peer": null,
            "wanted": { "revision": wanted, "since": "2026-01-02T03:04:05.678Z", "bytes": 5 },
            "applied": { "revision": applied, "at": "2026-01-02T03:04:05.700Z" },
            "refused": if state == "refused" { json!({ "reason": "too long", "by": "client" }) } else { Value::Null },
        })
    }

    fn written(status: Value, all: bool) -> (String, bool) {
        let status: Status = serde_json::from_value(status).unwrap();
        let mut out = anstream::StripStream::new(Vec::new());
        text::write(&mut out, &status, all).unwrap();
        (
            String::from_utf8(out.into_inner()).unwrap(),
            status.is_settled(),
        )
    }

    #[test]
    fn who_decides_by_what_is_not_shown_unless_asked_for() {
        let status = json!({
            "version": "0.1.0", "synced": true, "problems": [], "nodes": [],
            "pods": [pod("shop/web", "applied", "aa", "aa")],
        });
        let (text, settled) = written(status.clone(), false);
        assert_eq!(text, "distributor 0.1.0, synced; 1 pod: 1 applied\n");
        assert!(settled);
        let (text, _) = written(status, true);
        assert_eq!(
            text,
            "distributor 0.1.0, synced; 1 pod: 1 applied\n\n\
             RECIPIENT  STATE    WANTED  SINCE                     APPLIED  AT\n\
             shop/web   applied  aa      2026-01-02T03:04:05.678Z  aa       2026-01-02T03:04:05.700Z\n"
        );
    }

    /// What a distributor of the release that is out answers, and one to come that says more.
    #[test]
    fn neighbours_are_understood() {
        let golden = include_str!("admin/tests/status.json");
        let mut status: Value = serde_json::from_str(golden).unwrap();
        let (before, settled) = written(status.clone(), true);
        assert!(
            before.contains("default/db     refused  00000000000000bb"),
            "{before}"
        );
        assert!(
            before.contains("no room") && before.contains("not a CIDR"),
            "{before}"
        );
        assert!(!settled);
        status["more"] = json!({ "of": "it" });
        status["pods"][0]["more"] = json!(1);
        assert_eq!(written(status, true).0, before);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named() {
        let problem = json!({ "object": "NetworkPolicy shop/db", "field": "spec.x", "reason": "unknown field", "consequence": "closed" });
        let (text, settled) = written(
            json!({
                "version": "0.1.0", "synced": false, "problems": [problem],
                "nodes": [{ "node": "one", "state": "pending", "wanted": null, "applied": null, "refused": null }],
                "pods": [pod("shop/db", "refused", "bb", "aa"), pod("shop/web", "applied", "aa", "aa")],
            }),
            false,
        );
        assert!(!settled);
        for line in [
            "distributor 0.1.0, not synced: nothing is published; 2 pods: 1 applied, 1 refused; 1 node: 1 pending",
            "shop/db    refused  bb      2026-01-02T03:04:05.678Z  aa       2026-01-02T03:04:05.700Z",
            "           too long",
            "node one   pending  -       -                         -        -",
            "NetworkPolicy shop/db: spec.x: unknown field; closed",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line:?} is not in\n{text}"
            );
        }
        assert!(!text.contains("shop/web"), "{text}");
    }
}
