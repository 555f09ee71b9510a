//! The node plane: what the agent of a node does with its snapshot beyond serving it.

pub mod conntrack;
pub mod netlink;
pub mod nflog;
pub mod ruleset;
mod seen;
