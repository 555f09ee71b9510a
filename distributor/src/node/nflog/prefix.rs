//! What the kernel's rules say of a packet that they drop.

use sidewall_policy::model::Direction;

/// The side on which the kernel dropped a packet, as the prefix of the log rule tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The source's policies do not allow it.
    Egress,
    /// The destination's policies do not allow it.
    Ingress,
    /// An address of the node's pod range that no snapshot knows.
    Unknown,
}

impl Prefix {
    /// Every prefix.
    pub const ALL: [Self; 3] = [Self::Egress, Self::Ingress, Self::Unknown];

    /// The text in the log rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "sidewall:egress",
            Self::Ingress => "sidewall:ingress",
            Self::Unknown => "sidewall:unknown",
        }
    }

    /// Reads the text that came with a packet: ended by zero, maybe padded.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = text.split(|&byte| byte == 0).next()?.trim_ascii();
        Self::ALL
            .into_iter()
            .find(|prefix| prefix.as_str().as_bytes() == text)
    }

    /// Its label in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Unknown => "unknown",
        }
    }

    /// The side, if it is one.
    pub(super) const fn direction(self) -> Option<Direction> {
        match self {
            Self::Egress => Some(Direction::Egress),
            Self::Ingress => Some(Direction::Ingress),
            Self::Unknown => None,
        }
    }
}
