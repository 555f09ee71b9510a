//! What a root context is for, told by its plugin configuration.

use std::fmt;

use sidewall_policy::snapshot::MAGIC;

/// The plugin configuration of a gate. It never changes, so a gate's listener never drains.
pub const GATE: &[u8] = b"gate";

/// The role of a root context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives snapshots and puts them in force for the whole VM.
    Carrier,
    /// Stands in a filter chain and judges its connections.
    Gate,
}

impl Role {
    /// Reads a role from a plugin configuration.
    ///
    /// # Errors
    /// The configuration is neither a snapshot nor [`GATE`]: guessing would either open a chain or
    /// hide a snapshot that arrived damaged.
    pub fn of(configuration: &[u8]) -> Result<Self, UnknownRole> {
        if configuration.starts_with(&MAGIC) {
            Ok(Self::Carrier)
        } else if configuration == GATE {
            Ok(Self::Gate)
        } else {
            Err(UnknownRole {
                length: configuration.len(),
            })
        }
    }
}

/// A plugin configuration that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRole {
    /// The length of the configuration in bytes.
    pub length: usize,
}

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "configuration ({} bytes) is neither a snapshot nor \"gate\"; feed the carrier from the \
             distributor by ECDS as BytesValue and give gates the StringValue \"gate\"",
            self.length
        )
    }
}

impl std::error::Error for UnknownRole {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_makes_a_carrier() {
        let mut bytes = MAGIC.to_vec();
        assert_eq!(Role::of(&bytes), Ok(Role::Carrier));
        bytes.push(0);
        assert_eq!(Role::of(&bytes), Ok(Role::Carrier));
    }

    #[test]
    fn the_word_makes_a_gate() {
        assert_eq!(Role::of(b"gate"), Ok(Role::Gate));
    }

    #[test]
    fn anything_else_is_refused() {
        for other in [&b""[..], b"gate\n", b"Gate", b"\"gate\"", &MAGIC[..7]] {
            let refused = Role::of(other).unwrap_err();
            assert_eq!(refused.length, other.len());
            assert!(refused.to_string().contains("gate"), "{refused}");
        }
    }
}
