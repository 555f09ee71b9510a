//! Something in Envoy's place, and clients with Envoy's user and source addresses.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use sidewall_host_tests::net::Netns;

const PATIENCE: Duration = Duration::from_secs(2);

/// Who answered a client, and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The name of the application or listener.
    by: String,
    /// The client's address, as seen there.
    client: IpAddr,
    /// Where the connection was meant to go; only a listener in Envoy's place knows.
    destination: Option<SocketAddr>,
}

impl Capture {
    /// An application answered.
    pub fn direct(by: &str, client: &str) -> Self {
        Self {
            by: by.to_owned(),
            client: client.parse().expect("an address"),
            destination: None,
        }
    }

    /// A listener in Envoy's place answered.
    pub fn redirected(by: &str, client: &str, destination: SocketAddr) -> Self {
        Self {
            destination: Some(destination),
            ..Self::direct(by, client)
        }
    }
}

/// Listens in Envoy's place, and answers with the original destination.
pub fn intercept(netns: &Netns, name: &'static str, port: u16) -> Result<()> {
    let listener = netns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))??;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if let Ok((peer, destination)) = ends(&stream) {
                let _ = write!(stream, "{name} {peer} {destination}");
            }
        }
    });
    Ok(())
}

fn ends(stream: &TcpStream) -> Result<(IpAddr, SocketAddr)> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let destination = if peer.is_ipv4() {
        let raw = getsockopt(stream, sockopt::OriginalDst)?;
        SocketAddrV4::new(
            u32::from_be(raw.sin_addr.s_addr).into(),
            u16::from_be(raw.sin_port),
        )
        .into()
    } else {
        let raw = getsockopt(stream, sockopt::Ip6tOriginalDst)?;
        SocketAddrV6::new(
            raw.sin6_addr.s6_addr.into(),
            u16::from_be(raw.sin6_port),
            0,
            0,
        )
        .into()
    };
    Ok((peer, destination))
}

/// Where and as whom to connect.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    pub netns: &'a Netns,
    pub uid: u32,
    pub gid: u32,
    /// The address to connect from, if it matters.
    pub source: Option<&'static str>,
}

impl<'a> Client<'a> {
    /// An application.
    pub fn root(netns: &'a Netns) -> Self {
        Self {
            netns,
            uid: 0,
            gid: 0,
            source: None,
        }
    }

    /// Envoy.
    pub fn envoy(netns: &'a Netns) -> Self {
        Self {
            netns,
            uid: 1337,
            gid: 1337,
            source: None,
        }
    }

    /// Connects and reads who answers.
    pub fn ask(self, to: SocketAddr) -> Result<Capture> {
        let text = self.netns.run(|| {
            // The owner match looks at the file system's user, which is the thread's own affair.
            setfsgid(Gid::from_raw(self.gid));
            setfsuid(Uid::from_raw(self.uid));
            let mut text = String::new();
            self.connect(to)?.read_to_string(&mut text)?;
            anyhow::Ok(text)
        })??;
        let mut words = text.split(' ');
        let by = words.next().unwrap_or_default().to_owned();
        let client = words
            .next()
            .with_context(|| format!("an odd answer: {text:?}"))?
            .parse()?;
        Ok(Capture {
            by,
            client,
            destination: words.next().map(str::parse).transpose()?,
        })
    }

    fn connect(self, to: SocketAddr) -> Result<TcpStream> {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let patience = TimeVal::new(i64::try_from(PATIENCE.as_secs())?, 0);
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        if let Some(source) = self.source {
            let source = SocketAddr::new(source.parse()?, 0);
            bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
        }
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(TcpStream::from(socket))
    }
}
