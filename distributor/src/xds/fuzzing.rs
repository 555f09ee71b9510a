//! One stream, driven by arbitrary bytes and held to the promises of the protocol; see fuzz/.

use std::collections::HashSet;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::google::rpc::Status;
use futures::FutureExt as _;
use prost::Message as _;
use sidewall_policy::snapshot::Revision;
use tonic::metadata::MetadataMap;

use super::identity::{Authenticator as _, Caller, PlaintextIdentity};
use super::resource;
use super::session::{Answer, Next, RESOURCE_NAME, Session};

/// Reads bytes as what a client sends and what its snapshot becomes meanwhile.
///
/// # Panics
/// If a promise is broken: at most one response outstanding, nothing that was not asked for, no
/// answer that is not one, and no client that waits for a snapshot there is.
pub fn stream(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut stream = Stream::default();
    while let Some(what) = input.byte() {
        match what % 8 {
            0 | 1 => {
                let length = usize::from(input.byte().unwrap_or_default());
                if let Ok(request) = DeltaDiscoveryRequest::decode(input.take(length)) {
                    introduce(&request);
                    stream.read(&request);
                }
            }
            2 => stream.answer(None),
            3 => stream.answer(Some(Status::default())),
            4 => {
                let revision = input.byte().unwrap_or_default() % 4;
                stream.wanted = (revision > 0).then(|| Revision(revision.into()));
            }
            5 => stream.retry(),
            6 => {
                let names = ["another", RESOURCE_NAME].map(str::to_owned);
                let subscribes = usize::from(input.byte().unwrap_or_default());
                let mut request = DeltaDiscoveryRequest::default();
                if subscribes & 4 == 0 {
                    request.resource_names_subscribe = vec![names[subscribes & 1].clone()];
                } else {
                    request.resource_names_unsubscribe = vec![names[subscribes & 1].clone()];
                }
                let version = Revision((subscribes >> 4) as u64).to_string();
                request
                    .initial_resource_versions
                    .insert(RESOURCE_NAME.to_owned(), version);
                stream.read(&request);
            }
            _ => stream.withholds = !stream.withholds,
        }
        stream.go_on();
    }
}

/// What the server does with the first request of a stream before there is a session.
fn introduce(request: &DeltaDiscoveryRequest) {
    let Some(node) = &request.node else {
        return;
    };
    let _path_or_refusal = resource::wasm_path(node);
    let caller = Caller {
        certificate: None,
        metadata: &MetadataMap::new(),
        node_id: &node.id,
    };
    let answer = PlaintextIdentity.authenticate(caller).now_or_never();
    assert!(answer.is_some(), "reading a name waits for nothing");
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.take(1).first().copied()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A session and what whoever looks on knows of it.
#[derive(Default)]
struct Stream {
    session: Session,
    wanted: Option<Revision>,
    /// Snapshots turn out to be too large to be sent.
    withholds: bool,
    begun: bool,
    subscribed: bool,
    brought: Option<String>,
    outstanding: Option<(String, Option<Revision>)>,
    nonces: HashSet<String>,
    /// What the client has been given, or was found to have, or may not have.
    settled: Option<Revision>,
    refused: Option<Revision>,
}

impl Stream {
    fn read(&mut self, request: &DeltaDiscoveryRequest) {
        if !std::mem::replace(&mut self.begun, true) {
            let brought = &request.initial_resource_versions;
            self.brought = brought.get(RESOURCE_NAME).cloned();
        }
        let is_ours = |name: &String| name == RESOURCE_NAME;
        self.subscribed &= !request.resource_names_unsubscribe.iter().any(is_ours);
        self.subscribed |= request.resource_names_subscribe.iter().any(is_ours);

        let answered = self
            .outstanding
            .take_if(|(nonce, _)| *nonce == request.response_nonce);
        let revision = answered.and_then(|(_, revision)| revision);
        match (self.session.read(request), revision) {
            (None, None) => {}
            (Some(Answer::Acked(acked)), Some(sent)) => {
                assert_eq!(acked, sent);
                assert!(request.error_detail.is_none(), "a refusal is no consent");
                self.refused = None;
            }
            (Some(answer @ Answer::Refused { .. }), Some(sent)) => {
                let Answer::Refused {
                    revision,
                    retry_after,
                    ..
                } = answer
                else {
                    return;
                };
                assert_eq!(revision, sent);
                assert!(request.error_detail.is_some(), "consent is no refusal");
                let after = Duration::from_secs(1)..=Duration::from_secs(60);
                assert!(after.contains(&retry_after), "{retry_after:?}");
                self.refused = Some(sent);
            }
            (answer, sent) => panic!("{answer:?} to what was sent: {sent:?}"),
        }
    }

    /// The client answers what is outstanding.
    fn answer(&mut self, error_detail: Option<Status>) {
        let Some((response_nonce, _)) = self.outstanding.clone() else {
            return;
        };
        self.read(&DeltaDiscoveryRequest {
            response_nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        });
    }

    fn retry(&mut self) {
        self.session.retry();
        let waits = self
            .outstanding
            .as_ref()
            .is_some_and(|(_, it)| it.is_some());
        if !waits && self.settled == self.refused {
            self.settled = None;
        }
    }

    fn go_on(&mut self) {
        match self.session.next(self.wanted) {
            Next::Idle => {
                let waits = self.outstanding.is_none() && self.subscribed;
                let served = self.wanted.is_none() || self.settled == self.wanted;
                assert!(served || !waits, "{:?} is never sent", self.wanted);
            }
            Next::Holds(revision) => {
                assert!(self.subscribed && self.wanted == Some(revision));
                assert_eq!(self.brought.take(), Some(revision.to_string()));
                self.settled = Some(revision);
            }
            Next::Send(plan) => {
                assert!(self.outstanding.is_none(), "two at once");
                assert!(self.nonces.insert(plan.nonce.clone()), "a nonce again");
                assert!(plan.snapshot || !plan.unknown.is_empty(), "nothing in it");
                let revision = self.wanted.filter(|_| plan.snapshot);
                if plan.snapshot {
                    assert!(self.subscribed && revision.is_some(), "not asked for");
                    self.settled = revision;
                }
                let nonce = plan.nonce.clone();
                if !self.withholds || !plan.snapshot {
                    self.outstanding = Some((nonce, revision));
                } else if self.session.withhold(plan).is_some() {
                    self.outstanding = Some((nonce, None));
                }
            }
        }
    }
}
