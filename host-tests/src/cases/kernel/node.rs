//! One node: its table in a real kernel, held to what the distributor compiled as the agent does.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewall_distributor::node::ruleset::{
    DELIVER, Existing, Plan, Settings, Step, TABLE, replace, transition,
};
use sidewall_policy::snapshot::Snapshot;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::Error;
use super::packet::{First, Sent, read};
use super::records::Records;
use crate::net::{Service, Tap, service_rules};

/// The first number of packets; no case dials a port from here on but the last.
pub(super) const FIRST_NUMBER: u16 = 40_000;

/// The number of the packet that tells that all before it have been dealt with.
const LAST: u16 = 39_999;

/// Packets on the wire before what comes back is read.
const BATCH: usize = 64;

/// How long a packet may take that is expected to come back, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    tap: Tap,
    addresses: Vec<IpAddr>,
    settings: Settings,
    plan: Option<Plan>,
    services: Vec<Service>,
    /// What stands in for the node's Envoy: connections that are handed to it are answered.
    _listener: Option<TcpListener>,
    pub(super) records: Records,
}

/// A first packet that a node did not drop.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    pub(super) number: u16,
    /// Where it goes on to; `None` when the node answered it.
    pub(super) to: Option<IpAddr>,
    /// What came out of the node.
    pub(super) bytes: Vec<u8>,
}

impl Node {
    pub(super) fn create(
        label: &str,
        name: &str,
        addresses: &[IpAddr],
        settings: Settings,
    ) -> Result<Self, Error> {
        let tap = Tap::create(label, addresses).map_err(crate::lab::Error::from)?;
        let mark = format!("{DELIVER:#x}/{DELIVER:#x}");
        for family in ["-4", "-6"] {
            let everything = if family == "-4" { "0.0.0.0/0" } else { "::/0" };
            let rule = [
                family, "rule", "add", "pref", "100", "fwmark", &mark, "lookup", "15100",
            ];
            let route = [
                family, "route", "add", "local", everything, "dev", "lo", "table", "15100",
            ];
            run(&tap, name, "ip", &rule, "")?;
            run(&tap, name, "ip", &route, "")?;
        }
        let port = settings.proxy_port;
        let listening = tap
            .node()
            .run(|| port.map(listen).transpose())
            .map_err(crate::lab::Error::from)?;
        let listener = listening.map_err(|error| failed(name, &error.to_string()))?;
        let group = settings.nflog_group;
        let records = Records::start(tap.node(), settings.pod_cidrs.clone(), group)?;
        Ok(Self {
            name: name.to_owned(),
            tap,
            addresses: addresses.to_vec(),
            settings,
            plan: None,
            services: Vec::new(),
            _listener: listener,
            records,
        })
    }

    /// Brings the table from what it is to what the snapshot says, step by step as the agent does.
    pub(super) fn follow(
        &mut self,
        snapshot: Option<&Snapshot>,
        services: Vec<Service>,
    ) -> Result<(), Error> {
        if services != self.services {
            let rules = service_rules(&services, &self.addresses);
            self.run("nft", &["-f", "-"], &rules)?;
            self.services = services;
        }
        let plan = Plan::new(&self.settings, snapshot);
        let steps = match &self.plan {
            Some(known) => transition(known, &plan),
            None => replace(&self.existing()?, &plan),
        };
        self.take(&steps)?;
        self.plan = Some(plan);
        // The bytes have passed their check once.
        let again = snapshot.and_then(|snapshot| Snapshot::check(snapshot.bytes().to_vec()).ok());
        self.records.explain_by(again.map(Arc::new));
        Ok(())
    }

    /// As an agent that has just been started: it reads what is there and replaces it. What is not as
    /// it should be then.
    pub(super) fn restart(&mut self, snapshot: Option<&Snapshot>) -> Result<Vec<String>, Error> {
        let plan = Plan::new(&self.settings, snapshot);
        let steps = replace(&self.existing()?, &plan);
        self.take(&steps)?;
        let drift = self.existing()?.drift(&plan);
        self.plan = Some(plan);
        Ok(drift)
    }

    /// Removes the table, so that the next one is a new one and its log is quiet.
    pub(super) fn forget(&mut self) -> Result<(), Error> {
        if self.plan.take().is_some() {
            let table = format!("delete table inet {TABLE}\n");
            self.run("nft", &["-f", "-"], &table)?;
        }
        Ok(())
    }

    /// Forgets all connections: numbers are used again.
    pub(super) fn forget_connections(&self) -> Result<(), Error> {
        self.run("conntrack", &["-F"], "").map(drop)
    }

