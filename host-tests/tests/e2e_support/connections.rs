//! Connections in one line of text, and what should come of them.
//!
//! `FROM … -> TO:PORT …` means each of those to each of these, over both families; or over one, with
//! ` over IPv4` at the end. Names are those of probe files; one that begins with a digit is an
//! address, of a host outside the cluster or of a node.

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::lab::{Expect, Family, Lab, Probe, failures};

/// The file with the policies that are in force at the moment.
pub const FILE: &str = "policies.yaml";

/// What it says when there are none. An empty file would be taken for a mishap.
pub const NONE: &str = "# no policy\n";

/// Holds the lab to connections that are answered and others that are not.
///
/// # Errors
///
/// Those that are not as expected.
pub fn expect(lab: &Lab, allow: &[&str], deny: &[&str], when: &str) -> Result<()> {
    let mut wanted = probes(allow, Expect::Allow)?;
    wanted.extend(probes(deny, Expect::Deny)?);
    ensure!(!wanted.is_empty(), "{when}: nothing to try");
    let results = lab.probe(&wanted)?;
    let unmet: Vec<_> = failures(&results).map(ToString::to_string).collect();
    ensure!(
        unmet.is_empty(),
        "{when}: {} of {} are not as expected:\n    {}",
        unmet.len(),
        results.len(),
        unmet.join("\n    ")
    );
    Ok(())
}

/// The probes that lines stand for.
///
/// # Errors
///
/// When a line is in another form.
pub fn probes<'a>(
    lines: impl IntoIterator<Item = &'a &'a str>,
    expect: Expect,
) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    for line in lines {
        let (connections, family) = match line.split_once(" over ") {
            None => (*line, None),
            Some((connections, "IPv4")) => (connections, Some(Family::IPv4)),
            Some((connections, "IPv6")) => (connections, Some(Family::IPv6)),
            Some((_, other)) => anyhow::bail!("{line}: {other} is no family"),
        };
        let (sources, targets) = connections
            .split_once(" -> ")
            .with_context(|| format!("{line}: no arrow"))?;
        for from in sources.split_whitespace() {
            for target in targets.split_whitespace() {
                let (to, port) = target
                    .rsplit_once(':')
                    .with_context(|| format!("{line}: {target} has no port"))?;
                let from = address("external:", from);
                let to = address("address:", to);
                let probe = Probe::new(&from, &to, port)?.expect(expect);
                probes.push(Probe { family, ..probe });
            }
        }
    }
    Ok(probes)
}

fn address(prefix: &str, name: &str) -> String {
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("{prefix}{name}")
    } else {
        name.to_owned()
    }
}
