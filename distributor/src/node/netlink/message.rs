//! Messages and attributes, as bytes.

use std::io;

/// No subsystem: what a batch begins and ends with.
pub const CONTROL: u8 = 0;

/// The conntrack subsystem, the upper half of a message's kind.
pub const CONNTRACK: u8 = 1;

/// The nftables subsystem.
pub const NFTABLES: u8 = 10;

/// The packet log subsystem.
pub const LOG: u8 = 4;

/// Asks the kernel to answer whether it did what it was asked.
pub const NLM_F_ACK: u16 = 0x4;

/// Asks for an object to be made.
pub const NLM_F_CREATE: u16 = 0x400;

/// Asks for every object there is.
pub const NLM_F_DUMP: u16 = 0x300;

const NLM_F_REQUEST: u16 = 0x1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const MESSAGE_HEADER: usize = 16;
const NETFILTER_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
const ALIGNMENT: usize = 4;

/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;

/// What a kind says beyond naming the attribute: nested, and in network order.
const KIND_FLAGS: u16 = 0xc000;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// [`CONNTRACK`], [`NFTABLES`] or [`LOG`].
    pub subsystem: u8,
    /// Which of the subsystem's requests.
    pub kind: u8,
    /// An address family; 0 stands for any.
    pub family: u8,
    /// What else the subsystem addresses by number, such as a log group.
    pub resource: u16,
}

/// A message to the kernel. Several may be sent in one go, one behind the other.
#[derive(Clone, Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request without attributes.
    pub fn new(subject: Subject, flags: u16) -> Self {
        let Subject {
            subsystem,
            kind,
            family,
            resource,
        } = subject;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(u16::from_be_bytes([subsystem, kind]).to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        Self(bytes)
    }

    /// Appends an attribute.
    ///
    /// # Panics
    /// If the value is longer than an attribute can be, 64 KiB.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(encoded(kind, value));
        self
    }

    /// Appends an attribute that holds attributes.
    ///
    /// # Panics
    /// As [`Request::attribute`].
    #[must_use]
    pub fn nested(self, kind: u16, attributes: &[u8]) -> Self {
        self.attribute(kind | NESTED, attributes)
    }

    /// The bytes to send. The answer has the same sequence number.
    ///
    /// # Panics
    /// If the request is longer than 4 GiB.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("at most 4 GiB");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// An attribute, padded, for a request or for another attribute to hold.
///
/// # Panics
/// If the value is longer than an attribute can be, 64 KiB.
#[must_use]
pub fn encoded(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("at most 64 KiB");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    bytes
}

/// An attribute that holds attributes.
///
/// # Panics
/// As [`encoded`].
#[must_use]
pub fn encoded_nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    encoded(kind | NESTED, attributes)
}

/// A message from the kernel.
#[derive(Debug)]
pub struct Message<'a> {
    /// The sequence number of the request it answers; 0 if nobody asked.
    pub sequence: u32,
    /// What it says.
    pub reply: Reply<'a>,
}

/// What a message from the kernel says.
#[derive(Debug)]
pub enum Reply<'a> {
    /// The request was carried out.
    Done,
    /// It was not, and why.
    Failed(io::Error),
    /// An object.
    Object {
        /// Its address family.
        family: u8,
        /// What it has, for [`attributes`].
        attributes: &'a [u8],
    },
}

/// The messages in one datagram. It ends where a length makes no sense.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(array(datagram, 0)?) as usize;
        let message = datagram.get(..length)?;
        let body = message.get(MESSAGE_HEADER..)?;
        datagram = datagram
            .get(length.next_multiple_of(ALIGNMENT)..)
            .unwrap_or_default();
        Some(Message {
            sequence: u32::from_ne_bytes(array(message, 8)?),
            reply: reply(u16::from_ne_bytes(array(message, 4)?), body),
        })
    })
}

