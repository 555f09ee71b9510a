//! The engine alone: evaluation against the number of rules, checking, size.
//!
//! Prints `ratio NAME VALUE` and `figure NAME VALUE UNIT`; see docs/performance.md.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use sidewall_host_tests::bench;
use sidewall_host_tests::bench::world::{World, flow_from};
use sidewall_policy::eval::Decision;
use sidewall_policy::snapshot::Snapshot;

fn main() {
    let (hosts_10, hosts_10k) = (World::rules_of_hosts(10), World::rules_of_hosts(10_000));
    let (blocks_10, blocks_10k) = (World::rules_of_blocks(10), World::rules_of_blocks(10_000));
    for (name, few, many) in [
        ("eval_hosts_10000_rules_to_10", &hosts_10, &hosts_10k),
        ("eval_blocks_10000_rules_to_10", &blocks_10, &blocks_10k),
    ] {
        let (a, b) = bench::in_turn(judging(few), judging(many));
        println!("figure {name}_few {a:.1} ns");
        println!("figure {name}_many {b:.1} ns");
        println!("ratio {name} {:.2}", b / a);
    }

    let large = World::one_rule(100_000);
    let (hundred_thousand, _) = bench::in_turn(judging(&large), || ());
    println!("figure eval_100000_hosts {hundred_thousand:.1} ns");

    let ten_thousand = World::one_rule(10_000);
    let bytes = ten_thousand.snapshot.bytes().to_vec();
    let (check, _) = bench::in_turn(|| Snapshot::check(bytes.clone()), || ());
    println!("figure check_10000_hosts {:.3} ms", check / 1e6);

    let small = World::one_rule(1).snapshot.bytes().len();
    println!("figure snapshot_fixed_part {small} bytes");
    for (hosts, world) in [(10_000_u32, &ten_thousand), (100_000, &large)] {
        let per_host = (world.snapshot.bytes().len() - small) as f64 / f64::from(hosts);
        println!("figure snapshot_bytes_per_host_{hosts} {per_host:.2} bytes");
    }
}

/// One judgement after the other, over peers and strangers.
fn judging(world: &World) -> impl FnMut() -> Decision + '_ {
    let sources = world.sources();
    let mut next = sources.into_iter().cycle();
    move || {
        let source = next.next().expect("a cycle of somebody never ends");
        world.snapshot.judge(&flow_from(source))
    }
}
