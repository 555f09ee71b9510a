//! A connection that is held open, to see whether it lives.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::client::{Clock, check, datagram, datagrams, exchange, greeting, send};
use crate::net::Netns;

/// An open connection to a [`super::Server`]: TCP, or UDP from one socket to one server, which is
/// one connection to whoever tracks connections. Dropping it closes it.
#[derive(Debug)]
pub struct Held {
    wire: Wire,
    identity: String,
    exchanges: u64,
}

#[derive(Debug)]
enum Wire {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Held {
    /// Connects from `netns` over TCP and makes sure that the server answers.
    ///
    /// # Errors
    ///
    /// [`Error::Hold`] when it does not.
    pub fn open(netns: &Netns, destination: SocketAddr, timeout: Duration) -> Result<Self, Error> {
        let hold = |reason: String| Error::Hold {
            destination,
            reason,
        };
        let clock = Clock::start(timeout);
        let connected = netns.run(|| TcpStream::connect_timeout(&destination, timeout))?;
        let mut stream = connected.map_err(|error| hold(error.to_string()))?;
        let identity = greeting(&mut stream, clock).map_err(hold)?;
        let mut held = Self {
            wire: Wire::Tcp(stream),
            identity,
            exchanges: 0,
        };
        held.exchange(timeout).map_err(hold)?;
        Ok(held)
    }

    /// The same over UDP.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_udp(
        netns: &Netns,
        destination: SocketAddr,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let hold = |reason: String| Error::Hold {
            destination,
            reason,
        };
        let socket = netns.run(|| datagrams(destination))?.map_err(hold)?;
        let nonce = "held-0";
        let identity = send(&socket, nonce)
            .and_then(|()| datagram(&socket, Clock::start(timeout)))
            .and_then(|answer| check(&answer, nonce).map(str::to_owned));
        Ok(Self {
            wire: Wire::Udp(socket),
            identity: identity.map_err(hold)?,
            exchanges: 0,
        })
    }

    /// Who is at the other end.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Sends something and waits for it to come back.
    ///
    /// # Errors
    ///
    /// What happened instead, such as `reset`, `timed out` or `closed before the answer`.
    pub fn exchange(&mut self, timeout: Duration) -> Result<(), String> {
        self.exchanges += 1;
        let nonce = format!("held-{}", self.exchanges);
        let clock = Clock::start(timeout);
        match &mut self.wire {
            Wire::Tcp(stream) => exchange(stream, &self.identity, &nonce, clock),
            Wire::Udp(socket) => {
                send(socket, &nonce)?;
                // An answer to an earlier datagram may come late, and is none to this one.
                while check(&datagram(socket, clock)?, &nonce) != Ok(&self.identity) {}
                Ok(())
            }
        }
    }

    /// Exchanges something again and again until it stays unanswered for `silence`, or breaks. For
    /// how long it was answered; `None` when it still is after `patience`.
    pub fn wait_silent(&mut self, silence: Duration, patience: Duration) -> Option<Duration> {
        let started = Instant::now();
        let mut answered = Duration::ZERO;
        while answered < patience {
            if self.exchange(silence).is_err() {
                return Some(answered);
            }
            answered = started.elapsed();
            // Who is to silence it needs the machine, too.
            thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// Waits, without sending anything, for the other end to close. How long that took; `None`
    /// when the connection still stands after `timeout`, as one over UDP always does: nobody
    /// closes that.
    pub fn wait_cut(&mut self, timeout: Duration) -> Option<Duration> {
        let stream = match &mut self.wire {
            Wire::Tcp(stream) => stream,
            Wire::Udp(_) => return None,
        };
        let started = Instant::now();
        loop {
            let left = timeout
                .checked_sub(started.elapsed())
                .filter(|left| !left.is_zero())?;
            stream.set_read_timeout(Some(left)).ok()?;
            match stream.read(&mut [0; 64]) {
                Ok(0) => return Some(started.elapsed()),
                Ok(_) => {}
                Err(error) if is_retry(&error) => {}
                Err(_) => return Some(started.elapsed()),
            }
        }
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
