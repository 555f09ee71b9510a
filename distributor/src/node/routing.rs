//! Routes that deliver marked packets on this node, whatever their address: what redirected
//! connections need beside the rules.
//!
//! They match nothing but the mark, so that without the table they do nothing.

use std::io;

use ipnet::IpNet;
use tracing::warn;

use super::program::{self, ProgramError};
use super::ruleset::DELIVER;

/// The routing table and the preference of the rule that leads there: behind the table of local
/// addresses, before those of common network plugins.
const TABLE: u32 = 15_100;
const PREFERENCE: u32 = 100;

/// One address family, as `ip` calls it and with its range of everything.
const FAMILIES: [(&str, &str); 2] = [("-4", "0.0.0.0/0"), ("-6", "::/0")];

/// Adds what is missing, for the families of these ranges.
pub(super) async fn set_up(pod_cidrs: &[IpNet]) -> Result<(), ProgramError> {
    warn_of_reverse_path_checks();
    for (family, everything) in FAMILIES {
        let is_v4 = family == "-4";
        if !pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv4() == is_v4) {
            continue;
        }
        let route = format!("{family} route replace local {everything} dev lo table {TABLE}");
        program::must("ip", &route, "").await?;
        let add = format!("{family} rule add {}", selector());
        let outcome = program::run("ip", &add, "").await?;
        if !outcome.status.success() && !outcome.stderr.contains("File exists") {
            return Err(program::refused("ip", &add, outcome));
        }
    }
    Ok(())
}

/// Removes all of it, and tells what could not be removed.
pub(super) async fn remove() -> Vec<ProgramError> {
    let mut errors = Vec::new();
    for (family, _) in FAMILIES {
        loop {
            let delete = format!("{family} rule del {}", selector());
            match program::run("ip", &delete, "").await {
                // There may be more than one.
                Ok(outcome) if outcome.status.success() => {}
                Ok(outcome) if is_absent(&outcome.stderr) => break,
                Ok(outcome) => {
                    errors.push(program::refused("ip", &delete, outcome));
                    break;
                }
                Err(error) => {
                    errors.push(error);
                    break;
                }
            }
        }
        let flush = format!("{family} route flush table {TABLE}");
        match program::run("ip", &flush, "").await {
            Ok(outcome) if outcome.status.success() || is_absent(&outcome.stderr) => {}
            Ok(outcome) => errors.push(program::refused("ip", &flush, outcome)),
            Err(error) => errors.push(error),
        }
    }
    errors
}

fn selector() -> String {
    format!("pref {PREFERENCE} fwmark {DELIVER:#x}/{DELIVER:#x} lookup {TABLE}")
}

/// No such rule, no such table, or a kernel without that family.
fn is_absent(stderr: &str) -> bool {
    [
        "No such file or directory",
        "FIB table does not exist",
        "Address family not supported",
        "Operation not supported",
    ]
    .iter()
    .any(|reason| stderr.contains(reason))
}

/// With both set the kernel looks for the way back by the mark, finds itself, and drops what is
/// redirected.
fn warn_of_reverse_path_checks() {
    let is_one = |name: &str| -> io::Result<bool> {
        let path = format!("/proc/sys/net/ipv4/conf/all/{name}");
        Ok(std::fs::read_to_string(path)?.trim() == "1")
    };
    if let (Ok(true), Ok(true)) = (is_one("src_valid_mark"), is_one("rp_filter")) {
        warn!(
            "net.ipv4.conf.all.src_valid_mark and rp_filter are both 1: redirected connections will \
             time out; set src_valid_mark to 0, or rp_filter to 0 or 2"
        );
    }
}
