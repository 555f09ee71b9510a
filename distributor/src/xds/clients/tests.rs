use std::time::Duration;

use super::*;

const A: Revision = Revision(0xa);
const B: Revision = Revision(0xb);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn pod(name: &str) -> Recipient {
    crate::testing::recipient(name)
}

fn refusal(revision: Revision) -> Refused {
    Refused {
        revision,
        at: at(9),
        by: Refuser::Client,
        reason: "no room".to_owned(),
    }
}

#[test]
fn a_stream_is_followed_from_connect_to_disconnect() {
    let clients = Clients::default();
    let connection = clients.connect(&pod("db"), None, None, at(1));
    connection.sent(A, at(2));
    connection.acked(A, at(3));
    let client = clients.all().remove(&pod("db")).unwrap();
    let stream = client.latest().unwrap();
    assert_eq!(stream.connected_at, at(1));
    assert_eq!(
        stream.sent,
        Some(Stamped {
            revision: A,
            at: at(2)
        })
    );
    assert_eq!(
        stream.acked,
        Some(Stamped {
            revision: A,
            at: at(3)
        })
    );
    assert_eq!(stream.disconnected_at, None);

    drop(connection);
    let client = clients.all().remove(&pod("db")).unwrap();
    assert!(client.open.is_empty());
    let stream = client.latest().unwrap();
    assert!(stream.disconnected_at.is_some());
    assert_eq!(
        stream.acked,
        Some(Stamped {
            revision: A,
            at: at(3)
        }),
        "what it ran is remembered"
    );
}

#[test]
fn a_refusal_lasts_until_something_is_acknowledged() {
    let clients = Clients::default();
    let connection = clients.connect(&pod("db"), None, None, at(1));
    connection.acked(A, at(2));
    connection.refused(refusal(B));
    let stream = clients.all()[&pod("db")].latest().unwrap().clone();
    assert_eq!(stream.refused, Some(refusal(B)));
    assert_eq!(
        stream.acked.map(|acked| acked.revision),
        Some(A),
        "the old one is still in force"
    );
    connection.acked(B, at(10));
    assert_eq!(clients.all()[&pod("db")].latest().unwrap().refused, None);
}

#[test]
fn the_newest_of_two_streams_speaks_for_the_pod() {
    let clients = Clients::default();
    let old = clients.connect(&pod("db"), None, None, at(1));
    let new = clients.connect(&pod("db"), None, None, at(2));
    old.acked(A, at(3));
    new.acked(B, at(4));
    let client = &clients.all()[&pod("db")];
    assert_eq!(client.open.len(), 2);
    assert_eq!(
        client.latest().unwrap().acked,
        Some(Stamped {
            revision: B,
            at: at(4)
        })
    );
    drop(old);
    let client = &clients.all()[&pod("db")];
    assert_eq!(
        (client.open.len(), client.latest().unwrap().connected_at),
        (1, at(2))
    );
}

#[test]
fn only_the_longest_gone_are_forgotten() {
    let clients = Clients::default();
    let staying = clients.connect(&pod("staying"), None, None, at(0));
    let returning = clients.connect(&pod("returning"), None, None, at(0));
    drop(returning);
    let returned = clients.connect(&pod("returning"), None, None, at(0));
    for number in 0..=MAX_GONE {
        drop(clients.connect(&pod(&format!("gone-{number}")), None, None, at(0)));
    }
    let all = clients.all();
    assert!(!all.contains_key(&pod("gone-0")));
    assert!(all.contains_key(&pod("gone-1")));
    assert!(all.contains_key(&pod("staying")) && all.contains_key(&pod("returning")));
    assert_eq!(all.len(), MAX_GONE + 2);
    drop((staying, returned));
}
