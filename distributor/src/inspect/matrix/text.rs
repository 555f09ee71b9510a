//! The matrix for people: a row for each source, a column for each destination, and as little of
//! both as the verdicts allow.
//!
//! Pods of one namespace that nothing tells apart, such as replicas, share a row and a column; ports
//! with the same verdicts share a matrix.

use std::collections::BTreeMap;
use std::io::Write;

use super::{End, cells};
use crate::inspect::ports::Port;
use crate::inspect::world::{Cell, World};
use crate::inspect::{Error, paint};

/// The verdicts of one port: by source, then by destination. `None` where there is nothing to say.
type Grid = Vec<Vec<Option<Sign>>>;

/// One place of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    Verdict(Cell),
    /// The families differ.
    Differs,
}

pub(super) fn write(
    out: &mut impl Write,
    world: &World,
    ends: &[End],
    ports: &[Port],
) -> Result<(), Error> {
    if ends.is_empty() {
        return Ok(writeln!(out, "There are no pods in these manifests.")?);
    }
    let mut grids: Vec<(Vec<Port>, Grid)> = Vec::new();
    for port in ports {
        let grid = grid(world, ends, *port);
        match grids.iter_mut().find(|(_, known)| *known == grid) {
            Some((same, _)) => same.push(*port),
            None => grids.push((vec![*port], grid)),
        }
    }
    for (ports, grid) in &grids {
        let title: Vec<String> = ports.iter().map(ToString::to_string).collect();
        writeln!(out, "{}", paint::strong(title.join(", ")))?;
        write_grid(out, ends, grid)?;
        writeln!(out)?;
    }
    writeln!(
        out,
        "{} allowed   denied by {} egress, {} ingress, {} both   {} depends on the family",
        sign(Some(Sign::Verdict(Cell::Allowed))),
        sign(Some(Sign::Verdict(Cell::Egress))),
        sign(Some(Sign::Verdict(Cell::Ingress))),
        sign(Some(Sign::Verdict(Cell::Both))),
        sign(Some(Sign::Differs)),
    )?;
    Ok(())
}

fn grid(world: &World, ends: &[End], port: Port) -> Grid {
    let place = |from: &End, to: &End| {
        let mut cells = cells(world, from, to, port)
            .into_iter()
            .map(|(_, _, cell)| cell);
        let first = cells.next().filter(|_| from.is_pod || to.is_pod)?;
        Some(if cells.all(|cell| cell == first) {
            Sign::Verdict(first)
        } else {
            Sign::Differs
        })
    };
    ends.iter()
        .map(|from| ends.iter().map(|to| place(from, to)).collect())
        .collect()
}

fn write_grid(out: &mut impl Write, ends: &[End], grid: &Grid) -> Result<(), Error> {
    let bundles = alike(ends, grid);
    let names: Vec<String> = bundles
        .iter()
        .map(|members| match (members.first(), members.len()) {
            (Some(first), 1) => ends[*first].name.clone(),
            (Some(first), count) => format!("{} and {} more", ends[*first].name, count - 1),
            (None, _) => String::new(),
        })
        .collect();
    let digits = bundles.len().to_string().len();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or_default();

    write!(out, "{:digits$} {:width$} ", "", "")?;
    for number in 1..=bundles.len() {
        write!(out, " {}", paint::faint(format!("{number:>digits$}")))?;
    }
    writeln!(out)?;
    for (number, (members, name)) in bundles.iter().zip(&names).enumerate() {
        let number = paint::faint(format!("{:>digits$}", number + 1));
        write!(out, "{number} {name:width$} ")?;
        for other in &bundles {
            let between = members.first().zip(between(members, other));
            let place = between.and_then(|(from, to)| grid[*from][to]);
            write!(out, " {:>pad$}{}", "", sign(place), pad = digits - 1)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Whom to look at for the verdict from a bundle to another: between members of one bundle, not a
/// pod and itself.
fn between(from: &[usize], to: &[usize]) -> Option<usize> {
    to.iter()
        .find(|member| from.len() == 1 || Some(*member) != from.first())
        .copied()
}

/// Bundles of pods of one namespace whose rows and columns are the same, but for the place of a
/// pod with itself.
fn alike(ends: &[End], grid: &Grid) -> Vec<Vec<usize>> {
    let mut bundles: Vec<Vec<usize>> = Vec::new();
    let mut by_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, end) in ends.iter().enumerate() {
        let name = &end.name;
        let namespace = name
            .split_once('/')
            .map_or(name.as_str(), |(namespace, _)| namespace);
        let candidates = by_namespace.entry(namespace).or_default();
        let same = candidates.iter().copied().find(|bundle| {
            bundles[*bundle]
                .iter()
                .all(|other| is_alike(grid, place, *other))
        });
        match same {
            Some(bundle) => bundles[bundle].push(place),
            None => {
                candidates.push(bundles.len());
                bundles.push(vec![place]);
            }
        }
    }
    bundles
}

fn is_alike(grid: &Grid, a: usize, b: usize) -> bool {
    let others = || (0..grid.len()).filter(|other| *other != a && *other != b);
    others().all(|other| grid[a][other] == grid[b][other] && grid[other][a] == grid[other][b])
        && grid[a][b] == grid[b][a]
}

fn sign(place: Option<Sign>) -> String {
    match place {
        None => " ".to_owned(),
        Some(Sign::Differs) => paint::warning("?").to_string(),
        Some(Sign::Verdict(Cell::Allowed)) => paint::good("✓").to_string(),
        Some(Sign::Verdict(Cell::Egress)) => paint::bad("e").to_string(),
        Some(Sign::Verdict(Cell::Ingress)) => paint::bad("i").to_string(),
        Some(Sign::Verdict(Cell::Both)) => paint::bad("✗").to_string(),
    }
}
