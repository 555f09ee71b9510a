//! `sidewall matrix`: who reaches whom.

mod text;

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use serde::Serialize;
use sidewall_policy::model::Pod;

use super::ports::{Port, Selection};
use super::ruling::Ruling;
use super::world::{Cell, Source, World};
use super::{Error, Output, exit, stdout, warn_of};

/// The arguments of `sidewall matrix`.
#[derive(Clone, Debug, clap::Args)]
pub struct MatrixArgs {
    #[command(flatten)]
    source: Source,

    #[command(flatten)]
    ports: Selection,

    /// An address outside the cluster that is to be in the matrix, too; may be repeated
    #[arg(long, value_name = "IP")]
    external: Vec<IpAddr>,

    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// One connection of the matrix.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    from: &'a str,
    to: &'a str,
    protocol: &'static str,
    port: u16,
    /// There only where the families differ: one entry for each then.
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
    #[serde(flatten)]
    ruling: Ruling,
}

/// Somebody in the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) name: String,
    pub(super) ips: Vec<IpAddr>,
    pub(super) is_pod: bool,
}

impl End {
    pub(super) fn pod(pod: &Pod) -> Self {
        Self {
            name: pod.id.to_string(),
            ips: pod.ips.clone(),
            is_pod: true,
        }
    }

    pub(super) fn external(ip: IpAddr) -> Self {
        Self {
            name: ip.to_string(),
            ips: vec![ip],
            is_pod: false,
        }
    }

    /// Pairs of addresses of one family; at most one for each family.
    pub(super) fn ways(&self, to: &Self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        [true, false].into_iter().filter_map(move |is_v4| {
            let first = |ips: &[IpAddr]| ips.iter().copied().find(|ip| ip.is_ipv4() == is_v4);
            Some((first(&self.ips)?, first(&to.ips)?))
        })
    }
}

impl MatrixArgs {
    /// Answers on standard output.
    ///
    /// # Errors
    /// When the manifests cannot be read.
    pub fn run(self) -> Result<ExitCode, Error> {
        let Self {
            source,
            ports,
            external,
            output,
        } = self;
        let world = World::read(&source.manifests, source.reading)?;
        warn_of(&world.problems)?;
        let ports = ports.resolve(&[&world])?;
        let ends = ends(&world, external);
        let mut out = stdout();
        match output {
            Output::Json => write_json(&mut out, &world, &ends, &ports)?,
            Output::Text => text::write(&mut out, &world, &ends, &ports)?,
        }
        Ok(exit(false))
    }
}

/// Every pod, by name, and then the addresses that were asked for.
pub(super) fn ends(world: &World, external: impl IntoIterator<Item = IpAddr>) -> Vec<End> {
    let external = external.into_iter().map(|ip| ip.to_canonical());
    let strangers = external.filter(|ip| world.owner(*ip).is_none());
    world
        .pods()
        .map(End::pod)
        .chain(strangers.map(End::external))
        .collect()
}

/// Pairs that NetworkPolicy has a say in.
fn pairs(ends: &[End]) -> impl Iterator<Item = (&End, &End)> {
    ends.iter()
        .flat_map(|from| ends.iter().map(move |to| (from, to)))
        .filter(|(from, to)| from.is_pod || to.is_pod)
}

/// The verdict in each family.
pub(super) fn cells(
    world: &World,
    from: &End,
    to: &End,
    port: Port,
) -> Vec<(IpAddr, IpAddr, Cell)> {
    from.ways(to)
        .map(|(source, destination)| {
            let cell = world.cell(source, destination, port.protocol, port.number);
            (source, destination, cell)
        })
        .collect()
}

/// A list of entries, written as it is made: it has the square of the number of pods.
fn write_json(
    out: &mut impl Write,
    world: &World,
    ends: &[End],
    ports: &[Port],
) -> Result<(), Error> {
    let mut separator = "[\n";
    for port in ports {
        for (from, to) in pairs(ends) {
            for entry in entries(world, from, to, *port) {
                write!(out, "{separator}  ")?;
                serde_json::to_writer(&mut *out, &entry).map_err(std::io::Error::from)?;
                separator = ",\n";
            }
        }
    }
    let nothing = separator == "[\n";
    writeln!(out, "{}", if nothing { "[]" } else { "\n]" })?;
    Ok(())
}

/// One entry, or one for each family where they differ.
fn entries<'a>(world: &World, from: &'a End, to: &'a End, port: Port) -> Vec<Entry<'a>> {
    let mut rulings: Vec<(&'static str, Ruling)> = from
        .ways(to)
        .map(|(source, destination)| {
            let family = if source.is_ipv4() { "IPv4" } else { "IPv6" };
            let ruling = world.judge(source, destination, port.protocol, port.number);
            (family, ruling)
        })
        .collect();
    rulings.dedup_by(|(_, a), (_, b)| a == b);
    let differ = rulings.len() > 1;
    let entry = |(family, ruling)| Entry {
        from: &from.name,
        to: &to.name,
        protocol: port.protocol.as_str(),
        port: port.number,
        family: differ.then_some(family),
        ruling,
    };
    rulings.into_iter().map(entry).collect()
}
