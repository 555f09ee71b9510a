//! Rows of `semantics 1A` to `1E` and `1K`, by their numbers.
