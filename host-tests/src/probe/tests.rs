//! The client against servers that do not keep to the protocol, on the loopback interface.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_millis(300);

/// Tries a server that does this with its first connection.
fn against(server: impl FnOnce(TcpStream) + Send + 'static) -> Report {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || server(listener.accept().unwrap().0));
    let report = attempt(address, Protocol::Tcp, PATIENCE);
    server.join().unwrap();
    report
}

fn complaint(report: &Report) -> (bool, &str) {
    assert_eq!(report.answered_by, None, "{report:?}");
    (
        report.connected,
        report.error.as_deref().unwrap_or_default(),
    )
}

#[test]
fn a_proxy_that_closes_at_once_is_connected_and_not_answered() {
    let report = against(drop);
    assert_eq!(complaint(&report), (true, "closed before the server spoke"));
}

#[test]
fn a_silent_peer_is_given_up_in_time() {
    let report = against(|stream| {
        thread::sleep(2 * PATIENCE);
        drop(stream);
    });
    assert_eq!(complaint(&report), (true, "timed out"));
    assert!(
        report.took >= PATIENCE && report.took < 2 * PATIENCE,
        "{report:?}"
    );
}

#[test]
fn an_answer_that_is_not_to_the_question_is_none() {
    let report = against(|mut stream| {
        stream
            .write_all(b"a/b:1\na/b:1 nonce-of-somebody-else\n")
            .unwrap();
    });
    let (connected, error) = complaint(&report);
    assert!(
        connected && error.contains("got \"a/b:1 nonce-of-somebody-else\""),
        "{error}"
    );
}

#[test]
fn a_greeting_without_an_answer_is_none() {
    let report = against(|mut stream| {
        stream.write_all(b"a/b:1\n").unwrap();
        // Take the nonce, so that closing says FIN.
        let _ = io::Read::read(&mut stream, &mut [0; 64]).unwrap();
    });
    assert_eq!(complaint(&report), (true, "closed before the answer"));
}

#[test]
fn a_closed_port_is_refused() {
    let address = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap()
    };
    assert_eq!(
        complaint(&attempt(address, Protocol::Tcp, PATIENCE)),
        (false, "refused")
    );
}

#[test]
fn udp_is_connected_only_when_somebody_answers() {
    let mute = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: SocketAddr = mute.local_addr().unwrap();
    assert_eq!(
        complaint(&attempt(address, Protocol::Udp, PATIENCE)),
        (false, "timed out")
    );
    drop(mute);
    assert_eq!(
        complaint(&attempt(address, Protocol::Udp, PATIENCE)),
        (false, "refused")
    );
}

#[test]
fn jobs_run_side_by_side_and_keep_their_order() {
    let running = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    let results = parallel(&[3, 1, 2, 0, 5, 4], 3, |number| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
        running.fetch_sub(1, Ordering::SeqCst);
        number * 10
    });
    assert_eq!(results, [30, 10, 20, 0, 50, 40]);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
