//! `sidewall diff`: which connections a change of the manifests opens and closes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use ipnet::IpNet;
use serde::Serialize;
use sidewall_policy::model::{NetworkPolicy, Peer, Peers};

use super::matrix::{End, cells, ends};
use super::ports::{Port, Selection};
use super::ruling::Ruling;
use super::world::{Reading, World};
use super::{Error, Output, exit, paint, stdout, warn_of, write_json};

/// The arguments of `sidewall diff`. Ends with 0 if no connection changes and 1 if one does.
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    /// The folder as it was, and then the folder as it shall be
    #[arg(long, value_name = "DIR", num_args = 1, required = true)]
    manifests: Vec<PathBuf>,

    #[command(flatten)]
    reading: Reading,

    #[command(flatten)]
    ports: Selection,

    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A connection whose verdict changes.
#[derive(Debug, Serialize)]
struct Change {
    /// `opens` or `closes`.
    change: &'static str,
    from: String,
    to: String,
    protocol: &'static str,
    port: u16,
    family: &'static str,
    before: Ruling,
    after: Ruling,
}

/// What is answered.
#[derive(Debug, Serialize)]
struct Answer {
    /// Pods that are only in the old manifests, and pods that are only in the new ones: nothing
    /// is said about their connections.
    pods_gone: Vec<String>,
    pods_new: Vec<String>,
    changes: Vec<Change>,
}

impl DiffArgs {
    /// Answers on standard output.
    ///
    /// # Errors
    /// When one of the folders cannot be read.
    pub fn run(self) -> Result<ExitCode, Error> {
        let Self {
            manifests,
            reading,
            ports,
            output,
        } = self;
        let [old, new] = <[PathBuf; 2]>::try_from(manifests)
            .map_err(|given| Error::Folders { given: given.len() })?;
        let (old, new) = (World::read(&old, reading)?, World::read(&new, reading)?);
        warn_of(&new.problems)?;
        let ports = ports.resolve(&[&old, &new])?;
        let answer = answer(&old, &new, &ports);
        let mut out = stdout();
        match output {
            Output::Json => write_json(&mut out, &answer)?,
            Output::Text => write_text(&mut out, &answer)?,
        }
        Ok(exit(!answer.changes.is_empty()))
    }
}

fn answer(old: &World, new: &World, ports: &[Port]) -> Answer {
    let strangers = strangers(&[old, new]);
    let by_name = |world: &World| -> BTreeMap<String, End> {
        let all = ends(world, strangers.iter().copied());
        all.into_iter().map(|end| (end.name.clone(), end)).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let only = |these: &BTreeMap<String, End>, those: &BTreeMap<String, End>| {
        let pods = these.values().filter(|end| end.is_pod);
        let missing = pods.filter(|end| !those.contains_key(&end.name));
        missing.map(|end| end.name.clone()).collect()
    };
    let both: Vec<(&End, &End)> = before
        .iter()
        .filter_map(|(name, end)| Some((end, after.get(name)?)))
        .collect();
    let mut changes = Vec::new();
    for port in ports {
        for (from_before, from_after) in &both {
            for (to_before, to_after) in &both {
                if !from_before.is_pod && !to_before.is_pod {
                    continue;
                }
                let was = cells(old, from_before, to_before, *port);
                let is = cells(new, from_after, to_after, *port);
                for (source, destination, cell) in &is {
                    let same_family = was.iter().find(|(ip, ..)| ip.is_ipv4() == source.is_ipv4());
                    let Some((old_source, old_destination, old_cell)) = same_family else {
                        continue;
                    };
                    if cell.is_allowed() == old_cell.is_allowed() {
                        continue;
                    }
                    let judge = |world: &World, source: IpAddr, destination: IpAddr| {
                        world.judge(source, destination, port.protocol, port.number)
                    };
                    changes.push(Change {
                        change: if cell.is_allowed() { "opens" } else { "closes" },
                        from: from_after.name.clone(),
                        to: to_after.name.clone(),
                        protocol: port.protocol.as_str(),
                        port: port.number,
                        family: if source.is_ipv4() { "IPv4" } else { "IPv6" },
                        before: judge(old, *old_source, *old_destination),
                        after: judge(new, *source, *destination),
                    });
                }
            }
        }
    }
    Answer {
        pods_gone: only(&before, &after),
        pods_new: only(&after, &before),
        changes,
    }
}

/// Addresses outside the cluster of which one stands for all that no ipBlock tells apart from it:
/// the first of each range and of each exception, and one of each family that lies in none.
fn strangers(worlds: &[&World]) -> BTreeSet<IpAddr> {
    let policies = worlds
        .iter()
        .flat_map(|world| world.cluster.policies.values());
    // Who lies in no smaller block stands for "everywhere".
    let blocks = policies.flat_map(blocks).filter(|net| net.prefix_len() > 0);
    let blocks: BTreeSet<IpNet> = blocks.collect();
    // Documentation ranges (RFC 5737, RFC 3849): whoever writes them into a policy means nobody.
    let nowhere = [
        IpAddr::from([203, 0, 113, 1]),
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    ];
    blocks.iter().map(first_host).chain(nowhere).collect()
}

fn blocks(policy: &NetworkPolicy) -> impl Iterator<Item = IpNet> {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let peers = rules.flat_map(|rule| match &rule.peers {
        Peers::Any => &[],
        Peers::Of(peers) => peers.as_slice(),
    });
    peers.flat_map(|peer| match peer {
        Peer::Pods(_) => Vec::new(),
        Peer::Block(block) => std::iter::once(block.cidr)
            .chain(block.except.clone())
            .collect(),
    })
}

fn first_host(block: &IpNet) -> IpAddr {
    block.hosts().next().unwrap_or_else(|| block.network())
}

fn write_text(out: &mut impl Write, answer: &Answer) -> Result<(), Error> {
    let Answer {
        pods_gone,
        pods_new,
        changes,
    } = answer;
    for (word, pods) in [("gone", pods_gone), ("new", pods_new)] {
        if !pods.is_empty() {
            writeln!(
                out,
                "{}",
                paint::faint(format!("{word}: {}", pods.join(", ")))
            )?;
        }
    }
    if changes.is_empty() {
        return Ok(writeln!(out, "No connection changes.")?);
    }
    // Ports and families of one pair that change for one reason stand in one line.
    let mut lines: BTreeMap<(&str, &str, &str, String), BTreeSet<String>> = BTreeMap::new();
    for change in changes {
        let key = (
            change.change,
            change.from.as_str(),
            change.to.as_str(),
            change.why(),
        );
        let port = format!("{} {}", change.protocol, change.port);
        lines.entry(key).or_default().insert(port);
    }
    for ((change, from, to, why), ports) in lines {
        let change = match change {
            "opens" => paint::good("+ opens ").to_string(),
            _ => paint::bad("- closes").to_string(),
        };
        let ports: Vec<String> = ports.into_iter().collect();
        writeln!(out, "{change} {from} → {to} {}", ports.join(", "))?;
        writeln!(out, "           {}", paint::faint(why))?;
    }
    Ok(())
}

impl Change {
    /// What decides now, on the sides that denied before or deny now.
    fn why(&self) -> String {
        let turned =
            |direction| self.before.denied_by(direction) != self.after.denied_by(direction);
        let sides = self
            .after
            .sides()
            .filter(|(direction, _)| turned(*direction));
        let words: Vec<String> = sides
            .map(|(direction, side)| format!("{direction}: {}", side.in_words()))
            .collect();
        words.join("; ")
    }
}
