//! What the agent's processor time is while peers are replaced all the time, with a Service's worth of live
//! connections to be judged again.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sidewall_host_tests::bench::usage;
use sidewall_host_tests::net::Netns;

use super::agent::Agent;
use super::world::{Size, World};

/// As kube-burner and others replace pods.
const RATE: u32 = 46;
const SECONDS: u32 = 10;

/// Of `CLK_TCK`, which Linux fixes for what user space reads.
const TICKS: f64 = 100.0;

/// Eight pods of the node under one policy, whose peers are 100 and 10,000 pods elsewhere.
pub fn run() -> Result<()> {
    for peers in [100, 10_000] {
        let world = World::new(Size {
            locals: 8,
            groups: 1,
            peers,
            teams_of_group: super::world::TEAMS,
        });
        let netns = Netns::create(&format!("churn-{peers}"))?;
        let mut ip = netns.command("ip");
        ip.args(["link", "set", "lo", "up"]).status()?;
        // Made before, so that nothing but the agent is measured: each has another peer than the one before.
        let snapshots: Vec<_> = (0..RATE)
            .map(|number| {
                world
                    .with(|world| world.add_peer(peers + number))
                    .snapshot()
            })
            .collect();
        let agent = Agent::start(&netns)?;
        agent.apply(&world.snapshot())?;
        let before = used()?;
        let started = Instant::now();
        for change in 0..RATE * SECONDS {
            agent.offer(&snapshots[(change % RATE) as usize]);
            let next = Duration::from_secs(1) * (change + 1) / RATE;
            thread::sleep(next.saturating_sub(started.elapsed()));
        }
        let share = (used()? - before) / started.elapsed().as_secs_f64();
        println!("figure node_churn_{peers}_peers_cpu {:.1} %", 100.0 * share);
        agent.apply(&world.snapshot())?;
    }
    Ok(())
}

/// Processor time in seconds of this process, which is the agent and a sleeping thread, and of the children that it
/// has waited for.
fn used() -> Result<f64> {
    let own = usage::cpu(std::process::id())?.as_secs_f64();
    let stat = fs::read_to_string("/proc/self/stat")?;
    // proc(5): cutime and cstime are the 14th and 15th fields behind the name.
    let fields = stat.rsplit_once(')').context("a name")?.1;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let children: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(own + children / TICKS)
}
