//! Items of `ports` (`semantics 1E`, `1K`).

use super::field::Path;
use super::{Findings, invalid, names};
use crate::model::{PortMatch, PortRange, Protocol};
use crate::spec::{IntOrString, Port};

/// What becomes of a port with any flaw.
const CLOSED: &str = "this port matches nothing";

/// Reads one port; `None` when it was refused and so matches nothing.
pub(super) fn read(raw: &Port, path: Path<'_>, findings: &mut Findings) -> Option<PortMatch> {
    let Port {
        protocol,
        port,
        end_port,
    } = raw;
    let protocol = match protocol {
        // `semantics A13`: also when the item is otherwise empty.
        None => Some(Protocol::Tcp),
        Some(name) => {
            let known = Protocol::from_api(name);
            if known.is_none() {
                let why = "supported values: \"TCP\", \"UDP\", \"SCTP\"";
                findings.refuse(path.field("protocol"), invalid(name, why), CLOSED);
            }
            known
        }
    };
    let port = match (port, end_port) {
        (None, None) => Some(PortRange::All),
        (None, Some(_)) => {
            let reason = "Forbidden: may not be specified when port is not specified";
            findings.refuse(path.field("endPort"), reason, CLOSED);
            None
        }
        (Some(IntOrString::Int(low)), None) => number(*low, path.field("port"), findings)
            .map(|low| PortRange::Numbers { low, high: low }),
        (Some(IntOrString::Int(low)), Some(high)) => span(*low, *high, path, findings),
        (Some(IntOrString::String(name)), _) => {
            let mut readable = true;
            if let Err(why) = names::port_name(name) {
                findings.refuse(path.field("port"), invalid(name, why), CLOSED);
                readable = false;
            }
            if end_port.is_some() {
                let reason = "Forbidden: may not be specified when port is non-numeric";
                findings.refuse(path.field("endPort"), reason, CLOSED);
                readable = false;
            }
            readable.then(|| PortRange::Named(name.as_str().into()))
        }
    };
    Some(PortMatch {
        protocol: protocol?,
        port: port?,
    })
}

/// Reads `port` and `endPort`, both ends included.
fn span(low: i32, high: i32, path: Path<'_>, findings: &mut Findings) -> Option<PortRange> {
    let end = path.field("endPort");
    let start = number(low, path.field("port"), findings);
    let stop = number(high, end, findings);
    let (low, high) = (start?, stop?);
    if high < low {
        let reason = invalid(high, "must be greater than or equal to port");
        findings.refuse(end, reason, CLOSED);
        return None;
    }
    Some(PortRange::Numbers { low, high })
}

fn number(number: i32, path: Path<'_>, findings: &mut Findings) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Some(port),
        _ => {
            let reason = invalid(number, "must be between 1 and 65535, inclusive");
            findings.refuse(path, reason, CLOSED);
            None
        }
    }
}
