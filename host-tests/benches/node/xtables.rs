//! What the table of a [`World`] would be for iptables and ipset: a set for each team, a chain for each
//! group and direction, and two rules for each pod that lead there.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::net::Netns;
use sidewall_policy::model::Protocol;

use super::world::{Size, TEAMS, local, peer, ports, team};

/// The kernel of a namespace, by iptables and ipset.
#[derive(Debug)]
pub struct Xtables<'a>(pub &'a Netns);

impl Xtables<'_> {
    /// Loads everything, and says how long that took.
    pub fn load(&self, size: Size) -> Result<Duration> {
        let (sets, rules) = (sets(size), rules(size));
        let started = Instant::now();
        self.run("ipset", "restore", &sets)?;
        self.run("iptables-restore", "-w", &rules)?;
        Ok(started.elapsed())
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<()> {
        let nothing = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";
        self.run("iptables-restore", "-w", nothing)?;
        self.run("ipset", "destroy", "")
    }

    /// Adds a pod of the node, or removes it.
    pub fn change_local(&self, size: Size, number: u32, is_there: bool) -> Result<Duration> {
        let (set, rule) = if is_there {
            ("add", "-A")
        } else {
            ("del", "-D")
        };
        let set = format!("{set} pods {}\n", local(number));
        let rules = format!("*filter\n{}COMMIT\n", to_group(rule, size, number));
        let started = Instant::now();
        self.run("ipset", "restore", &set)?;
        self.run("iptables-restore", "-w --noflush", &rules)?;
        Ok(started.elapsed())
    }

    /// Adds a pod elsewhere, or removes it.
    pub fn change_peer(&self, number: u32, is_there: bool) -> Result<Duration> {
        let verb = if is_there { "add" } else { "del" };
        let change = format!("{verb} {} {}\n", name(number % TEAMS), peer(number));
        let started = Instant::now();
        self.run("ipset", "restore", &change)?;
        Ok(started.elapsed())
    }

    fn run(&self, program: &str, line: &str, script: &str) -> Result<()> {
        let mut command = self.0.command(program);
        command.args(line.split(' ')).stdin(Stdio::piped());
        let started = command.stderr(Stdio::piped()).spawn();
        let mut child = started.with_context(|| format!("starting {program}"))?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        stdin.write_all(script.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} {line}: {errors}");
        Ok(())
    }
}

fn name(team: u32) -> String {
    format!("team-{team}")
}

fn sets(size: Size) -> String {
    let mut script = String::new();
    let mut set = |name: &str, members: &mut dyn Iterator<Item = Ipv4Addr>| {
        let _ = writeln!(script, "create {name} hash:ip family inet");
        for member in members {
            let _ = writeln!(script, "add {name} {member}");
        }
    };
    set("pods", &mut (0..size.locals).map(local));
    for team in 0..TEAMS {
        let members = (0..size.peers).filter(|number| number % TEAMS == team);
        set(&name(team), &mut members.map(peer));
    }
    script
}

fn rules(size: Size) -> String {
    let mut script = "*filter\n:FORWARD ACCEPT [0:0]\n".to_owned();
    for group in 0..size.groups {
        let _ = writeln!(script, ":E-{group} - [0:0]\n:I-{group} - [0:0]");
    }
    script.push_str(
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A FORWARD -p tcp ! --syn -m conntrack --ctstate NEW -j DROP\n\
         -A FORWARD -s 10.244.1.0/24 -m set ! --match-set pods src -j DROP\n\
         -A FORWARD -d 10.244.1.0/24 -m set ! --match-set pods dst -j DROP\n",
    );
    for number in 0..size.locals {
        script.push_str(&to_group("-A", size, number));
    }
    for group in 0..size.groups {
        for (chain, end) in [("E", "dst"), ("I", "src")] {
            for rule in 0..size.teams_of_group {
                let set = name(team(group, rule));
                for (protocol, low, high) in ports(rule) {
                    let protocol = match protocol {
                        Protocol::Udp => "udp",
                        _ => "tcp",
                    };
                    let _ = writeln!(
                        script,
                        "-A {chain}-{group} -m set --match-set {set} {end} -p {protocol} --dport {low}:{high} -j RETURN"
                    );
                }
            }
            let _ = writeln!(script, "-A {chain}-{group} -j DROP");
        }
    }
    script.push_str("COMMIT\n");
    script
}

/// The rules that lead a pod's packets to its group's chains.
fn to_group(verb: &str, size: Size, number: u32) -> String {
    let (ip, group) = (local(number), number % size.groups);
    format!("{verb} FORWARD -s {ip}/32 -j E-{group}\n{verb} FORWARD -d {ip}/32 -j I-{group}\n")
}
