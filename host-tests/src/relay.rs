//! What stands in front of a distributor's replicas, as a Service does: each new connection goes to the next
//! server in rotation, and stays with it.
//!
//! It does not look whether a server is alive, as kube-proxy does not: connections to one that is dead are
//! closed until somebody takes it out of rotation.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use sidewall_policy::snapshot::MAGIC;

use crate::net::{self, Netns};

/// Changes a snapshot on its way to a client, in place.
pub type Alter = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// A relay that listens until it is dropped; that ends its connections, too.
#[derive(Debug)]
pub struct Relay {
    listener: socket2::Socket,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    servers: Vec<SocketAddr>,
    accepted: usize,
    alter: Option<Alter>,
    /// Both ends of every connection.
    open: Vec<Weak<TcpStream>>,
}

impl Relay {
    /// Listens in a network namespace, with these servers in rotation.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered or the address cannot be taken.
    pub fn start(
        address: SocketAddr,
        netns: &Netns,
        servers: Vec<SocketAddr>,
    ) -> Result<Self, RelayError> {
        let failed = |source| RelayError::Listen { address, source };
        let listener = netns.run(|| TcpListener::bind(address))?.map_err(failed)?;
        let stop = socket2::Socket::from(listener.try_clone().map_err(failed)?);
        let shared = Arc::<Shared>::default();
        shared.lock().servers = servers;
        let accepting = Arc::clone(&shared);
        // Threads are born in the namespace of the one that makes them.
        netns.spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.carry(client));
            }
        })?;
        Ok(Self {
            listener: stop,
            shared,
        })
    }

    /// Puts other servers in rotation. Connections stay where they are.
    pub fn rotate(&self, servers: Vec<SocketAddr>) {
        self.shared.lock().servers = servers;
    }

    /// Alters every snapshot that servers send from now on, also on connections that are open. Only
    /// such as fit into one frame (16 KB) are found, in plain text.
    pub fn alter(&self, alter: Option<Alter>) {
        self.shared.lock().alter = alter;
    }
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The namespace.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// The address.
    #[error("a relay cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries one connection until either end closes it; then the other end is closed as well.
    fn carry(&self, client: TcpStream) {
        let next = self.lock().next();
        // Nobody, or nobody there: the client finds its connection closed.
        let Some(Ok(server)) = next.map(TcpStream::connect) else {
            return;
        };
        let (client, server) = (Arc::new(client), Arc::new(server));
        for end in [&client, &server] {
            // Many small writes on an otherwise idle connection, as they come.
            let _ = end.set_nodelay(true);
        }
        self.lock().remember([&client, &server]);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = io::copy(&mut &*client, &mut &*server);
                close(&client, &server);
            });
            let _ = self.down(&server, &client);
            close(&client, &server);
        });
    }

    /// What a server says to its client.
    fn down(&self, server: &TcpStream, client: &TcpStream) -> io::Result<()> {
        let (mut server, mut client) = (server, client);
        let mut buffer = vec![0; 64 << 10];
        let mut held = Vec::new();
        loop {
            let read = server.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            held.extend_from_slice(&buffer[..read]);
            let alter = self.lock().alter.clone();
            let ready = match alter {
                Some(alter) => altered(&mut held, &*alter),
                None => held.len(),
            };
            client.write_all(&held[..ready])?;
            held.drain(..ready);
        }
    }
}

impl State {
    fn next(&mut self) -> Option<SocketAddr> {
        self.accepted += 1;
        let place = self.accepted.checked_rem(self.servers.len())?;
        self.servers.get(place).copied()
    }

    fn remember(&mut self, ends: [&Arc<TcpStream>; 2]) {
        self.open.retain(|end| end.strong_count() > 0);
        self.open.extend(ends.map(Arc::downgrade));
    }
}

/// Alters the snapshots that are there completely, and says how many bytes may go on.
fn altered(bytes: &mut [u8], alter: &dyn Fn(&mut [u8])) -> usize {
    /// Where the header says how long a snapshot is.
    const LENGTH: std::ops::Range<usize> = 12..16;
    let mut at = 0;
    while let Some(found) = find(&bytes[at..]) {
        let start = at + found;
        let length = bytes[start..].get(LENGTH).and_then(|le| le.try_into().ok());
        let length = length.map(|le| u32::from_le_bytes(le) as usize);
        let Some(snapshot) = length.and_then(|length| bytes[start..].get_mut(..length)) else {
            return start;
        };
        alter(snapshot);
        at = start + snapshot.len();
    }
    // The beginning of a magic may be the last that came.
    let begins = |length: &usize| bytes[at..].ends_with(&MAGIC[..*length]);
    let begun = (1..MAGIC.len()).rev().find(begins);
    bytes.len() - begun.unwrap_or(0)
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|each| each == MAGIC)
}

fn close(client: &TcpStream, server: &TcpStream) {
    for end in [client, server] {
        // It may be closed already.
        let _ = end.shutdown(Shutdown::Both);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Wakes whoever accepts.
        let _ = self.listener.shutdown(Shutdown::Both);
        for end in self.shared.lock().open.iter().filter_map(Weak::upgrade) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("servers", &state.servers)
            .field("accepted", &state.accepted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap().to_le_bytes();
        [&MAGIC[..], &[1, 0, 0, 0], &length, body].concat()
    }

    #[test]
    fn whole_snapshots_are_altered_and_parts_are_kept_back() {
        let version = |bytes: &mut [u8]| bytes[8] = 9;
        let (one, other) = (snapshot(b"one"), snapshot(b"other"));
        let mut bytes = [b"head", &one[..], b"SIDE", &other, b"tail"].concat();
        let length = bytes.len();
        assert_eq!(altered(&mut bytes, &version), length);
        assert_eq!((bytes[4 + 8], bytes[4 + one.len() + 4 + 8]), (9, 9));

        let mut cut = [b"head", &one[..one.len() - 1]].concat();
        assert_eq!(altered(&mut cut, &version), 4);
        let mut begun = b"headSIDEW".to_vec();
        assert_eq!(altered(&mut begun, &version), 4);
        assert_eq!(altered(&mut b"headSIDE-".to_vec(), &version), 9);
    }
}
