//! A server on one port of one host: it says who it is, echoes, and remembers who came.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::raw::{self, Association};
use super::{Error, MAX_LINE, Protocol, lock};
use crate::net::Netns;

/// Somebody who came to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where from, as the server saw it: behind a sidecar, `127.0.0.6` or `::6`.
    pub peer: SocketAddr,
    /// When.
    pub at: Instant,
    /// What it sent first; `None` for a TCP connection that has sent nothing yet.
    pub nonce: Option<String>,
}

/// A running server, on every address of its host and both families. Dropping it stops it from
/// accepting; connections that it has go on.
#[derive(Debug)]
pub struct Server {
    netns: Netns,
    protocol: Protocol,
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    identity: String,
    seen: Mutex<Vec<Seen>>,
    stopped: AtomicBool,
}

impl Server {
    /// Starts a server that calls itself `identity`, a text without blanks and line breaks. Port 0
    /// takes any free one.
    ///
    /// # Errors
    ///
    /// When the port is taken or the namespace cannot be entered.
    pub fn start(
        netns: &Netns,
        identity: &str,
        protocol: Protocol,
        port: u16,
    ) -> Result<Self, Error> {
        let listen = |source| Error::Listen {
            identity: identity.to_owned(),
            protocol,
            port,
            source,
        };
        let shared = Arc::new(Shared {
            identity: identity.to_owned(),
            seen: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        // `::` takes IPv4 too, its peers shown as v4-mapped.
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let serving = Arc::clone(&shared);
        let (port, thread) = match protocol {
            Protocol::Tcp => {
                let listener = netns.run(|| TcpListener::bind(any))?.map_err(listen)?;
                let port = listener.local_addr().map_err(listen)?.port();
                (port, thread::spawn(move || serve_tcp(&listener, &serving)))
            }
            Protocol::Udp => {
                let socket = netns.run(|| UdpSocket::bind(any))?.map_err(listen)?;
                let port = socket.local_addr().map_err(listen)?.port();
                (port, thread::spawn(move || serve_udp(&socket, &serving)))
            }
            Protocol::Sctp => {
                let sockets = netns.run(|| Ok([raw::sctp(true)?, raw::sctp(false)?]))?;
                let [v4, v6] = sockets.map_err(listen)?;
                let both = move || {
                    thread::scope(|scope| {
                        scope.spawn(|| serve_sctp(&v4, true, port, &serving));
                        serve_sctp(&v6, false, port, &serving);
                    });
                };
                (port, thread::spawn(both))
            }
            Protocol::Icmp => {
                let kernel = "echo requests are answered by the kernel";
                return Err(listen(io::Error::new(io::ErrorKind::Unsupported, kernel)));
            }
        };
        Ok(Self {
            netns: netns.clone(),
            protocol,
            port,
            shared,
            thread: Some(thread),
        })
    }

    /// What it calls itself.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.shared.identity
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everybody who came so far: for TCP each accepted connection, whether or not it sent
    /// anything, for UDP each datagram.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Comes by itself, so that the thread wakes up and sees that it is to stop.
    fn wake(&self) -> io::Result<()> {
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port);
        match self.protocol {
            Protocol::Tcp => TcpStream::connect_timeout(&own, Duration::from_secs(1)).map(drop),
            Protocol::Udp => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?
                .send_to(b"\n", own)
                .map(drop),
            // Looks by itself every moment.
            Protocol::Sctp | Protocol::Icmp => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let woken = self.netns.run(|| self.wake());
        if let (Ok(Ok(())), Some(thread)) = (woken, self.thread.take()) {
            // A server that cannot be woken is left alone; it ends with the process.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Writes a visitor down and returns its place.
    fn record(&self, peer: SocketAddr, nonce: Option<String>) -> usize {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let mut seen = lock(&self.seen);
        seen.push(Seen {
            peer,
            at: Instant::now(),
            nonce,
        });
        seen.len() - 1
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.is_stopped() {
            return;
        }
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, or a client that gave up: the next one may do.
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let place = shared.record(peer, None);
        let shared = Arc::clone(shared);
        let conversation = thread::Builder::new().stack_size(128 << 10);
        // Without a thread the client sees its connection closed, and its probe says so.
        let _ = conversation.spawn(move || talk(stream, place, &shared));
    }
}

/// Speaks first, then echoes line by line until the client has enough.
fn talk(stream: TcpStream, place: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    writer.write_all(format!("{}\n", shared.identity).as_bytes())?;
    let mut first = true;
    loop {
        let mut line = String::new();
        if (&mut reader).take(MAX_LINE as u64).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let nonce = line.trim_end();
        if first && let Some(seen) = lock(&shared.seen).get_mut(place) {
            seen.nonce = Some(nonce.to_owned());
        }
        first = false;
        writer.write_all(format!("{} {nonce}\n", shared.identity).as_bytes())?;
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut datagram = [0; MAX_LINE];
    loop {
        let received = socket.recv_from(&mut datagram);
        if shared.is_stopped() {
            return;
        }
        // An error is an ICMP message about an earlier answer.
        let Ok((length, peer)) = received else {
            continue;
        };
        let text = String::from_utf8_lossy(&datagram[..length]);
        let nonce = text.trim_end();
        shared.record(peer, Some(nonce.to_owned()));
        let _ = socket.send_to(format!("{} {nonce}\n", shared.identity).as_bytes(), peer);
    }
}

fn serve_sctp(socket: &UdpSocket, is_v4: bool, port: u16, shared: &Shared) {
    /// How long a server that was told to stop may still wait for a packet.
    const MOMENT: Duration = Duration::from_millis(50);
    let mut buffer = [0; 2048];
    let timed = socket.set_read_timeout(Some(MOMENT));
    while timed.is_ok() && !shared.is_stopped() {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let init = raw::payload(is_v4, &buffer[..length]).and_then(Association::decode);
        let Some(init) = init.filter(|init| !init.is_ack && init.destination == port) else {
            continue;
        };
        let peer = SocketAddr::new(peer.ip(), init.source);
        shared.record(peer, Some(init.words.clone()));
        let ack = Association {
            source: port,
            destination: init.source,
            verification: init.initiate,
            initiate: init.initiate.wrapping_add(1).max(1),
            is_ack: true,
            words: format!("{} {}", shared.identity, init.words),
        };
        let _ = socket.send_to(&ack.encode(), raw::without_port(peer));
    }
}
