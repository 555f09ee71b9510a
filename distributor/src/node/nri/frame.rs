//! Frames of the two protocols below NRI's messages. Pure.
//!
//! ```text
//!  trunk   ┌─────────┬─────────┬─────────────┐    pkg/net/multiplex of github.com/containerd/nri: big-endian,
//!          │ conn u32│ len u32 │ payload     │    one piece of what its connection carries
//!          └─────────┴─────────┴─────────────┘
//!  conn    ┌─────────┬───────────┬────┬─────┬───────────┐    PROTOCOL.md of github.com/containerd/ttrpc
//!          │ len u32 │ stream u32│type│flags│ data      │
//!          └─────────┴───────────┴────┴─────┴───────────┘
//! ```
//!
//! What comes in is bounded: a length above the protocol's limit ends the connection before anything is allocated.

/// The connection of the multiplexer on which the plugin serves.
pub(super) const PLUGIN_CONNECTION: u32 = 1;

/// The connection on which the runtime serves.
pub(super) const RUNTIME_CONNECTION: u32 = 2;

/// The longest ttrpc message that either side accepts.
const MAX_MESSAGE: usize = 4 << 20;

const HEADER: usize = 10;
pub(super) const TRUNK_HEADER: usize = 8;

/// The longest payload of a trunk frame.
const MAX_PAYLOAD: usize = HEADER + MAX_MESSAGE;

/// The type of a ttrpc message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    /// A part of a stream, which NRI does not use.
    Other(u8),
}

/// A ttrpc message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub stream: u32,
    pub kind: Kind,
    pub data: Vec<u8>,
}

/// What the other side must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of the multiplexer has {0} bytes, at most {MAX_PAYLOAD} are allowed")]
    Trunk(usize),
    #[error("a ttrpc message has {0} bytes, at most {MAX_MESSAGE} are allowed")]
    Message(usize),
}

/// Connection and length of the payload that follows a trunk header.
pub(super) fn trunk_header(bytes: [u8; TRUNK_HEADER]) -> Result<(u32, usize), FrameError> {
    let [a, b, c, d, length @ ..] = bytes;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_PAYLOAD {
        return Err(FrameError::Trunk(length));
    }
    Ok((u32::from_be_bytes([a, b, c, d]), length))
}

/// The bytes of a ttrpc message, in one trunk frame. A message that is too long is an error of its sender.
pub(super) fn encode(connection: u32, frame: &Frame) -> Result<Vec<u8>, FrameError> {
    let length = frame.data.len();
    if length > MAX_MESSAGE {
        return Err(FrameError::Message(length));
    }
    let mut bytes = Vec::with_capacity(TRUNK_HEADER + HEADER + length);
    bytes.extend_from_slice(&connection.to_be_bytes());
    bytes.extend_from_slice(&((HEADER + length) as u32).to_be_bytes());
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.extend_from_slice(&frame.stream.to_be_bytes());
    bytes.push(match frame.kind {
        Kind::Request => 1,
        Kind::Response => 2,
        Kind::Other(kind) => kind,
    });
    bytes.push(0);
    bytes.extend_from_slice(&frame.data);
    Ok(bytes)
}

/// The ttrpc messages of one connection, out of the pieces that the trunk brings.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Adds a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// Takes the next message, once all of it is there.
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h, kind, _flags] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_MESSAGE {
            return Err(FrameError::Message(length));
        }
        let Some(data) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Frame {
            stream: u32::from_be_bytes([e, f, g, h]),
            kind: match kind {
                1 => Kind::Request,
                2 => Kind::Response,
                other => Kind::Other(other),
            },
            data: data.to_vec(),
        };
        self.bytes.drain(..HEADER + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u32, data: &[u8]) -> Frame {
        Frame {
            stream,
            kind: Kind::Request,
            data: data.to_vec(),
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_whatever_the_pieces(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6),
            size in 1..30_usize,
        ) {
            let frames: Vec<_> = messages.iter().zip(1..).map(|(data, stream)| frame(stream, data)).collect();
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| {
                encode(PLUGIN_CONNECTION, frame).unwrap().split_off(TRUNK_HEADER)
            }).collect();
            let (mut assembler, mut found) = (Assembler::default(), Vec::new());
            for piece in bytes.chunks(size) {
                assembler.push(piece);
                while let Some(frame) = assembler.next().unwrap() {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn any_bytes_are_messages_an_error_or_too_few(bytes: Vec<u8>) {
            let mut assembler = Assembler::default();
            assembler.push(&bytes);
            while let Ok(Some(_)) = assembler.next() {}
        }
    }

    #[test]
    fn lengths_are_bounded_before_the_bytes_arrive() {
        let [a, b, c, d] = ((MAX_PAYLOAD + 1) as u32).to_be_bytes();
        let refused = trunk_header([0, 0, 0, 1, a, b, c, d]);
        assert_eq!(refused, Err(FrameError::Trunk(MAX_PAYLOAD + 1)));
        let mut assembler = Assembler::default();
        assembler.push(&[0xff; HEADER]);
        assert_eq!(
            assembler.next(),
            Err(FrameError::Message(u32::MAX as usize))
        );
    }
}
