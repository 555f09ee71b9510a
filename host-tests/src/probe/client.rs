//! One attempt to reach a server.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::raw::{self, Association};
use super::{MAX_LINE, Protocol};

/// Numbers the attempts of this process.
static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// TCP: the handshake was completed, by the server or by a proxy in between. Other protocols
    /// have none here: the same as whether somebody answered.
    pub connected: bool,
    /// Who gave the nonce back; over ICMP, from which address. `None`: not answered.
    pub answered_by: Option<String>,
    /// What happened instead of an answer.
    pub error: Option<String>,
    /// From the first packet to the answer or to the error.
    pub took: Duration,
    /// What was sent, to be found in what the server saw.
    pub nonce: String,
}

/// Tries to reach a server, from the network namespace of the calling thread.
#[must_use]
pub fn attempt(destination: SocketAddr, protocol: Protocol, timeout: Duration) -> Report {
    let nonce = format!("nonce-{}", ATTEMPTS.fetch_add(1, Ordering::Relaxed));
    let clock = Clock::start(timeout);
    let mut connected = false;
    let answer = match protocol {
        Protocol::Tcp => tcp(destination, &nonce, clock, &mut connected),
        Protocol::Udp => udp(destination, &nonce, clock),
        Protocol::Sctp => sctp(destination, &nonce, clock),
        Protocol::Icmp => echo(destination, &nonce, clock),
    };
    let took = clock.started.elapsed();
    match answer {
        Ok(identity) => Report {
            connected: true,
            answered_by: Some(identity),
            error: None,
            took,
            nonce,
        },
        Err(error) => Report {
            connected,
            answered_by: None,
            error: Some(error),
            took,
            nonce,
        },
    }
}

/// Counts one attempt's time.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    timeout: Duration,
}

impl Clock {
    pub(super) fn start(timeout: Duration) -> Self {
        Self {
            started: Instant::now(),
            timeout,
        }
    }

    /// What is left; never zero, which sockets refuse as a timeout.
    fn left(self) -> Duration {
        self.timeout
            .saturating_sub(self.started.elapsed())
            .max(Duration::from_millis(1))
    }
}

fn tcp(
    destination: SocketAddr,
    nonce: &str,
    clock: Clock,
    connected: &mut bool,
) -> Result<String, String> {
    let mut stream = TcpStream::connect_timeout(&destination, clock.timeout)
        .map_err(|error| describe(&error))?;
    *connected = true;
    let identity = greeting(&mut stream, clock)?;
    exchange(&mut stream, &identity, nonce, clock)?;
    Ok(identity)
}

/// Reads who the server is.
pub(super) fn greeting(stream: &mut TcpStream, clock: Clock) -> Result<String, String> {
    stream.set_nodelay(true).map_err(|error| describe(&error))?;
    line(stream, clock)?.ok_or_else(|| "closed before the server spoke".to_owned())
}

/// Sends a nonce and waits for it to come back.
pub(super) fn exchange(
    stream: &mut TcpStream,
    identity: &str,
    nonce: &str,
    clock: Clock,
) -> Result<(), String> {
    stream
        .write_all(format!("{nonce}\n").as_bytes())
        .map_err(|error| describe(&error))?;
    let answer = line(stream, clock)?.ok_or("closed before the answer")?;
    check(&answer, nonce).and_then(|speaker| {
        if speaker == identity {
            Ok(())
        } else {
            Err(format!("greeted by {identity}, answered by {speaker}"))
        }
    })
}

fn udp(destination: SocketAddr, nonce: &str, clock: Clock) -> Result<String, String> {
    let socket = datagrams(destination)?;
    send(&socket, nonce)?;
    check(&datagram(&socket, clock)?, nonce).map(str::to_owned)
}

/// A socket that talks to that destination alone.
pub(super) fn datagrams(destination: SocketAddr) -> Result<UdpSocket, String> {
    let any = match destination {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(destination)?;
        Ok(socket)
    });
    socket.map_err(|error| describe(&error))
}

