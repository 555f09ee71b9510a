//! Clients and servers that load an Envoy, in its own network namespace. They check what they get:
//! a connection that is denied or broken fails the bench.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use super::bootstrap::Places;
use super::site::Site;

/// Clients that run at the same time.
const CLIENTS: usize = 4;

/// A message of a conversation.
pub const MESSAGE: [u8; 128] = [b'm'; 128];

/// What goes through a stream in each direction.
pub const STREAM: usize = 64 << 20;

/// Starts the servers behind a site's listeners. They run until the sandbox ends.
///
/// # Errors
///
/// When they cannot listen.
pub fn serve(site: &Site) -> Result<()> {
    let places = Places::default();
    for (at, talk) in [
        (places.echoing.1, echo as fn(TcpStream) -> io::Result<()>),
        (places.streaming.1, stream),
    ] {
        let listener = site
            .netns()
            .run(|| TcpListener::bind(at))?
            .with_context(|| format!("listening on {at}"))?;
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // A connection that breaks is noticed by its client.
                thread::spawn(move || talk(connection));
            }
        });
    }
    Ok(())
}

fn echo(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut message = MESSAGE;
    while connection.read_exact(&mut message).is_ok() {
        connection.write_all(&message)?;
    }
    Ok(())
}

fn stream(mut connection: TcpStream) -> io::Result<()> {
    drain(&mut connection)?;
    fill(&mut connection)
}

fn drain(connection: &mut TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut left = STREAM;
    while left > 0 {
        match connection.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => left = left.saturating_sub(length),
        }
    }
    Ok(())
}

fn fill(connection: &mut TcpStream) -> io::Result<()> {
    let buffer = vec![b's'; 256 << 10];
    for _ in 0..STREAM / buffer.len() {
        connection.write_all(&buffer)?;
    }
    Ok(())
}

/// Opens this many connections, one after the other from every client, and reads the answer of
/// each to its end.
///
/// # Errors
///
/// When one is not answered.
pub fn connections(site: &Site, peers: &[Ipv4Addr], count: usize) -> Result<Duration> {
    let place = Places::default().answering;
    clients(site, peers, count, |peer| {
        let mut connection = from(peer, place)?;
        let mut answer = Vec::with_capacity(8);
        connection.read_to_end(&mut answer)?;
        ensure!(answer == b"ok", "{peer} got {answer:?} from {place}");
        Ok(())
    })
}

/// The same through a TCP proxy to a server: as many messages there and back on each connection.
///
/// # Errors
///
/// When one does not come back.
pub fn conversations(
    site: &Site,
    peers: &[Ipv4Addr],
    count: usize,
    messages: usize,
) -> Result<Duration> {
    let place = Places::default().echoing.0;
    clients(site, peers, count, |peer| {
        let mut connection = from(peer, place)?;
        let mut answer = [0; MESSAGE.len()];
        for _ in 0..messages {
            connection.write_all(&MESSAGE)?;
            connection.read_exact(&mut answer)?;
        }
        connection.shutdown(Shutdown::Write)?;
        ensure!(
            connection.read(&mut answer)? == 0,
            "{place} said more than it was asked"
        );
        Ok(())
    })
}

/// This many streams at the same time, each of [`STREAM`] bytes up and then down.
///
/// # Errors
///
/// When one breaks.
pub fn streams(site: &Site, peers: &[Ipv4Addr], count: usize) -> Result<Duration> {
    let place = Places::default().streaming.0;
    clients(site, peers, count, |peer| {
        let mut connection = from(peer, place)?;
        fill(&mut connection)?;
        drain(&mut connection)?;
        Ok(())
    })
}

/// Divides `count` calls of `work` among the clients and says how long they took.
fn clients(
    site: &Site,
    peers: &[Ipv4Addr],
    count: usize,
    work: impl Fn(Ipv4Addr) -> Result<()> + Sync,
) -> Result<Duration> {
    let number = CLIENTS.min(count);
    let share = |client: usize| {
        peers
            .iter()
            .cycle()
            .skip(client)
            .step_by(number)
            .take(count / number)
    };
    site.netns().run(|| {
        let started = Instant::now();
        thread::scope(|scope| {
            let work = &work;
            let client = |index| scope.spawn(move || share(index).try_for_each(|peer| work(*peer)));
            let running: Vec<_> = (0..number).map(client).collect();
            let mut done = running
                .into_iter()
                .map(|client| client.join().expect("clients do not panic"));
            done.try_for_each(|result| result)
        })?;
        Ok(started.elapsed())
    })?
}

/// A connection from a given address, by a thread in the site's namespace.
///
/// # Errors
///
/// When it does not come about.
pub fn from(source: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let SocketAddr::V4(to) = to else {
        anyhow::bail!("{to} is not IPv4")
    };
    let client = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&client),
        &SockaddrIn::from(SocketAddrV4::new(source, 0)),
    )
    .with_context(|| format!("binding to {source}"))?;
    connect(
        std::os::fd::AsRawFd::as_raw_fd(&client),
        &SockaddrIn::from(to),
    )
    .with_context(|| format!("{source} to {to}"))?;
    let client = TcpStream::from(client);
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(client)
}
