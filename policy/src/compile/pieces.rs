//! The address line of one family, cut into disjoint pieces.
//!
//! Both families use `u128` positions here; an IPv4 line ends at `u32::MAX`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::services::Family;
use super::table::NO_CLASS;
use crate::model::IpBlock;

/// An inclusive range of addresses.
pub type Interval = (u128, u128);

/// The position of an address on its family's line.
pub fn position(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address at a position of a family's line.
fn address(family: Family, position: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(position as u32).into(),
        Family::V6 => Ipv6Addr::from(position).into(),
    }
}

/// The ranges with a class that is not the empty one, of those that begin at these positions.
pub fn with_class(
    ranges: &[(u128, u32)],
    family: Family,
) -> impl Iterator<Item = RangeInclusive<IpAddr>> {
    let ends = ranges
        .iter()
        .skip(1)
        .map(|(next, _)| next.saturating_sub(1));
    let ends = ends.chain([line_end(family)]);
    let with_ends = ranges.iter().zip(ends);
    with_ends
        .filter(|((_, class), _)| *class != NO_CLASS)
        .map(move |((start, _), end)| address(family, *start)..=address(family, end))
}

/// The last position of a family's line.
pub const fn line_end(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX as u128,
        Family::V6 => u128::MAX,
    }
}

/// The addresses of a network.
fn interval(net: &IpNet) -> Interval {
    (position(net.network()), position(net.broadcast()))
}

/// What is left of a block after its exceptions (`semantics D1`), sorted and disjoint.
///
/// Each block is subtracted by itself: another block may still allow what this one leaves out
/// (`semantics D2`, `D8`).
pub fn block_intervals(block: &IpBlock) -> Vec<Interval> {
    let (start, end) = interval(&block.cidr);
    let mut holes: Vec<Interval> = block
        .except
        .iter()
        .filter(|net| Family::of(net.addr()) == Family::of(block.cidr.addr()))
        .map(interval)
        .collect();
    holes.sort_unstable();

    let mut left = Vec::new();
    let mut from = start;
    for (low, high) in holes {
        if high < from || low > end {
            continue;
        }
        if low > from {
            left.push((from, low - 1));
        }
        if high >= end {
            return left;
        }
        from = high + 1;
    }
    left.push((from, end));
    left
}

/// One piece of the line: where it starts, and what covers it until the next one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its first position.
    pub start: u128,
    /// Ids of what covers it, sorted; empty for a gap.
    pub covered_by: Vec<u32>,
}

/// Cuts overlapping intervals into pieces that cover the line from zero without gaps.
///
/// Returns nothing when there is no interval at all.
pub fn cut(intervals: impl IntoIterator<Item = (Interval, u32)>, line_end: u128) -> Vec<Piece> {
    let mut edges: BTreeMap<u128, Vec<(u32, i32)>> = BTreeMap::new();
    for ((start, end), id) in intervals {
        edges.entry(start).or_default().push((id, 1));
        if end < line_end {
            edges.entry(end + 1).or_default().push((id, -1));
        }
    }
    if edges.is_empty() {
        return Vec::new();
    }
    edges.entry(0).or_default();

    let mut depth: BTreeMap<u32, i32> = BTreeMap::new();
    let mut pieces: Vec<Piece> = Vec::new();
    for (start, changes) in edges {
        for (id, change) in changes {
            let count = depth.entry(id).or_default();
            *count += change;
            if *count == 0 {
                depth.remove(&id);
            }
        }
        let covered_by: Vec<u32> = depth.keys().copied().collect();
        if pieces
            .last()
            .is_none_or(|last| last.covered_by != covered_by)
        {
            pieces.push(Piece { start, covered_by });
        }
    }
    pieces
}