/// Sends a nonce in a datagram.
pub(super) fn send(socket: &UdpSocket, nonce: &str) -> Result<(), String> {
    let sent = socket.send(format!("{nonce}\n").as_bytes());
    sent.map(drop).map_err(|error| describe(&error))
}

/// Waits for a datagram.
pub(super) fn datagram(socket: &UdpSocket, clock: Clock) -> Result<String, String> {
    let mut answer = [0; MAX_LINE];
    let received = socket
        .set_read_timeout(Some(clock.left()))
        .and_then(|()| socket.recv(&mut answer));
    let length = received.map_err(|error| describe(&error))?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    Ok(answer.trim_end().to_owned())
}

fn sctp(destination: SocketAddr, nonce: &str, clock: Clock) -> Result<String, String> {
    let is_v4 = destination.is_ipv4();
    // Ports and tags that no other attempt of this process has at the time.
    let number = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let init = Association {
        source: 32_768 + (number % 32_768) as u16,
        destination: destination.port(),
        verification: 0,
        initiate: 1 + (number as u32 & 0x00ff_ffff),
        is_ack: false,
        words: nonce.to_owned(),
    };
    let socket = raw::sctp(is_v4).map_err(|error| describe(&error))?;
    receive(&socket, &init.encode(), destination, clock, |_, packet| {
        let ack = Association::decode(packet)?;
        let is_ours = ack.is_ack
            && ack.verification == init.initiate
            && (ack.source, ack.destination) == (init.destination, init.source);
        is_ours.then(|| check(&ack.words, nonce).map(str::to_owned))
    })
}

fn echo(destination: SocketAddr, nonce: &str, clock: Clock) -> Result<String, String> {
    let is_v4 = destination.is_ipv4();
    let id = ATTEMPTS.fetch_add(1, Ordering::Relaxed) as u16;
    let socket = raw::icmp(is_v4).map_err(|error| describe(&error))?;
    let request = raw::echo_request(is_v4, id, nonce);
    receive(&socket, &request, destination, clock, |from, packet| {
        raw::is_echo_reply(is_v4, id, nonce, packet).then(|| Ok(from.ip().to_string()))
    })
}

/// Sends a packet and waits for the one that answers it: raw sockets hear everybody's.
fn receive(
    socket: &UdpSocket,
    packet: &[u8],
    destination: SocketAddr,
    clock: Clock,
    answers: impl Fn(SocketAddr, &[u8]) -> Option<Result<String, String>>,
) -> Result<String, String> {
    let mut buffer = [0; 2048];
    socket
        .send_to(packet, raw::without_port(destination))
        .map_err(|error| describe(&error))?;
    loop {
        if clock.started.elapsed() >= clock.timeout {
            return Err("timed out".to_owned());
        }
        let received = socket
            .set_read_timeout(Some(clock.left()))
            .and_then(|()| socket.recv_from(&mut buffer));
        let (length, from) = received.map_err(|error| describe(&error))?;
        let answer = raw::payload(destination.is_ipv4(), &buffer[..length])
            .and_then(|packet| answers(from, packet));
        if let Some(answer) = answer {
            return answer;
        }
    }
}

/// Takes an answer apart: the server's identity, if the nonce is the one that was sent.
pub(super) fn check<'a>(answer: &'a str, nonce: &str) -> Result<&'a str, String> {
    match answer.split_once(' ') {
        Some((identity, echo)) if echo == nonce => Ok(identity),
        _ => Err(format!("sent {nonce}, got {answer:?}")),
    }
}

/// One line; `None` at the end of the stream. Byte by byte: nothing after it may be swallowed.
fn line(stream: &mut TcpStream, clock: Clock) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_LINE {
        stream
            .set_read_timeout(Some(clock.left()))
            .map_err(|error| describe(&error))?;
        match stream.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte[0] == b'\n' => {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(describe(&error)),
        }
    }
    Err(format!("more than {MAX_LINE} bytes without a line break"))
}

/// The same words for the same thing, whatever the system calls it.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timed out".to_owned(),
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "unreachable".to_owned()
        }
        _ => error.to_string(),
    }
}
