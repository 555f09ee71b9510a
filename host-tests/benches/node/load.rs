//! Loading and changing the table of a large node, against iptables and ipset.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use sidewall_host_tests::bench;
use sidewall_host_tests::net::Netns;

use super::agent::Agent;
use super::world::{Size, World};
use super::xtables::Xtables;

const LOADS: usize = 5;
const CHANGES: usize = 20;
const LOOKS: usize = 7;
const UNTIL_LOOK: Duration = Duration::from_millis(530);

/// 200 pods in 50 groups, and 10,000 peers. `narrow`: each group knows 200 of them, so that every peer
/// is known to one group; `wide`: each knows 2,000.
pub fn run() -> Result<()> {
    for (name, teams_of_group) in [("narrow", 1), ("wide", 10)] {
        let world = World::new(Size {
            locals: 200,
            groups: 50,
            peers: 10_000,
            teams_of_group,
        });
        compare(name, &world)?;
    }
    Ok(())
}

fn compare(name: &str, world: &World) -> Result<()> {
    let size = world.size;
    let ours = Netns::create(&format!("{name}-nft"))?;
    let theirs = Netns::create(&format!("{name}-xt"))?;
    for netns in [&ours, &theirs] {
        netns
            .command("ip")
            .args(["link", "set", "lo", "up"])
            .status()?;
    }
    let xtables = Xtables(&theirs);
    let base = world.snapshot();
    let more_local = world.with(|world| world.add_local(size.locals)).snapshot();
    let more_peer = world.with(|world| world.add_peer(size.peers)).snapshot();

    let mut full = Pair::default();
    for round in 0..=LOADS {
        let agent = Agent::start(&ours)?;
        let took = [agent.apply(&base)?, xtables.load(size)?];
        full.keep(round, took);
        drop(agent);
        ours.command("nft")
            .args(["delete", "table", "inet", "sidewall"])
            .status()?;
        xtables.clear()?;
    }
    full.print(&format!("node_full_load_{name}"));

    let agent = Agent::start(&ours)?;
    agent.apply(&base)?;
    xtables.load(size)?;
    let (mut local, mut peer) = (Pair::default(), Pair::default());
    for round in 0..=CHANGES {
        for is_there in [true, false] {
            let snapshot = if is_there { &more_local } else { &base };
            let theirs = xtables.change_local(size, size.locals, is_there)?;
            local.keep(round, [agent.apply(snapshot)?, theirs]);
            let snapshot = if is_there { &more_peer } else { &base };
            let theirs = xtables.change_peer(size.peers, is_there)?;
            peer.keep(round, [agent.apply(snapshot)?, theirs]);
        }
    }
    // So long after somebody else's change the agent looks whether the table is as it should be.
    let mut looked_at = Vec::new();
    for round in 0..LOOKS {
        ours.command("nft")
            .args(["add", "table", "inet", "others"])
            .status()?;
        thread::sleep(UNTIL_LOOK);
        let snapshot = if round % 2 == 0 { &more_local } else { &base };
        looked_at.push(agent.apply(snapshot)?.as_secs_f64() * 1e3);
    }
    let looked_at = bench::median(looked_at);
    println!("figure node_change_while_looked_at_{name} {looked_at:.1} ms");
    let scrapes = (0..LOOKS).map(|_| Ok(agent.scrape()?.as_secs_f64() * 1e3));
    let scrape = bench::median(scrapes.collect::<Result<_>>()?);
    println!("figure node_scrape_{name} {scrape:.2} ms");
    local.print(&format!("node_change_of_own_pod_{name}"));
    peer.print(&format!("node_change_of_peer_{name}"));
    Ok(())
}

/// The agent's times and those of iptables and ipset, in milliseconds.
#[derive(Default)]
struct Pair([Vec<f64>; 2]);

impl Pair {
    /// Round 0 is for caches.
    fn keep(&mut self, round: usize, took: [Duration; 2]) {
        if round > 0 {
            for (kept, took) in self.0.iter_mut().zip(took) {
                kept.push(took.as_secs_f64() * 1e3);
            }
        }
    }

    fn print(&self, name: &str) {
        let [ours, theirs] = &self.0;
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        println!("figure {name} {:.1} ms", bench::median(ours.clone()));
        println!(
            "figure {name}_xtables {:.1} ms",
            bench::median(theirs.clone())
        );
        println!(
            "ratio {name}_to_xtables {:.2}",
            bench::median(ratios.collect())
        );
    }
}
