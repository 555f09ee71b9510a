//! The compiled form that travels: one binary blob, a bundle of subjects.
//!
//! ```text
//!  0        8    10   12       16       24                    216
//!  ┌────────┬────┬────┬────────┬────────┬─────────────────────┬──────────────────────────────┐
//!  │ magic  │ver │flag│ length │  hash  │ section table       │ sections, back to back       │
//!  │SIDEWALL│ u16│u16 │  u32   │  u64   │ 24 × (offset, len)  │ arrays of fixed-size records │
//!  └────────┴────┴────┴────────┴────────┴─────────────────────┴──────────────────────────────┘
//!
//!  subjects_v4/v6 ─▶ subjects ─┬▶ nodes ─▶ node_addresses        (own node, always allowed)
//!                              ├▶ backings                       (service backends: itself, its node)
//!                              └▶ groups ─▶ tables ─┬▶ policy_refs ─▶ policies ─▶ text
//!                                                   ├▶ table_rules ─▶ rules ─▶ policies
//!                                                   ├▶ hosts_v4/v6 + host_classes ─▶ classes
//!                                                   ├▶ ranges_v4/v6 + range_classes ▶ classes ─▶ entries
//!                                                   └▶ service_verdicts, one for each service_ports
//! ```
//!
//! Everything is little-endian and unaligned, so that a view is made of any byte buffer without
//! copying. A sidecar's bundle holds its one pod; a node's holds all its pods and every body once.
//! The hash (XXH3-64 of all bytes but its own) is the [`Revision`]: equal state gives equal bytes.
//!
//! Hosts cost 5 bytes each in IPv4: a key and a class of one byte (two or four, if a table has
//! more classes). Keys are addresses scrambled by a bijection and sorted, which spreads them evenly
//! over the key space: the upper bits of a key tell where it lies, however many there are.
//!
//! Bytes from outside become a [`Snapshot`] only through [`Snapshot::check`], which verifies every
//! offset, order and limit once. A format version that is not [`READABLE`] is refused; who holds an
//! older snapshot keeps it.

#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

use std::fmt;

mod bind;
mod bundle;
mod check;
mod encode;
mod error;
pub(crate) mod layout;
mod rules;
mod view;

pub use bind::{Claim, pending_address};
pub use bundle::{Bundle, SubjectEntry};
pub use error::SnapshotError;
pub use layout::{MAGIC, MAX_LENGTH, READABLE, VERSION};
pub use rules::{PodRules, PortRange, TableRules};
pub(crate) use view::{TableView, View, slice};

use view::Checked;

/// The content hash of a snapshot: equal state compiles to equal bytes and so to equal revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A pod that a snapshot judges for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectName<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// Checked snapshot bytes, ready to judge with.
pub struct Snapshot {
    checked: Checked,
}

impl Snapshot {
    /// Verifies untrusted bytes completely: after this, evaluation cannot fail.
    ///
    /// # Errors
    /// Says what is wrong and where; the caller keeps the snapshot it had.
    pub fn check(bytes: Vec<u8>) -> Result<Self, SnapshotError> {
        let checked = Checked::try_new(bytes, |bytes| {
            let mut view = View::open(bytes)?;
            check::check(&view)?;
            view.index();
            Ok(view)
        })?;
        Ok(Self { checked })
    }

    /// The hash of the content.
    pub fn revision(&self) -> Revision {
        Revision(self.view().hash)
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        self.checked.borrow_owner()
    }

    /// The pods it judges for, sorted by namespace and name.
    pub fn subjects(&self) -> impl Iterator<Item = SubjectName<'_>> {
        let view = self.view();
        view.subjects.iter().map(|subject| SubjectName {
            namespace: view.text(subject.namespace),
            name: view.text(subject.name),
        })
    }

    pub(crate) fn view(&self) -> &View<'_> {
        self.checked.borrow_dependent()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision())
            .field("bytes", &self.bytes().len())
            .finish()
    }
}
