//! Why bytes are no snapshot.

use thiserror::Error;

/// A refused snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Shorter than the header.
    #[error("{0} bytes are too few for a snapshot header")]
    TooShort(usize),
    /// Longer than this build accepts.
    #[error("{0} bytes are more than the limit of {limit}", limit = super::MAX_LENGTH)]
    TooLong(usize),
    /// Not a snapshot at all.
    #[error("the bytes do not begin with the magic of a Sidewall snapshot")]
    Magic,
    /// Written by a release that is not a neighbour of this one.
    #[error(
        "format version {0} is not one that is read here, {oldest} to {newest}; distributor, agents and filters may be one release apart: upgrade the older ones",
        oldest = super::READABLE.start(),
        newest = super::READABLE.end()
    )]
    Version(u16),
    /// Cut off, or with bytes behind the end.
    #[error("the header gives {header} bytes but {found} arrived")]
    Length {
        /// The length in the header.
        header: u32,
        /// The bytes at hand.
        found: usize,
    },
    /// Damaged.
    #[error("the content does not match its hash")]
    Hash,
    /// A flag that this build does not know and so cannot obey.
    #[error("unknown flags {0:#06x}")]
    Flags(u16),
    /// A section out of place or with a broken record.
    #[error("section `{section}`: {reason}")]
    Section {
        /// The section's name.
        section: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}
