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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> u128 {
        position(text.parse().expect("an address"))
    }

    /// The intervals of a block, as `first-last`.
    fn left(cidr: &str, except: &[&str]) -> Vec<Interval> {
        let net = |text: &&str| text.parse::<IpNet>().expect("a network");
        block_intervals(&IpBlock {
            cidr: net(&cidr),
            except: except.iter().map(net).collect(),
        })
    }

    #[test]
    fn a_block_loses_its_exceptions_and_nothing_else() {
        let from = |first: &str, last: &str| (ip(first), ip(last));
        for (cidr, except, expected) in [
            ("10.0.0.0/30", &[][..], vec![from("10.0.0.0", "10.0.0.3")]),
            // At the start, at the end, in the middle.
            (
                "10.0.0.0/30",
                &["10.0.0.0/32"],
                vec![from("10.0.0.1", "10.0.0.3")],
            ),
            (
                "10.0.0.0/30",
                &["10.0.0.3/32"],
                vec![from("10.0.0.0", "10.0.0.2")],
            ),
            (
                "10.0.0.0/29",
                &["10.0.0.2/31"],
                vec![from("10.0.0.0", "10.0.0.1"), from("10.0.0.4", "10.0.0.7")],
            ),
            // Side by side, in any order.
            (
                "10.0.0.0/29",
                &["10.0.0.4/32", "10.0.0.2/31"],
                vec![from("10.0.0.0", "10.0.0.1"), from("10.0.0.5", "10.0.0.7")],
            ),
            // One within another does not end it early.
            (
                "10.0.0.0/28",
                &["10.0.0.0/29", "10.0.0.2/31"],
                vec![from("10.0.0.8", "10.0.0.15")],
            ),
            // Nothing is left of a block that its exceptions fill.
            ("10.0.0.0/30", &["10.0.0.0/31", "10.0.0.2/31"], vec![]),
            // What lies outside, or in the other family, takes nothing away.
            (
                "10.0.0.4/30",
                &["10.0.0.3/32", "10.0.0.8/32", "::a00:5/128"],
                vec![from("10.0.0.4", "10.0.0.7")],
            ),
            // The ends of the line.
            (
                "0.0.0.0/0",
                &["0.0.0.0/32", "255.255.255.255/32"],
                vec![from("0.0.0.1", "255.255.255.254")],
            ),
            (
                "::/0",
                &["::/1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"],
                vec![from("8000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")],
            ),
        ] {
            assert_eq!(left(cidr, except), expected, "{cidr} but {except:?}");
        }
    }

    #[test]
    fn pieces_say_who_covers_what() {
        let piece = |start, covered_by: &[u32]| Piece {
            start,
            covered_by: covered_by.to_vec(),
        };
        for (intervals, expected) in [
            (vec![], vec![]),
            (
                vec![((10, 20), 7)],
                vec![piece(0, &[]), piece(10, &[7]), piece(21, &[])],
            ),
            // Overlapping, and within.
            (
                vec![((0, 10), 1), ((5, 15), 2), ((6, 6), 3)],
                vec![
                    piece(0, &[1]),
                    piece(5, &[1, 2]),
                    piece(6, &[1, 2, 3]),
                    piece(7, &[1, 2]),
                    piece(11, &[2]),
                    piece(16, &[]),
                ],
            ),
            // Side by side: one piece if it is the same one, however often it is said.
            (
                vec![((0, 4), 1), ((5, 9), 1), ((2, 9), 1), ((10, 12), 2)],
                vec![piece(0, &[1]), piece(10, &[2]), piece(13, &[])],
            ),
            // To the end of the line, behind which there is nothing.
            (
                vec![((90, 99), 1), ((99, 99), 2)],
                vec![piece(0, &[]), piece(90, &[1]), piece(99, &[1, 2])],
            ),
        ] {
            assert_eq!(cut(intervals.clone(), 99), expected, "{intervals:?}");
        }
        assert_eq!(
            cut([((0, u128::MAX), 1)], line_end(Family::V6)),
            [piece(0, &[1])]
        );
        assert_eq!(line_end(Family::V4), ip("255.255.255.255"));
    }
}
