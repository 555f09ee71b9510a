//! `sidewall redirect`: sends a pod's TCP through the Envoy beside it.
//!
//! To be run in the pod's network namespace before anything else, as an init container does. It
//! installs the layout of Istio's own init container under names of its own, for both
//! families:
//!
//! ```text
//!  from the network ─▶ PREROUTING ─▶ SIDEWALL_INBOUND ─▶ SIDEWALL_IN_REDIRECT ─▶ Envoy :15006
//!  from the pod     ─▶ OUTPUT ─────▶ SIDEWALL_OUTPUT ──▶ SIDEWALL_REDIRECT ────▶ Envoy :15001
//!                                       └▶ untouched: Envoy's own, loopback, the pod to itself
//! ```
//!
//! It never touches a chain that is not Sidewall's, beyond one jump each in PREROUTING and OUTPUT;
//! never redirects anything but TCP; and never leaves half of a chain, since chains are replaced
//! in one transaction. Running it twice gives the same rules.

mod family;
mod host;
mod remove;
mod rules;
mod set_up;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroU16;

use host::System;

/// The arguments of `sidewall redirect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// Take the redirection away instead; fine to run when there is none
    #[arg(long)]
    pub cleanup: bool,

    /// What is redirected, and where to.
    #[command(flatten)]
    pub layout: Layout,
}

/// What is redirected, and where to.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Layout {
    /// The user Envoy runs as: its connections are not redirected. Nothing else in the pod may
    /// run as this user
    #[arg(long, value_name = "UID", default_value_t = PROXY_ID, value_parser = clap::value_parser!(u32).range(1..))]
    pub proxy_uid: u32,

    /// The group Envoy runs as: its connections are not redirected. Nothing else in the pod may
    /// run as this group
    #[arg(long, value_name = "GID", default_value_t = PROXY_ID, value_parser = clap::value_parser!(u32).range(1..))]
    pub proxy_gid: u32,

    /// Where Envoy takes the connections made to the pod
    #[arg(long, value_name = "PORT", default_value_t = INBOUND_PORT)]
    pub inbound_port: NonZeroU16,

    /// Where Envoy takes the connections made by the pod
    #[arg(long, value_name = "PORT", default_value_t = OUTBOUND_PORT)]
    pub outbound_port: NonZeroU16,

    /// Ports of the pod that are reached without Envoy, hence without policy
    #[arg(long, value_name = "PORT,...", value_delimiter = ',')]
    pub exclude_inbound_ports: Vec<NonZeroU16>,

    /// Ports of others that the pod reaches without Envoy, hence without policy
    #[arg(long, value_name = "PORT,...", value_delimiter = ',')]
    pub exclude_outbound_ports: Vec<NonZeroU16>,
}

/// The user and group of Envoy in Istio's images, and so of everybody's habits.
const PROXY_ID: u32 = 1337;

/// Istio's inbound capture port.
const INBOUND_PORT: NonZeroU16 = NonZeroU16::new(15_006).expect("not zero");

/// Istio's outbound capture port.
const OUTBOUND_PORT: NonZeroU16 = NonZeroU16::new(15_001).expect("not zero");

impl Default for Layout {
    fn default() -> Self {
        Self {
            proxy_uid: PROXY_ID,
            proxy_gid: PROXY_ID,
            inbound_port: INBOUND_PORT,
            outbound_port: OUTBOUND_PORT,
            exclude_inbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
        }
    }
}

/// Why the redirection could not be set up or taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Envoy cannot tell the two directions apart.
    #[error(
        "--inbound-port and --outbound-port are both {0}; Envoy needs a listener for each direction"
    )]
    SamePort(NonZeroU16),
    /// A program is not there.
    #[error(
        "cannot run `{command}`; {} must be installed in this image",
        package(command)
    )]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program refused.
    #[error(
        "`{command}` failed ({status}): {stderr}; this needs root with the capabilities NET_ADMIN and NET_RAW in the \
         pod's network namespace, and a kernel with NAT, REDIRECT and the owner match"
    )]
    Refused {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// The state of IPv6 is unknown.
    #[error("cannot read {path} to see whether IPv6 is in use; is /proc mounted?")]
    Read {
        /// The file.
        path: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Some of it is still there. Everything that could be removed has been.
    #[error("the redirection is not fully removed: {}; run it again once this is mended", list(.0))]
    Cleanup(Vec<Error>),
}

impl Args {
    /// Sets the redirection up or takes it away, in the network namespace of this thread.
    ///
    /// # Errors
    ///
    /// Says which command failed, what it said and what it needs.
    pub fn run(self) -> Result<(), Error> {
        let Self { cleanup, layout } = self;
        if cleanup {
            remove::remove(&mut System)
        } else {
            set_up::set_up(&mut System, &layout)
        }
    }
}

fn package(command: &str) -> &'static str {
    if command.starts_with("ip ") {
        "iproute2"
    } else {
        "iptables"
    }
}

/// A list of errors in one line, each with its cause.
fn list(errors: &[Error]) -> String {
    let text = |error: &Error| match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    errors.iter().map(text).collect::<Vec<_>>().join("; ")
}
