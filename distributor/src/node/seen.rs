//! A connection or packet as the kernel saw it, judged as the kernel's rules judge: by the
//! snapshot, and closed to addresses of the node's own pod range that the snapshot does not know.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use sidewall_policy::eval::{Decision, Flow, Reason, Verdict};
use sidewall_policy::model::{Direction, Protocol};
use sidewall_policy::record::Record;
use sidewall_policy::snapshot::Snapshot;

/// The ends of a connection or packet. Destinations are those behind DNAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The IANA number.
    pub protocol: u8,
    /// Source and destination port, if the protocol has ports.
    pub ports: Option<(u16, u16)>,
}

/// What the kernel's rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The snapshot allows it.
    Allowed(Decision),
    /// The snapshot denies it.
    Denied(Decision),
    /// An end is in the node's pod range, but no pod of the snapshot.
    Unknown,
}

impl Seen {
    /// The question for the policy engine.
    pub(super) fn flow(&self) -> Flow {
        Flow {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            port: self.ports.map_or(0, |(_, destination)| destination),
        }
    }

    /// Judges by the snapshot and the ranges that this node gives its pods addresses from.
    pub(super) fn judge(&self, snapshot: &Snapshot, pod_cidrs: &[IpNet]) -> Fate {
        let decision = snapshot.judge(&self.flow());
        let is_stranger = |end, side: Option<_>| side.is_none() && within(pod_cidrs, end);
        if decision.verdict == Verdict::Deny {
            Fate::Denied(decision)
        } else if decision.whole.is_none()
            && (is_stranger(self.source, decision.egress)
                || is_stranger(self.destination, decision.ingress))
        {
            Fate::Unknown
        } else {
            Fate::Allowed(decision)
        }
    }

    /// The record of a decision of this snapshot, told from one side if that one was judged.
    pub(super) fn record(
        &self,
        snapshot: &Snapshot,
        decision: &Decision,
        side: Option<Direction>,
    ) -> Record {
        let flow = self.flow();
        let explanation = side
            .and_then(|side| snapshot.explain_side(&flow, decision, side))
            .unwrap_or_else(|| snapshot.explain(&flow, decision));
        let (source, destination) = self.ends();
        Record::new(
            source,
            destination,
            self.protocol,
            explanation,
            snapshot.revision(),
        )
    }

    /// The record of a denial for [`Fate::Unknown`].
    pub(super) fn unknown(&self, snapshot: &Snapshot) -> Record {
        self.closed(Reason::UnknownAddress.as_str(), Some(snapshot))
    }

    /// The record of a denial without judgement.
    pub(super) fn closed(&self, reason: &'static str, snapshot: Option<&Snapshot>) -> Record {
        let (source, destination) = self.ends();
        Record::closed(
            Some(source),
            Some(destination),
            self.protocol,
            reason,
            snapshot.map(Snapshot::revision),
        )
    }

    /// Source and destination as records print them.
    fn ends(&self) -> (String, String) {
        match self.ports {
            Some((source, destination)) => (
                SocketAddr::new(self.source, source).to_string(),
                SocketAddr::new(self.destination, destination).to_string(),
            ),
            None => (self.source.to_string(), self.destination.to_string()),
        }
    }
}

/// Whether one of the ranges holds the address.
pub(super) fn within(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

/// Whether a protocol has ports where the rules look for them.
pub(super) fn has_ports(protocol: u8) -> bool {
    Protocol::ALL
        .into_iter()
        .any(|known| known.number() == protocol)
}
