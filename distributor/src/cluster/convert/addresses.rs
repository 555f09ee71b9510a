//! Lists of addresses in object fields.

use std::net::IpAddr;

use crate::cluster::report::Report;

/// Reads addresses with the fields they stand in: v4-mapped ones normalised (`semantics D6`),
/// doubles left out, others in their order. What is not an address is reported and left out.
pub(super) fn addresses<'a>(
    fields: impl IntoIterator<Item = (String, &'a str)>,
    consequence: &str,
    report: &mut Report,
) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (field, text) in fields {
        match text.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
            Err(_) => {
                let reason = format!("{text:?} is not an IP address such as 10.0.0.1 or fd00::1");
                report.add(field, reason, consequence);
            }
        }
    }
    ips
}