fn reply(kind: u16, body: &[u8]) -> Reply<'_> {
    // Both an answer and the end of a list begin with an errno, negated.
    let outcome = || match array(body, 0).map(i32::from_ne_bytes) {
        None | Some(0..) => Reply::Done,
        Some(errno) => Reply::Failed(io::Error::from_raw_os_error(errno.saturating_neg())),
    };
    match kind {
        NLMSG_ERROR | NLMSG_DONE => outcome(),
        NLMSG_OVERRUN => Reply::Failed(io::Error::other("the kernel lost messages")),
        _ => Reply::Object {
            family: body.first().copied().unwrap_or_default(),
            attributes: body.get(NETFILTER_HEADER..).unwrap_or_default(),
        },
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Which one, without flags.
    pub kind: u16,
    /// Its value; attributes, if it holds some.
    pub value: &'a [u8],
}

/// The attributes in some bytes. It ends where a length makes no sense.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(native16(bytes, 0)?);
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        let kind = native16(bytes, 2)? & !KIND_FLAGS;
        bytes = bytes
            .get(length.next_multiple_of(ALIGNMENT)..)
            .unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

/// The first attribute of a kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|attribute| attribute.kind == kind)
        .map(|attribute| attribute.value)
}

/// A number in network order, as attributes of netfilter hold them.
pub fn be16(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(array(value, 0)?))
}

/// A number in network order, as attributes of netfilter hold them.
pub fn be32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(array(value, 0)?))
}

/// A number in network order, as attributes of netfilter hold them.
pub fn be64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(array(value, 0)?))
}

fn native16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject {
        subsystem: CONNTRACK,
        kind: 2,
        family: 10,
        resource: 4747,
    };

    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let bytes = Request::new(SUBJECT, NLM_F_ACK)
            .attribute(18, &[0, 1])
            .nested(1, &[8, 0, 1, 0, 1, 2, 3, 4])
            .finish(7);
        #[rustfmt::skip]
        let little_endian = [
            40, 0, 0, 0,  2, 1,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0,
            10, 0, 0x12, 0x8b,
            6, 0, 18, 0,  0, 1, 0, 0,
            12, 0, 1, 0x80,  8, 0, 1, 0, 1, 2, 3, 4,
        ];
        assert_eq!(bytes, little_endian);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let one = Request::new(SUBJECT, 0)
            .attribute(3, b"odd")
            .nested(4, &[])
            .finish(1);
        let two = Request::new(SUBJECT, 0).finish(2);
        let datagram = [one, two].concat();
        let read: Vec<_> = messages(&datagram).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].sequence, read[1].sequence), (1, 2));
        let Reply::Object { family, attributes } = read[0].reply else {
            panic!("{read:?}");
        };
        assert_eq!(family, 10);
        assert_eq!(attribute(attributes, 3), Some(&b"odd"[..]));
        assert_eq!(attribute(attributes, 4), Some(&[][..]));
        assert_eq!(attribute(attributes, 5), None);
    }

    fn answer(kind: u16, errno: i32) -> Vec<u8> {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(errno.to_ne_bytes());
        bytes
    }

    #[test]
    fn answers_say_whether_it_worked() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let bytes = answer(kind, 0);
            assert!(matches!(
                messages(&bytes).next().unwrap().reply,
                Reply::Done
            ));
            let bytes = answer(kind, -1);
            let Reply::Failed(error) = messages(&bytes).next().unwrap().reply else {
                panic!("it failed");
            };
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn cut_off_and_senseless_bytes_end_the_reading() {
        let whole = Request::new(SUBJECT, 0)
            .attribute(1, &[1, 2, 3, 4])
            .finish(1);
        for end in 0..whole.len() {
            assert_eq!(messages(&whole[..end]).count(), 0, "{end}");
        }
        for length in [0_u8, 3] {
            assert_eq!(attributes(&[length, 0, 1, 0, 9, 9, 9, 9]).count(), 0);
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
    }
}
