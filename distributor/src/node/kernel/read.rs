//! What the kernel tells of its rules at once, by netlink: `nft` reads every element of every set first,
//! whatever it is asked.

use std::collections::BTreeMap;
use std::io;

use crate::node::netlink::{
    NFTABLES, NLM_F_DUMP, Reply, Request, Socket, Subject, attribute, be32, be64, messages,
};
use crate::node::ruleset::TABLE;

/// `NFT_MSG_GETGEN` of linux/netfilter/nf_tables.h, as are the numbers below.
const GET_GENERATION: u8 = 16;

/// `NFT_MSG_GETOBJ`.
const GET_OBJECTS: u8 = 19;

const NFTA_GEN_ID: u16 = 1;

const NFTA_OBJ_TABLE: u16 = 1;
const NFTA_OBJ_NAME: u16 = 2;
const NFTA_OBJ_TYPE: u16 = 3;
const NFTA_OBJ_DATA: u16 = 4;

const NFT_OBJECT_COUNTER: u32 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// `NFPROTO_INET` of linux/netfilter.h.
const INET: u8 = 1;

/// Far more than the few answers.
const QUEUE: usize = 1 << 18;

/// How often the rules of this network namespace have changed, whoever changed them: each transaction
/// counts one.
pub(super) async fn generation() -> io::Result<u32> {
    let request = Request::new(about(GET_GENERATION, 0), 0);
    let mut generation = None;
    ask(request, |attributes| {
        generation = attribute(attributes, NFTA_GEN_ID).and_then(be32);
        // One answer, and no end to it.
        false
    })
    .await?;
    generation.ok_or_else(|| io::Error::other("the kernel does not tell the rules' generation"))
}

/// The named counters of the table, in packets; none without a table. A change of the table while the kernel lists
/// them may leave some out.
pub(super) async fn counters() -> io::Result<BTreeMap<String, u64>> {
    let request = Request::new(about(GET_OBJECTS, INET), NLM_F_DUMP)
        .attribute(NFTA_OBJ_TABLE, format!("{TABLE}\0").as_bytes())
        .attribute(NFTA_OBJ_TYPE, &NFT_OBJECT_COUNTER.to_be_bytes());
    let mut counters = BTreeMap::new();
    ask(request, |attributes| {
        counters.extend(counter(attributes));
        true
    })
    .await?;
    Ok(counters)
}

fn counter(attributes: &[u8]) -> Option<(String, u64)> {
    let name = attribute(attributes, NFTA_OBJ_NAME)?;
    let data = attribute(attributes, NFTA_OBJ_DATA)?;
    let packets = be64(attribute(data, NFTA_COUNTER_PACKETS)?)?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    Some((String::from_utf8_lossy(name).into_owned(), packets))
}

const fn about(kind: u8, family: u8) -> Subject {
    Subject {
        subsystem: NFTABLES,
        kind,
        family,
        resource: 0,
    }
}

/// Hands the attributes of each answer to `take`, until that has enough or there are no more.
async fn ask(request: Request, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut socket = Socket::open(QUEUE)?;
    socket.send(&request.finish(1)).await?;
    loop {
        for message in messages(socket.receive().await?) {
            match message.reply {
                Reply::Done => return Ok(()),
                Reply::Failed(error) => return Err(error),
                Reply::Object { attributes, .. } if take(attributes) => {}
                Reply::Object { .. } => return Ok(()),
            }
        }
    }
}