    /// Lets first packets come to the node, and tells which of them it did not drop. Waits for those that
    /// are `awaited`.
    pub(super) fn judge(
        &self,
        packets: &[(u16, Vec<u8>)],
        awaited: &BTreeSet<u16>,
    ) -> Result<Vec<Passed>, Error> {
        let error = |source: std::io::Error| failed(&self.name, &source.to_string());
        let mut passed = Vec::new();
        for batch in packets.chunks(BATCH) {
            for (_, packet) in batch {
                self.tap.send(packet).map_err(error)?;
            }
            self.tap.send(&last()?).map_err(error)?;
            let mut missing: BTreeSet<u16> = batch.iter().map(|(number, _)| *number).collect();
            let mut is_over = false;
            let started = Instant::now();
            while started.elapsed() < PATIENCE {
                let is_waiting = missing.iter().any(|number| awaited.contains(number));
                if is_over && !is_waiting {
                    break;
                }
                let Some(packet) = self.tap.receive(Duration::from_millis(20)).map_err(error)?
                else {
                    continue;
                };
                match read(&packet, |port| port >= LAST) {
                    Some(Sent::Forwarded { number: LAST, .. }) => is_over = true,
                    Some(Sent::Forwarded { number, to, .. }) if missing.remove(&number) => {
                        passed.push(Passed {
                            number,
                            to: Some(to),
                            bytes: packet,
                        });
                    }
                    Some(Sent::Answered { number }) if missing.remove(&number) => {
                        passed.push(Passed {
                            number,
                            to: None,
                            bytes: packet,
                        });
                    }
                    _ => {}
                }
            }
            if !is_over {
                return Err(failed(
                    &self.name,
                    "a packet that no rule concerns was lost",
                ));
            }
        }
        Ok(passed)
    }

    /// Sends a datagram or opens a connection from the node itself: where that goes and what came out of
    /// the wire, with the checksum that a real wire would have seen.
    pub(super) fn speak(&self, first: &First) -> Result<Option<(IpAddr, Vec<u8>)>, Error> {
        let error = |source: std::io::Error| failed(&self.name, &source.to_string());
        let spoken = self.tap.node().run(|| speak(first));
        spoken.map_err(crate::lab::Error::from)?.map_err(error)?;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let Some(packet) = self.tap.receive(Duration::from_millis(20)).map_err(error)? else {
                continue;
            };
            if let Some(Sent::Forwarded { to, port, .. }) =
                read(&packet, |port| port == first.number)
            {
                let translated = First {
                    destination: SocketAddr::new(to, port),
                    ..*first
                };
                return Ok(translated.encode().map(|bytes| (to, bytes)));
            }
        }
        Ok(None)
    }

    fn existing(&self) -> Result<Existing, Error> {
        let list = ["-j", "list", "table", "inet", TABLE];
        let mut command = self.tap.node().command("nft");
        let output = command.args(list).output();
        let output = output.map_err(|error| failed(&self.name, &error.to_string()))?;
        if !output.status.success() {
            return Ok(Existing::absent());
        }
        let listing = String::from_utf8_lossy(&output.stdout);
        Existing::parse(&listing).map_err(|error| failed(&self.name, &error.to_string()))
    }

    fn take(&self, steps: &[Step]) -> Result<(), Error> {
        for step in steps {
            self.run("nft", &["-f", "-"], &step.script)?;
        }
        Ok(())
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<(), Error> {
        run(&self.tap, &self.name, program, arguments, input)
    }
}

fn run(tap: &Tap, node: &str, program: &str, arguments: &[&str], input: &str) -> Result<(), Error> {
    let error = |source: std::io::Error| failed(node, &format!("{program}: {source}"));
    let mut command = tap.node().command(program);
    let command = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(error)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(error)?;
    }
    let output = child.wait_with_output().map_err(error)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        node,
        &format!("{program} {} says {said}\n{input}", arguments.join(" ")),
    ))
}

fn failed(node: &str, reason: &str) -> Error {
    Error::Kernel {
        node: node.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Between two addresses that are nobody's.
fn last() -> Result<Vec<u8>, Error> {
    let first = First {
        number: LAST,
        source: [192, 0, 2, 1].into(),
        destination: SocketAddr::from(([192, 0, 2, 2], 9)),
        protocol: 17,
    };
    first.encode().ok_or_else(|| failed("", "no packet"))
}

/// Listens where the node's Envoy would, for connections to any address.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_ip_transparent_v4(true)?;
    socket.set_ip_transparent_v6(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// One packet from a process of the node; nobody waits for an answer.
fn speak(first: &First) -> std::io::Result<()> {
    let domain = Domain::for_address(first.destination);
    let source = SocketAddr::new(first.source, first.number);
    let socket = match first.protocol {
        6 => Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?,
        17 => Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?,
        other => {
            let reason = format!("a node's processes speak TCP and UDP here, not {other}");
            return Err(std::io::Error::other(reason));
        }
    };
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&source.into())?;
    match socket.connect(&first.destination.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => {
            return Err(error);
        }
        _ => {}
    }
    if first.protocol == 17 {
        socket.send(b"who?")?;
    }
    Ok(())
}
