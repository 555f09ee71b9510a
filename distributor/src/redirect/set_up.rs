//! Setting the redirection up: `::6`, then the chains, then what leads to them.

use tracing::{info, warn};

use super::family::{Family, Ipv6};
use super::host::{Host, Invocation};
use super::rules::{self, JUMPS};
use super::{Error, Layout};

/// Sets up both families. An error leaves the pod as it was, or redirected: never with chains that
/// let more through than asked.
pub(super) fn set_up(host: &mut impl Host, layout: &Layout) -> Result<(), Error> {
    if layout.inbound_port == layout.outbound_port {
        return Err(Error::SamePort(layout.inbound_port));
    }
    let ipv6 = Ipv6::detect(host)?;
    if matches!(ipv6, Ipv6::Full { .. }) {
        // Before any rule that counts on it; nodad, for it must be usable at once.
        Invocation::new("ip", "-6 addr replace ::6/128 dev lo nodad").run(host)?;
    }
    install(host, layout, Family::V4, true)?;
    let families = match ipv6 {
        Ipv6::Full { .. } => {
            install(host, layout, Family::V6, true)?;
            "IPv4 and IPv6"
        }
        Ipv6::NotOnLoopback => {
            install(host, layout, Family::V6, false)?;
            warn!(
                "IPv6 is switched off on the loopback interface, so ::6 is not there for Envoy: applications see \
                 IPv6 connections come from the pod's own address"
            );
            "IPv4 and IPv6"
        }
        Ipv6::Absent => {
            info!("this kernel has no IPv6, so there is none to redirect");
            "IPv4"
        }
    };
    info!(families, inbound = %layout.inbound_port, outbound = %layout.outbound_port, "redirecting TCP to Envoy");
    Ok(())
}

fn install(
    host: &mut impl Host,
    layout: &Layout,
    family: Family,
    passthrough: bool,
) -> Result<(), Error> {
    family
        .restore(rules::chains(layout, family, passthrough))
        .run(host)?;
    for jump in &JUMPS {
        // 1 means that there is no such rule; the chains it names exist by now.
        if family.iptables(jump.check).ask(host, &[0, 1])? == 1 {
            family.iptables(jump.add).run(host)?;
        }
    }
    Ok(())
}
