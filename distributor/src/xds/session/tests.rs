use std::collections::HashMap;

use envoy_types::pb::google::rpc::Status;

use super::*;

const A: Revision = Revision(0xa);
const B: Revision = Revision(0xb);
const C: Revision = Revision(0xc);

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn unsubscribe(name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_unsubscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    }
}

fn reconnect(version: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        initial_resource_versions: HashMap::from([(RESOURCE_NAME.to_owned(), version.to_owned())]),
        ..subscribe(&[RESOURCE_NAME])
    }
}

fn ack(nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn nack(nonce: &str, message: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        error_detail: Some(Status {
            message: message.to_owned(),
            ..Status::default()
        }),
        ..ack(nonce)
    }
}

fn push(nonce: &str) -> Next {
    Next::Send(Plan {
        nonce: nonce.to_owned(),
        snapshot: true,
        unknown: Vec::new(),
    })
}

fn refused(revision: Revision, seconds: u64) -> Answer {
    Answer::Refused {
        revision,
        reason: "no room".to_owned(),
        retry_after: Duration::from_secs(seconds),
    }
}

fn missing(nonce: &str, names: &[&str]) -> Next {
    Next::Send(Plan {
        nonce: nonce.to_owned(),
        snapshot: false,
        unknown: names.iter().map(|name| (*name).to_owned()).collect(),
    })
}

fn subscribed() -> Session {
    let mut session = Session::default();
    assert_eq!(session.read(&subscribe(&[RESOURCE_NAME])), None);
    session
}

#[test]
fn nothing_is_sent_before_it_is_asked_for_or_known() {
    let mut session = Session::default();
    assert_eq!(session.read(&subscribe(&[])), None);
    assert_eq!(session.next(Some(A)), Next::Idle, "not subscribed");
    session.read(&subscribe(&[RESOURCE_NAME]));
    assert_eq!(session.next(None), Next::Idle, "no snapshot yet");
    assert_eq!(session.next(Some(A)), push("1"));
}

#[test]
fn a_push_waits_for_the_answer_and_then_carries_the_latest() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    assert_eq!(session.next(Some(B)), Next::Idle);
    assert_eq!(session.next(Some(C)), Next::Idle);
    assert_eq!(session.read(&ack("1")), Some(Answer::Acked(A)));
    assert_eq!(session.next(Some(C)), push("2"));
    assert_eq!(session.read(&ack("2")), Some(Answer::Acked(C)));
    assert_eq!(session.next(Some(C)), Next::Idle);
}

#[test]
fn an_answer_counts_once_and_only_with_its_nonce() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    assert_eq!(session.read(&ack("")), None);
    assert_eq!(session.read(&ack("7")), None);
    assert_eq!(session.read(&ack("1")), Some(Answer::Acked(A)));
    assert_eq!(session.read(&ack("1")), None);
}

#[test]
fn a_refused_revision_waits_for_its_time_and_the_next_one_does_not() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    assert_eq!(session.read(&nack("1", "no room")), Some(refused(A, 1)));
    assert_eq!(session.next(Some(A)), Next::Idle);
    assert_eq!(session.next(Some(B)), push("2"));
}

#[test]
fn a_refused_revision_is_tried_again_when_its_time_has_come() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    session.read(&nack("1", "no room"));
    session.retry();
    assert_eq!(session.next(Some(A)), push("2"));
    assert_eq!(session.next(Some(A)), Next::Idle, "it waits for the answer");
    assert_eq!(session.read(&ack("2")), Some(Answer::Acked(A)));
    session.retry();
    assert_eq!(session.next(Some(A)), Next::Idle, "it is in force");
}

#[test]
fn the_time_to_a_retry_doubles_to_a_minute_until_something_is_taken() {
    let mut session = subscribed();
    let mut nonces = (1..).map(|nonce: u32| nonce.to_string());
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        let nonce = nonces.next().unwrap();
        assert_eq!(session.next(Some(A)), push(&nonce));
        let answer = session.read(&nack(&nonce, "no room"));
        assert_eq!(answer, Some(refused(A, seconds)));
        session.retry();
    }
    let nonce = nonces.next().unwrap();
    assert_eq!(session.next(Some(A)), push(&nonce));
    session.read(&ack(&nonce));
    let nonce = nonces.next().unwrap();
    assert_eq!(session.next(Some(B)), push(&nonce));
    let answer = session.read(&nack(&nonce, "no room"));
    assert_eq!(answer, Some(refused(B, 1)));
}

#[test]
fn no_number_of_refusals_is_too_high() {
    let refusals = Refusals {
        revision: A,
        times: u32::MAX,
    };
    let another = Refusals::another(Some(refusals), A);
    assert_eq!(another.retry_after(), LONGEST_RETRY);
}

#[test]
fn another_revision_starts_over() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    session.read(&nack("1", "no room"));
    session.retry();
    assert_eq!(session.next(Some(A)), push("2"));
    assert_eq!(session.read(&nack("2", "no room")), Some(refused(A, 2)));
    assert_eq!(session.next(Some(B)), push("3"));
    assert_eq!(session.read(&nack("3", "no room")), Some(refused(B, 1)));
    session.retry();
    assert_eq!(session.next(Some(B)), push("4"));
}

