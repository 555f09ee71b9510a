//! The live connections of one worker, so that a new snapshot can cut those it denies.

use std::collections::HashMap;
use std::net::SocketAddr;

use sidewall_policy::eval::Flow;

/// TCP, as IANA numbers protocols: the only one that reaches a network filter.
pub const TCP: u8 = 6;

/// The two ends of a connection as it was when it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who opened it.
    pub source: SocketAddr,
    /// Where it was going before redirection.
    pub destination: SocketAddr,
}

impl Ends {
    /// The question for the policy engine.
    pub fn flow(&self) -> Flow {
        Flow {
            source: self.source.ip(),
            destination: self.destination.ip(),
            protocol: TCP,
            port: self.destination.port(),
        }
    }
}

/// Live streams by their context id.
#[derive(Debug, Default)]
pub struct Streams(HashMap<u32, Ends>);

impl Streams {
    /// Remembers an allowed stream.
    pub fn insert(&mut self, context: u32, ends: Ends) {
        self.0.insert(context, ends);
    }

    /// Forgets a stream; no matter if it was never known.
    pub fn remove(&mut self, context: u32) {
        self.0.remove(&context);
    }

    /// Takes out every stream that `denied` picks, ordered by context id, so oldest first.
    pub fn take(&mut self, mut denied: impl FnMut(&Ends) -> bool) -> Vec<(u32, Ends)> {
        let mut taken: Vec<_> = self.0.extract_if(|_, ends| denied(ends)).collect();
        taken.sort_unstable_by_key(|&(context, _)| context);
        taken
    }

    /// How many are alive.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is alive.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(port: u16) -> Ends {
        Ends {
            source: ([10, 0, 0, 1], 40000).into(),
            destination: ([10, 0, 0, 2], port).into(),
        }
    }

    #[test]
    fn a_flow_goes_to_the_destination_port_over_tcp() {
        let flow = ends(443).flow();
        assert_eq!((flow.protocol, flow.port), (6, 443));
        assert_eq!(flow.source, std::net::IpAddr::from([10, 0, 0, 1]));
        assert_eq!(flow.destination, std::net::IpAddr::from([10, 0, 0, 2]));
    }

    #[test]
    fn take_removes_what_it_returns_and_keeps_the_rest() {
        let mut streams = Streams::default();
        for context in [9, 3, 7, 5] {
            streams.insert(context, ends(if context > 5 { 80 } else { 443 }));
        }
        assert_eq!(
            streams.take(|ends| ends.destination.port() == 80),
            [(7, ends(80)), (9, ends(80))]
        );
        assert_eq!(streams.len(), 2);
        assert!(
            streams
                .take(|ends| ends.destination.port() == 80)
                .is_empty()
        );
    }

    #[test]
    fn removing_an_unknown_stream_is_nothing() {
        let mut streams = Streams::default();
        streams.insert(1, ends(80));
        streams.remove(2);
        streams.remove(1);
        streams.remove(1);
        assert!(streams.is_empty());
    }
}
