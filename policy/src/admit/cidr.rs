//! CIDR strings, read as leniently as stored objects demand (`semantics D5`).
//!
//! API servers before strict validation accepted octets and prefix lengths with leading zeros
//! (always decimal), bits set beyond the prefix, and IPv4-mapped IPv6. Their meaning is certain,
//! so they are kept and reported; anything else is not a CIDR.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A CIDR that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    /// The range, host bits cleared, IPv4 where it was IPv4-mapped.
    pub(super) net: IpNet,
    /// What strict validation has against the way it was written; the first such thing.
    pub(super) legacy: Option<&'static str>,
}

/// Reads a CIDR; `None` when it is not one, by any API server's standard.
pub(super) fn parse(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let mut padded = false;
    let length = decimal(prefix, &mut padded)?;
    let address = if address.contains(':') {
        IpAddr::V6(ipv6(address, &mut padded)?)
    } else {
        IpAddr::V4(ipv4(address, &mut padded)?)
    };

    let (net, mapped) = match address {
        IpAddr::V4(v4) => (IpNet::V4(Ipv4Net::new(v4, length).ok()?), false),
        IpAddr::V6(v6) => {
            let net = Ipv6Net::new(v6, length).ok()?;
            // Below 96 bits the range holds more than the mapped addresses and stays IPv6.
            match (v6.to_ipv4_mapped(), length.checked_sub(96)) {
                (Some(v4), Some(length)) => (IpNet::V4(Ipv4Net::new(v4, length).ok()?), true),
                _ => (IpNet::V6(net), false),
            }
        }
    };
    let truncated = net.trunc();
    let legacy = if padded {
        Some("must not have leading zeros")
    } else if mapped {
        Some("must not be an IPv4-mapped IPv6 range")
    } else if truncated != net {
        Some("must not have bits set beyond the prefix length")
    } else {
        None
    };
    Some(Cidr {
        net: truncated,
        legacy,
    })
}

/// Whether `inner` lies within `outer` and is smaller (`semantics 1K`, `except`).
pub(super) fn is_strict_subset(inner: &IpNet, outer: &IpNet) -> bool {
    // `contains` is false across families (`semantics D3`).
    outer.contains(inner) && inner.prefix_len() > outer.prefix_len()
}

/// A decimal number that fits a byte, leading zeros and all.
fn decimal(text: &str, padded: &mut bool) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = unpad(text, padded);
    digits.parse().ok()
}

fn ipv4(text: &str, padded: &mut bool) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?, padded)?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// An IPv6 address. Only groups of more than four digits and padded dotted tails need help; the
/// grammar itself is that of the standard library.
fn ipv6(text: &str, padded: &mut bool) -> Option<Ipv6Addr> {
    let mut plain = String::with_capacity(text.len());
    for (index, group) in text.split(':').enumerate() {
        if index > 0 {
            plain.push(':');
        }
        if group.contains('.') {
            plain.push_str(&ipv4(group, padded)?.to_string());
        } else if group.len() > 4 {
            plain.push_str(unpad(group, padded));
        } else {
            plain.push_str(group);
        }
    }
    plain.parse().ok()
}

/// Leading zeros taken off, one digit left.
fn unpad<'t>(text: &'t str, padded: &mut bool) -> &'t str {
    let significant = text.trim_start_matches('0');
    // A zero is written with one digit.
    let digits = if significant.is_empty() && !text.is_empty() {
        &text[text.len() - 1..]
    } else {
        significant
    };
    *padded |= digits.len() != text.len();
    digits
}
