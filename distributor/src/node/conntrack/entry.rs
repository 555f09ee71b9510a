//! One entry of the kernel's connection table.

use std::net::{IpAddr, SocketAddr};

use crate::node::netlink::{CONNTRACK, NLM_F_ACK, Request, Subject, attribute, be16, be32};
use crate::node::resets::Ends;
use crate::node::ruleset::SILENCED;
use crate::node::seen::{Seen, has_ports};

/// `IPCTNL_MSG_CT_NEW` of linux/netfilter/nfnetlink_conntrack.h, as are the numbers below; it changes
/// what is there unless it is told to create.
const CHANGE: u8 = 0;

/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u8 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_PROTOINFO: u16 = 4;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;

const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

/// `TCP_CONNTRACK_ESTABLISHED` of linux/netfilter/nf_conntrack_tcp.h: what is above is closing.
const TCP_ESTABLISHED: u8 = 3;

/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE`.
const TCP_CLOSED: [u8; 2] = [7, 8];

/// A connection, and what the kernel needs to find it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Who opened it and who answers: the real backend, if the destination was rewritten.
    pub seen: Seen,
    /// What was dialled, before any DNAT; `None` without ports.
    pub dialled: Option<SocketAddr>,
    /// Whom the answerer sends to, behind any masquerade; `None` without ports.
    pub answered: Option<SocketAddr>,
    /// The zone it lives in; 0 is the default one.
    pub zone: u16,
    /// The mark of the connection.
    pub mark: u32,
    tcp_state: Option<u8>,
    family: u8,
    /// The original tuple, byte for byte.
    tuple: &'a [u8],
    /// Tells this connection from a later one with the same tuple.
    id: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// Reads an entry; `None` if it is not one of IP.
    pub(super) fn read(family: u8, attributes: &'a [u8]) -> Option<Self> {
        let tuple = attribute(attributes, CTA_TUPLE_ORIG)?;
        let opener = End::read(tuple)?;
        let answerer = End::read(attribute(attributes, CTA_TUPLE_REPLY)?)?;
        let zone = attribute(attributes, CTA_ZONE).or_else(|| attribute(tuple, CTA_TUPLE_ZONE));
        Some(Self {
            seen: Seen {
                source: opener.address,
                destination: answerer.address,
                protocol: opener.protocol,
                ports: opener.port.zip(answerer.port),
            },
            dialled: opener.dials,
            answered: answerer.dials,
            zone: zone.and_then(be16).unwrap_or_default(),
            mark: attribute(attributes, CTA_MARK)
                .and_then(be32)
                .unwrap_or_default(),
            tcp_state: tcp_state(attributes),
            family,
            tuple,
            id: attribute(attributes, CTA_ID),
        })
    }

    /// Whether it is a TCP connection that one end, at least, has begun to close.
    pub(super) fn is_closing(&self) -> bool {
        self.tcp_state.is_some_and(|state| state > TCP_ESTABLISHED)
    }

    /// Whether it is a TCP connection that has ended and is only remembered.
    pub(super) fn is_closed(&self) -> bool {
        self.tcp_state
            .is_some_and(|state| TCP_CLOSED.contains(&state))
    }

    /// Its ends as packets name them, if it is a TCP connection.
    pub(super) fn tcp_ends(&self) -> Option<Ends> {
        self.tcp_state?;
        let (source, destination) = self.seen.ports?;
        Some(Ends {
            opener: SocketAddr::new(self.seen.source, source),
            dialled: self.dialled?,
            answerer: SocketAddr::new(self.seen.destination, destination),
            answered: self.answered?,
        })
    }

    /// Whether nothing passes on it any more.
    pub(super) fn is_silenced(&self) -> bool {
        self.mark & SILENCED != 0
    }

    /// Tells it from every other, also from a later one with the same tuple.
    pub(super) fn identity(&self) -> Box<[u8]> {
        [self.tuple, self.id.unwrap_or_default()].concat().into()
    }

    /// The request to delete it, and no other with the same tuple.
    pub(super) fn deletion(&self) -> Request {
        let request = self.request(DELETE);
        match self.id {
            Some(id) => request.attribute(CTA_ID, id),
            None => request,
        }
    }

    /// The request to let nothing pass on it, or to let it pass again.
    pub(super) fn silencing(&self, is_silenced: bool) -> Request {
        let mark = if is_silenced { SILENCED } else { 0 };
        self.request(CHANGE)
            .attribute(CTA_MARK, &mark.to_be_bytes())
            .attribute(CTA_MARK_MASK, &SILENCED.to_be_bytes())
    }

    fn request(&self, kind: u8) -> Request {
        let subject = Subject {
            subsystem: CONNTRACK,
            kind,
            family: self.family,
            resource: 0,
        };
        Request::new(subject, NLM_F_ACK)
            .nested(CTA_TUPLE_ORIG, self.tuple)
            .attribute(CTA_ZONE, &self.zone.to_be_bytes())
    }
}

/// The sender of one direction.
struct End {
    address: IpAddr,
    protocol: u8,
    port: Option<u16>,
    dials: Option<SocketAddr>,
}

impl End {
    fn read(tuple: &[u8]) -> Option<Self> {
        let ip = attribute(tuple, CTA_TUPLE_IP)?;
        let proto = attribute(tuple, CTA_TUPLE_PROTO)?;
        let protocol = *attribute(proto, CTA_PROTO_NUM)?.first()?;
        let port = |kind| {
            let port = attribute(proto, kind).and_then(be16);
            port.filter(|_| has_ports(protocol))
        };
        let dialled = address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST)?;
        Some(Self {
            address: address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
            protocol,
            port: port(CTA_PROTO_SRC_PORT),
            dials: port(CTA_PROTO_DST_PORT).map(|port| SocketAddr::new(dialled, port)),
        })
    }
}

/// The address that is there, of either family.
fn address(ip: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let octets4 = || <[u8; 4]>::try_from(attribute(ip, v4)?).ok();
    let octets6 = || <[u8; 16]>::try_from(attribute(ip, v6)?).ok();
    octets4()
        .map(IpAddr::from)
        .or_else(|| octets6().map(IpAddr::from))
}

fn tcp_state(attributes: &[u8]) -> Option<u8> {
    let tcp = attribute(attribute(attributes, CTA_PROTOINFO)?, CTA_PROTOINFO_TCP)?;
    attribute(tcp, CTA_PROTOINFO_TCP_STATE)?.first().copied()
}
