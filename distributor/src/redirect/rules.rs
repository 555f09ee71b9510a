//! The rules as text for `iptables-restore`: pure, and the same for both families but for the
//! addresses.

use std::fmt::Write as _;

use super::Layout;
use super::family::Family;

/// Our chains.
const CHAINS: [&str; 4] = [
    "SIDEWALL_REDIRECT",
    "SIDEWALL_IN_REDIRECT",
    "SIDEWALL_INBOUND",
    "SIDEWALL_OUTPUT",
];

/// A rule in a chain that is not ours: the ways to ask for it, to add it and to take it away.
#[derive(Debug)]
pub(super) struct Jump {
    pub(super) check: &'static str,
    pub(super) add: &'static str,
    pub(super) delete: &'static str,
}

/// What leads to our chains.
pub(super) const JUMPS: [Jump; 2] = [
    Jump {
        check: "--wait -t nat -C PREROUTING -p tcp -j SIDEWALL_INBOUND",
        add: "--wait -t nat -A PREROUTING -p tcp -j SIDEWALL_INBOUND",
        delete: "--wait -t nat -D PREROUTING -p tcp -j SIDEWALL_INBOUND",
    },
    Jump {
        check: "--wait -t nat -C OUTPUT -p tcp -j SIDEWALL_OUTPUT",
        add: "--wait -t nat -A OUTPUT -p tcp -j SIDEWALL_OUTPUT",
        delete: "--wait -t nat -D OUTPUT -p tcp -j SIDEWALL_OUTPUT",
    },
];

/// Our chains with their rules. Without `passthrough`, Envoy's leg to the pod has the pod's own
/// address; the rule that brings Envoy's calls to its own pod back in would then catch that leg,
/// too, and Envoy would call itself for ever, so it is left out.
pub(super) fn chains(layout: &Layout, family: Family, passthrough: bool) -> String {
    let Layout {
        proxy_uid,
        proxy_gid,
        inbound_port,
        outbound_port,
        exclude_inbound_ports,
        exclude_outbound_ports,
    } = layout;
    let mut text = empty();
    let mut rule = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "-A {line}");
    };

    rule(format_args!(
        "SIDEWALL_REDIRECT -p tcp -j REDIRECT --to-ports {outbound_port}"
    ));
    rule(format_args!(
        "SIDEWALL_IN_REDIRECT -p tcp -j REDIRECT --to-ports {inbound_port}"
    ));

    for port in exclude_inbound_ports {
        rule(format_args!(
            "SIDEWALL_INBOUND -p tcp --dport {port} -j RETURN"
        ));
    }
    rule(format_args!(
        "SIDEWALL_INBOUND -p tcp -j SIDEWALL_IN_REDIRECT"
    ));

    let loopback = family.loopback();
    if passthrough {
        // Envoy to its pod.
        rule(format_args!(
            "SIDEWALL_OUTPUT -s {} -o lo -j RETURN",
            family.passthrough()
        ));
        // Envoy to its own pod's address, as when a Service leads back: in like everybody else.
        rule(format_args!(
            "SIDEWALL_OUTPUT ! -d {loopback} -o lo -p tcp -m owner --uid-owner {proxy_uid} -j SIDEWALL_IN_REDIRECT"
        ));
    }
    // The pod to itself.
    rule(format_args!(
        "SIDEWALL_OUTPUT -o lo -m owner ! --uid-owner {proxy_uid} -j RETURN"
    ));
    // Envoy to others.
    rule(format_args!(
        "SIDEWALL_OUTPUT -m owner --uid-owner {proxy_uid} -j RETURN"
    ));
    rule(format_args!(
        "SIDEWALL_OUTPUT -m owner --gid-owner {proxy_gid} -j RETURN"
    ));
    rule(format_args!("SIDEWALL_OUTPUT -d {loopback} -j RETURN"));
    for port in exclude_outbound_ports {
        rule(format_args!(
            "SIDEWALL_OUTPUT -p tcp --dport {port} -j RETURN"
        ));
    }
    rule(format_args!("SIDEWALL_OUTPUT -j SIDEWALL_REDIRECT"));
    commit(text)
}

/// Our chains without rules: nothing is redirected any more.
pub(super) fn emptied() -> String {
    commit(empty())
}

/// Our chains gone; nothing may lead to them any more. They are declared first, so that it does
/// not matter which of them exist.
pub(super) fn deleted() -> String {
    let mut text = empty();
    for chain in CHAINS {
        let _ = writeln!(text, "-X {chain}");
    }
    commit(text)
}

/// Declaring a chain makes it, or empties it.
fn empty() -> String {
    let mut text = "*nat\n".to_owned();
    for chain in CHAINS {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    text
}

fn commit(text: String) -> String {
    text + "COMMIT\n"
}
