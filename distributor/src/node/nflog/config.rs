//! How the kernel is asked for a log group.

use crate::node::netlink::{LOG, NLM_F_ACK, Request, Subject};

/// `NFULNL_MSG_CONFIG` of linux/netfilter/nfnetlink_log.h, as are the numbers below.
const CONFIG: u8 = 1;

const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_TIMEOUT: u16 = 4;
const NFULA_CFG_FLAGS: u16 = 6;

const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULNL_COPY_PACKET: u8 = 2;
const NFULNL_CFG_F_SEQ: u16 = 1;

/// How much of a packet is wanted: the heads, with some IPv6 extension headers.
const COPY_BYTES: u32 = 256;

/// How long the kernel may collect packets before it sends them, in hundredths of a second.
const COLLECT: u32 = 5;

/// The requests that take a group and say what is wanted of it, to be answered one by one.
pub(super) fn requests(group: u16) -> [Vec<u8>; 2] {
    let subject = Subject {
        subsystem: LOG,
        kind: CONFIG,
        family: 0,
        resource: group,
    };
    let request = || Request::new(subject, NLM_F_ACK);
    let [a, b, c, d] = COPY_BYTES.to_be_bytes();
    [
        request()
            .attribute(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND])
            .finish(1),
        request()
            .attribute(NFULA_CFG_MODE, &[a, b, c, d, NFULNL_COPY_PACKET, 0])
            .attribute(NFULA_CFG_TIMEOUT, &COLLECT.to_be_bytes())
            // Packets are numbered, so that missing ones can be counted.
            .attribute(NFULA_CFG_FLAGS, &NFULNL_CFG_F_SEQ.to_be_bytes())
            .finish(2),
    ]
}
