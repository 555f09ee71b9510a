//! Rows of `semantics 1F` to `1I` that need no packets.
