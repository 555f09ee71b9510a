//! Servers that say whom they see and where they were called, and clients that ask them.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use sidewall_host_tests::net::Netns;

const PATIENCE: Duration = Duration::from_secs(2);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The server's name.
    pub server: String,
    /// The client, as the server saw it.
    pub client: IpAddr,
}

/// Serves TCP and UDP on a port of every address, for as long as the program runs.
pub fn serve(netns: &Netns, name: &'static str, port: u16) -> Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (tcp, udp) = netns.run(|| (TcpListener::bind(any), UdpSocket::bind(any)))?;
    let (tcp, udp) = (tcp?, udp?);
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            if let Ok(peer) = stream.peer_addr() {
                let _ = stream.write_all(says(name, peer).as_bytes());
            }
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(says(name, peer).as_bytes(), peer);
        }
    });
    Ok(())
}

fn says(name: &str, peer: SocketAddr) -> String {
    format!("{name} {}", peer.ip().to_canonical())
}

/// Connects and reads the answer.
pub fn ask_tcp(from: &Netns, to: SocketAddr) -> Result<Answer> {
    let text = from.run(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    parse(&text?.with_context(|| format!("tcp from {} to {to}", from.name()))?)
}

/// Sends a datagram and reads the answer.
pub fn ask_udp(from: &Netns, to: SocketAddr) -> Result<Answer> {
    let text = from.run(|| -> Result<String> {
        let any: IpAddr = if to.is_ipv4() {
            "0.0.0.0".parse()?
        } else {
            "::".parse()?
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        socket.send(b"who?")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    parse(&text?.with_context(|| format!("udp from {} to {to}", from.name()))?)
}

fn parse(text: &str) -> Result<Answer> {
    let (server, client) = text
        .split_once(' ')
        .with_context(|| format!("an odd answer: {text:?}"))?;
    Ok(Answer {
        server: server.to_owned(),
        client: client.parse()?,
    })
}
