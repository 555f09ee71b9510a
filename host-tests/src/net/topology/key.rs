//! How hosts are told apart, named in messages and named in files.

use crate::net::link::{self, Gateway};

/// Kind and name of a host.
pub(super) type Key = (Kind, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Control,
    Node,
    Pod,
    External,
}

impl Kind {
    /// Begins the names of the lines.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Node => "node",
            Self::Pod => "pod",
            Self::External => "ext",
        }
    }

    /// What its hub answers on.
    pub(super) fn gateway(self) -> Gateway {
        if self == Self::Pod {
            link::NODE
        } else {
            link::ROUTER
        }
    }
}

pub(super) fn control_key() -> Key {
    (Kind::Control, "control".to_owned())
}

/// A host as messages name it.
pub(super) fn label((kind, name): &Key) -> String {
    match kind {
        Kind::Control => "the control host".to_owned(),
        Kind::Node => format!("node {name}"),
        Kind::Pod => format!("pod {name}"),
        Kind::External => format!("external host {name}"),
    }
}

/// A host's name as part of a file name: short enough, and without a slash.
pub(super) fn file_name(name: &str) -> String {
    name.chars()
        .take(60)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}
