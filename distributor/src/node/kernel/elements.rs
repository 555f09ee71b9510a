//! Changes of elements as one netlink transaction.
//!
//! ```text
//!  BATCH_BEGIN · DELSETELEM … NEWSETELEM … for each set · BATCH_END     one send, all of it or nothing
//! ```

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::node::netlink::{
    CONTROL, NFTABLES, NLM_F_ACK, NLM_F_CREATE, Reply, Request, Socket, Subject, encoded,
    encoded_nested, messages,
};
use crate::node::ruleset::{Edit, Element, Key, TABLE};

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` of linux/netfilter/nfnetlink.h.
const BATCH_BEGIN: u8 = 16;
const BATCH_END: u8 = 17;

/// `NFT_MSG_NEWSETELEM` of linux/netfilter/nf_tables.h, as are the numbers below.
const NEW_ELEMENTS: u8 = 12;

/// `NFT_MSG_DELSETELEM`.
const DELETE_ELEMENTS: u8 = 14;

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_USERDATA: u16 = 6;

const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// `NFT_GOTO`.
const GOTO: i32 = -4;

/// `NFTNL_UDATA_SET_ELEM_COMMENT` of libnftnl/udata.h: what `nft` shows as a comment.
const COMMENT: u8 = 0;

/// `NFPROTO_INET` of linux/netfilter.h.
const INET: u8 = 1;

/// Elements of one message: an attribute holds 64 KiB, and an element takes 300 bytes at most.
const CHUNK: usize = 200;

/// More elements than that are for `nft`: a batch must fit into what a socket may send at once.
const FEW: usize = 400;

/// The kernel answers while the batch is sent; without an answer the table is read again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answers to a batch, one a message.
const QUEUE: usize = 1 << 18;

/// Whether a change fits into one batch.
pub(super) fn are_few(edits: &[Edit]) -> bool {
    let elements = edits.iter().map(|edit| edit.gone.len() + edit.added.len());
    elements.sum::<usize>() <= FEW
}

/// Makes all of these changes, or none.
pub(super) async fn change(edits: &[Edit]) -> io::Result<()> {
    let transaction = timeout(PATIENCE, send(edits));
    transaction.await.unwrap_or_else(|_| {
        let silence = format!("the kernel has not answered within {PATIENCE:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, silence))
    })
}

async fn send(edits: &[Edit]) -> io::Result<()> {
    let (bytes, answers) = batch(edits);
    let mut socket = Socket::open(QUEUE)?;
    socket.send(&bytes).await?;
    let mut answered = 0;
    while answered < answers {
        for message in messages(socket.receive().await?) {
            match message.reply {
                Reply::Done => answered += 1,
                Reply::Failed(error) => {
                    let set = usize::try_from(message.sequence).ok();
                    let set = set.and_then(|number| edits.get(number.checked_sub(1)?));
                    let set = set.map_or("the batch", |edit| &*edit.set);
                    return Err(io::Error::new(error.kind(), format!("{set}: {error}")));
                }
                Reply::Object { .. } => {}
            }
        }
    }
    Ok(())
}

/// The messages, and how many answers they bring. A message has the number of its edit, from 1 on.
fn batch(edits: &[Edit]) -> (Vec<u8>, usize) {
    let mut bytes = mark(BATCH_BEGIN);
    let mut answers = 0;
    for (edit, sequence) in edits.iter().zip(1..) {
        let gone = edit.gone.chunks(CHUNK).map(|keys| {
            let elements: Vec<u8> = keys.iter().flat_map(|key| listed(&key_of(*key))).collect();
            message(DELETE_ELEMENTS, 0, edit, &elements)
        });
        let added = edit.added.chunks(CHUNK).map(|added| {
            let elements: Vec<u8> = added
                .iter()
                .flat_map(|each| listed(&element(each)))
                .collect();
            message(NEW_ELEMENTS, NLM_F_CREATE, edit, &elements)
        });
        for request in gone.chain(added) {
            bytes.extend(request.finish(sequence));
            answers += 1;
        }
    }
    bytes.extend(mark(BATCH_END));
    (bytes, answers)
}

fn mark(kind: u8) -> Vec<u8> {
    let subject = Subject {
        subsystem: CONTROL,
        kind,
        family: 0,
        resource: NFTABLES.into(),
    };
    Request::new(subject, 0).finish(0)
}

fn message(kind: u8, flags: u16, edit: &Edit, elements: &[u8]) -> Request {
    let subject = Subject {
        subsystem: NFTABLES,
        kind,
        family: INET,
        resource: 0,
    };
    Request::new(subject, flags | NLM_F_ACK)
        .attribute(NFTA_SET_ELEM_LIST_TABLE, &text(TABLE))
        .attribute(NFTA_SET_ELEM_LIST_SET, &text(&edit.set))
        .nested(NFTA_SET_ELEM_LIST_ELEMENTS, elements)
}

/// An element of a list.
fn listed(element: &[u8]) -> Vec<u8> {
    encoded_nested(NFTA_LIST_ELEM, element)
}

fn element(element: &Element) -> Vec<u8> {
    let mut bytes = key_of(element.key);
    if let Some(chain) = &element.goto {
        let verdict = [
            encoded(NFTA_VERDICT_CODE, &GOTO.to_be_bytes()),
            encoded(NFTA_VERDICT_CHAIN, &text(chain)),
        ]
        .concat();
        bytes.extend(encoded_nested(
            NFTA_SET_ELEM_DATA,
            &encoded_nested(NFTA_DATA_VERDICT, &verdict),
        ));
    }
    if let Some(comment) = element.comment.as_deref().map(text) {
        // A comment has 127 bytes at most (`names::comment`).
        let length = u8::try_from(comment.len()).unwrap_or(u8::MAX);
        let data = [&[COMMENT, length], &comment[..]].concat();
        bytes.extend(encoded(NFTA_SET_ELEM_USERDATA, &data));
    }
    bytes
}

fn key_of(key: Key) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    // Parts of a key fill four bytes each, as addresses do.
    let value = match key {
        Key::Address(ip) => octets(ip),
        Key::Pair(source, destination) => [octets(source), octets(destination)].concat(),
        // Ranges are in no hash set, and the set of protocols is constant.
        Key::Range(first, _) => octets(first),
        Key::Protocol(protocol) | Key::Ports(protocol, ..) => vec![protocol.number()],
    };
    encoded_nested(NFTA_SET_ELEM_KEY, &encoded(NFTA_DATA_VALUE, &value))
}

/// As the kernel reads names: ended by zero.
fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_laid_out_as_the_kernel_reads_it() {
        let edit = Edit {
            set: "peers".into(),
            gone: vec![Key::Address([10, 0, 0, 1].into())],
            added: vec![Element::entry(
                Key::Address([10, 0, 0, 2].into()),
                "c".into(),
            )],
        };
        let (bytes, answers) = batch(&[edit]);
        assert_eq!(answers, 2);
        #[rustfmt::skip]
        let little_endian = [
            // BATCH_BEGIN, for nftables.
            20, 0, 0, 0,  16, 0,  1, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 10,
            // DELSETELEM, acknowledged, number 1.
            68, 0, 0, 0,  14, 10,  5, 0,  1, 0, 0, 0,  0, 0, 0, 0,  1, 0, 0, 0,
            13, 0, 1, 0,  b's', b'i', b'd', b'e', b'w', b'a', b'l', b'l', 0, 0, 0, 0,
            10, 0, 2, 0,  b'p', b'e', b'e', b'r', b's', 0, 0, 0,
            20, 0, 3, 0x80,  16, 0, 1, 0x80,  12, 0, 1, 0x80,  8, 0, 1, 0,  10, 0, 0, 1,
        ];
        assert_eq!(bytes[..little_endian.len()], little_endian);
        #[rustfmt::skip]
        let end = [20, 0, 0, 0,  17, 0,  1, 0,  0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 10];
        assert!(bytes.ends_with(&end));
    }

    #[test]
    fn much_is_left_to_nft() {
        let address = |number: u16| Key::Address([10, 0, (number >> 8) as u8, number as u8].into());
        let edit = |count: u16| Edit {
            set: "peers".into(),
            gone: (0..count).map(address).collect(),
            added: Vec::new(),
        };
        assert!(are_few(&[edit(400)]));
        assert!(!are_few(&[edit(400), edit(1)]));
        let (_, answers) = batch(&[edit(400)]);
        assert_eq!(answers, 2);
    }
}
