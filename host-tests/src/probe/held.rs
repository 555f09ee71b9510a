//! A connection that is held open, to see whether it lives.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Error;
use super::client::{Clock, exchange, greeting};
use crate::net::Netns;

/// An open TCP connection to a [`super::Server`]. Dropping it closes it.
#[derive(Debug)]
pub struct Held {
    stream: TcpStream,
    identity: String,
    exchanges: u64,
}

impl Held {
    /// Connects from `netns` and makes sure that the server answers.
    ///
    /// # Errors
    ///
    /// [`Error::Hold`] when it does not.
    pub fn open(netns: &Netns, destination: SocketAddr, timeout: Duration) -> Result<Self, Error> {
        let hold = |reason: String| Error::Hold {
            destination,
            reason,
        };
        let clock = Clock {
            started: Instant::now(),
            timeout,
        };
        let connected = netns.run(|| TcpStream::connect_timeout(&destination, timeout))?;
        let mut stream = connected.map_err(|error| hold(error.to_string()))?;
        let identity = greeting(&mut stream, clock).map_err(hold)?;
        let mut held = Self {
            stream,
            identity,
            exchanges: 0,
        };
        held.exchange(timeout).map_err(hold)?;
        Ok(held)
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
    /// What happened instead, such as `reset` or `closed before the answer`.
    pub fn exchange(&mut self, timeout: Duration) -> Result<(), String> {
        self.exchanges += 1;
        let nonce = format!("held-{}", self.exchanges);
        exchange(
            &mut self.stream,
            &self.identity,
            &nonce,
            Clock {
                started: Instant::now(),
                timeout,
            },
        )
    }

    /// Waits, without sending anything, for the other end to close. How long that took; `None`
    /// when the connection still stands after `timeout`.
    pub fn wait_cut(&mut self, timeout: Duration) -> Option<Duration> {
        let started = Instant::now();
        loop {
            let left = timeout
                .checked_sub(started.elapsed())
                .filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).ok()?;
            match self.stream.read(&mut [0; 64]) {
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
