//! Netlink to the kernel's netfilter: a socket, and messages as far as conntrack, nflog and
//! nftables need them.
//!
//! What is not needed for a decision is never decoded. Attributes that go back to the kernel, such
//! as the tuple of a connection that shall be deleted, go back byte for byte, so that a field this
//! module has not heard of cannot get lost.
//!
//! ```text
//!  length u32 · kind u16 · flags u16 · sequence u32 · port u32     a message, in native order
//!  family u8 · version u8 · resource u16                           netfilter's part, big-endian
//!  ( length u16 · kind u16 · value · padding to 4 bytes )…         attributes; big-endian values
//! ```

mod message;
mod socket;

pub use message::{
    Attribute, CONNTRACK, CONTROL, LOG, Message, NFTABLES, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP,
    Reply, Request, Subject, attribute, attributes, be16, be32, be64, encoded, encoded_nested,
    messages,
};
pub use socket::Socket;
