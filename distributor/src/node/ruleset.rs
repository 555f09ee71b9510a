//! The node's nftables table: from a node's snapshot to a program, and from one program to the next.
//!
//! ```text
//!  snapshot ──Plan::new──▶ Plan ──install / transition / replace──▶ Steps ──▶ nft, one after the other
//! ```
//!
//! Pure: it reads and writes nothing, and the kernel is reached by whoever runs the steps.
//!
//! The table in the order in which a packet meets it, behind any DNAT:
//!
//! 1. what belongs to a connection that was silenced is dropped;
//!    what belongs to a connection of the node Envoy goes to its socket; other established and
//!    related packets pass, ICMP errors among them; so does neighbour discovery;
//! 2. what neither comes from nor goes to a pod of this node is left alone;
//! 3. invalid packets, and TCP that begins without SYN, are dropped: a connection that was cut must
//!    not come back to life; a pod reaches itself;
//! 4. egress of the source, then ingress of the destination: address → table → peer → port class.
//!    Each side that allows returns here; neither skips the other. What goes to the node itself has
//!    no ingress side. A pod address that no snapshot knows is dropped;
//! 5. TCP of pods that the node Envoy carries is handed to it: what comes to one of them, and what
//!    one of them sends out of the cluster.

mod base;
mod existing;
mod names;
mod object;
mod plan;
mod steps;
mod tables;
#[cfg(test)]
mod tests;
mod text;

pub use base::{COUNTERS, DELIVER, SILENCED, UPSTREAM};
pub use existing::{Existing, UnreadableListing, replace};
pub(super) use object::{Element, Key};
pub(super) use plan::Tallies;
pub use plan::{DeniedTcp, Plan, Planner, Settings};
pub(super) use steps::Edit;
pub use steps::{Step, cleanup, install, only_adds, transition};

/// The table's name, of family `inet`.
pub const TABLE: &str = "sidewall";
