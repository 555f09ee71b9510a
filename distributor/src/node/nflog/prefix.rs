//! What the kernel's rules say of a packet that they drop.

use sidewall_policy::model::Direction;

/// Why the kernel logged a packet, as the prefix of the log rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The source's policies do not allow it.
    Egress,
    /// The destination's policies do not allow it.
    Ingress,
    /// An address of the node's pod range that no snapshot knows.
    Unknown,
    /// It passed, and the source's audited policies do not allow it.
    AuditedEgress,
    /// It passed, and the destination's audited policies do not allow it.
    AuditedIngress,
    /// TCP of a connection that a change denies.
    Silenced,
}

impl Prefix {
    /// Every prefix.
    pub const ALL: [Self; 6] = [
        Self::Egress,
        Self::Ingress,
        Self::Unknown,
        Self::AuditedEgress,
        Self::AuditedIngress,
        Self::Silenced,
    ];

    /// The text in the log rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "sidewall:egress",
            Self::Ingress => "sidewall:ingress",
            Self::Unknown => "sidewall:unknown",
            Self::AuditedEgress => "sidewall:audited-egress",
            Self::AuditedIngress => "sidewall:audited-ingress",
            Self::Silenced => "sidewall:silenced",
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
            Self::AuditedEgress => "audited-egress",
            Self::AuditedIngress => "audited-ingress",
            Self::Silenced => "silenced",
        }
    }

    /// Whether the packet passed.
    pub(super) const fn is_audited(self) -> bool {
        matches!(self, Self::AuditedEgress | Self::AuditedIngress)
    }

    /// The side, if it is one.
    pub(super) const fn direction(self) -> Option<Direction> {
        match self {
            Self::Egress | Self::AuditedEgress => Some(Direction::Egress),
            Self::Ingress | Self::AuditedIngress => Some(Direction::Ingress),
            Self::Unknown | Self::Silenced => None,
        }
    }
}