#[test]
fn what_was_refused_before_a_change_is_not_tried_again() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    session.read(&nack("1", "no room"));
    assert_eq!(session.next(Some(B)), push("2"));
    session.retry();
    session.read(&ack("2"));
    assert_eq!(session.next(Some(B)), Next::Idle);
}

#[test]
fn a_retry_outlasts_an_answer_about_other_names() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    session.read(&nack("1", "no room"));
    session.read(&subscribe(&["other"]));
    assert_eq!(session.next(Some(A)), missing("2", &["other"]));
    session.retry();
    assert_eq!(session.next(Some(A)), Next::Idle, "one at a time");
    session.read(&ack("2"));
    assert_eq!(session.next(Some(A)), push("3"));
}

#[test]
fn nobody_is_offered_again_what_was_unsubscribed_or_withheld() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    session.read(&nack("1", "no room"));
    session.read(&unsubscribe(RESOURCE_NAME));
    session.retry();
    assert_eq!(session.next(Some(A)), Next::Idle);

    let mut session = subscribed();
    let Next::Send(plan) = session.next(Some(A)) else {
        panic!("there is something to send")
    };
    session.withhold(plan);
    session.retry();
    assert_eq!(session.next(Some(A)), Next::Idle);
}

#[test]
fn a_reconnecting_client_that_is_up_to_date_gets_nothing() {
    let mut session = Session::default();
    session.read(&reconnect("000000000000000a"));
    assert_eq!(
        session.next(None),
        Next::Idle,
        "this server does not know the pod yet"
    );
    assert_eq!(session.next(Some(A)), Next::Holds(A));
    assert_eq!(session.next(Some(A)), Next::Idle);
    assert_eq!(session.next(Some(B)), push("1"));
}

#[test]
fn a_reconnecting_client_that_is_behind_gets_the_snapshot() {
    for version in ["000000000000000b", "", "nonsense"] {
        let mut session = Session::default();
        session.read(&reconnect(version));
        assert_eq!(session.next(Some(A)), push("1"), "{version:?}");
    }
}

#[test]
fn versions_count_in_the_first_request_only() {
    let mut session = Session::default();
    session.read(&subscribe(&[]));
    session.read(&reconnect("000000000000000a"));
    assert_eq!(session.next(Some(A)), push("1"));
}

#[test]
fn asking_again_is_answered_even_without_a_change() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    session.read(&subscribe(&[RESOURCE_NAME]));
    assert_eq!(session.next(Some(A)), Next::Idle, "one at a time");
    session.read(&ack("1"));
    assert_eq!(session.next(Some(A)), push("2"));
    session.read(&ack("2"));
    assert_eq!(session.next(Some(A)), Next::Idle);
}

#[test]
fn an_unsubscribed_client_gets_nothing_until_it_subscribes_again() {
    let mut session = subscribed();
    assert_eq!(session.next(Some(A)), push("1"));
    session.read(&ack("1"));
    session.read(&unsubscribe(RESOURCE_NAME));
    assert_eq!(session.next(Some(B)), Next::Idle);
    session.read(&subscribe(&[RESOURCE_NAME]));
    assert_eq!(session.next(Some(B)), push("2"));
}

#[test]
fn a_name_that_does_not_exist_is_answered_once() {
    let mut session = Session::default();
    session.read(&subscribe(&["other", "another"]));
    assert_eq!(session.next(Some(A)), missing("1", &["another", "other"]));
    assert_eq!(session.read(&ack("1")), None, "no snapshot was applied");
    assert_eq!(session.next(Some(A)), Next::Idle);
}

#[test]
fn our_own_resource_is_never_reported_missing() {
    let mut session = Session::default();
    session.read(&subscribe(&[RESOURCE_NAME, "other"]));
    assert_eq!(session.next(None), missing("1", &["other"]));
    session.read(&ack("1"));
    assert_eq!(session.next(None), Next::Idle);
    assert_eq!(session.next(Some(A)), push("2"));
}

#[test]
fn a_withheld_snapshot_leaves_the_stream_usable() {
    let mut session = subscribed();
    let Next::Send(plan) = session.next(Some(A)) else {
        panic!("there is something to send")
    };
    assert_eq!(session.withhold(plan), None);
    assert_eq!(session.next(Some(A)), Next::Idle);
    assert_eq!(session.next(Some(B)), push("2"));
}

#[test]
fn withholding_still_answers_for_unknown_names() {
    let mut session = Session::default();
    session.read(&subscribe(&[RESOURCE_NAME, "other"]));
    let Next::Send(plan) = session.next(Some(A)) else {
        panic!("there is something to send")
    };
    assert_eq!(
        session.withhold(plan).map(Next::Send),
        Some(missing("1", &["other"]))
    );
    assert_eq!(session.read(&ack("1")), None, "no snapshot was applied");
}
