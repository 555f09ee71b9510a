//! The two address families: what they have in common, and whether IPv6 is there at all.

use std::io;

use super::Error;
use super::host::{Host, Invocation};

/// One address family of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What this network namespace can do with IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ipv6 {
    /// Everything.
    Full {
        /// Whether `::6` is on the loopback interface already.
        has_passthrough: bool,
    },
    /// It is switched off on the loopback interface, so that Envoy's `::6` cannot be had.
    NotOnLoopback,
    /// The kernel does not know it: nothing can come or go by it.
    Absent,
}

/// The thread's own view: a thread may be in another namespace than its process.
const ADDRESSES: &str = "/proc/thread-self/net/if_inet6";
const LOOPBACK_SWITCH: &str = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";

/// `::6` as [`ADDRESSES`] writes it.
const PASSTHROUGH: &str = "00000000000000000000000000000006 ";

impl Family {
    pub(super) fn iptables(self, line: &'static str) -> Invocation {
        let program = match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        };
        Invocation::new(program, line)
    }

    /// Restoring without flushing replaces the chains that the input declares, and no others, in
    /// one transaction.
    pub(super) fn restore(self, input: String) -> Invocation {
        let program = match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        };
        Invocation::new(program, "--wait --noflush").with_input(input)
    }

    /// The loopback address.
    pub(super) fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1/32",
            Self::V6 => "::1/128",
        }
    }

    /// The address Envoy speaks to its pod with, so that this leg is not redirected once more.
    pub(super) fn passthrough(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.6/32",
            Self::V6 => "::6/128",
        }
    }
}

impl Ipv6 {
    /// Looks at the network namespace of this thread.
    pub(super) fn detect(host: &impl Host) -> Result<Self, Error> {
        let addresses = match host.read(ADDRESSES) {
            Ok(addresses) => addresses,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(source) => {
                return Err(Error::Read {
                    path: ADDRESSES,
                    source,
                });
            }
        };
        let switch = host.read(LOOPBACK_SWITCH).map_err(|source| Error::Read {
            path: LOOPBACK_SWITCH,
            source,
        })?;
        if switch.trim() == "1" {
            return Ok(Self::NotOnLoopback);
        }
        Ok(Self::Full {
            has_passthrough: addresses.lines().any(|line| line.starts_with(PASSTHROUGH)),
        })
    }
}
