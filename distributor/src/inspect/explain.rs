//! `sidewall explain`: one connection, both directions, in words.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::str::FromStr;

use serde::Serialize;
use sidewall_policy::model;

use super::party::{Found, Party, PartyError};
use super::ports::Protocol;
use super::ruling::Ruling;
use super::world::{Source, World};
use super::{Error, Output, exit, paint, stdout, warn_of, write_json};

/// The arguments of `sidewall explain`. Ends with 0 if the connection is allowed, 1 if it is
/// denied, and 2 if there is no answer.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    source: Source,

    /// Who connects: NAMESPACE/POD or an IP address
    #[arg(long, value_name = "POD|IP")]
    from: Party,

    /// To whom: NAMESPACE/POD, NAMESPACE/SERVICE, service:NAMESPACE/SERVICE or an IP address
    #[arg(long, value_name = "POD|IP|SERVICE")]
    to: Party,

    /// The destination port: a number, or the name of a container port of the destination
    #[arg(long, value_name = "PORT")]
    port: PortArg,

    /// The protocol
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    protocol: Protocol,

    /// Ask the slow reference evaluator as well, which reads policies without compiling them, and
    /// end with 2 if the two disagree
    #[arg(long)]
    verify: bool,

    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PortArg {
    Number(u16),
    Name(String),
}

impl FromStr for PortArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        let is_name = text.len() <= 15 && text.bytes().any(|byte| byte.is_ascii_lowercase());
        is_name
            .then(|| Self::Name(text.to_owned()))
            .ok_or_else(|| "neither a port number up to 65535 nor a port name".to_owned())
    }
}

/// What is answered.
#[derive(Debug, Serialize)]
struct Answer {
    from: String,
    to: String,
    protocol: &'static str,
    port: u16,
    /// Whether every connection below is allowed, and there is one.
    allowed: bool,
    /// With `--verify`: the reference evaluator says the same of every connection.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    verified: bool,
    /// One for each way there: each address family, each backend of a Service.
    connections: Vec<Connection>,
}

/// One way from one address to another.
#[derive(Debug, Serialize)]
struct Connection {
    source: IpAddr,
    destination: IpAddr,
    /// The port that is judged: of a Service, the backend's.
    port: u16,
    /// The pod that is reached, if it is one.
    pod: Option<String>,
    #[serde(flatten)]
    ruling: Ruling,
}

impl ExplainArgs {
    /// Answers on standard output.
    ///
    /// # Errors
    /// When the manifests cannot be read, or who or what is asked for does not exist.
    pub fn run(self) -> Result<ExitCode, Error> {
        let Self {
            source,
            from,
            to,
            port,
            protocol,
            verify,
            output,
        } = self;
        let world = World::read(&source.manifests, source.reading)?;
        warn_of(&world.problems)?;
        let protocol = protocol.into();
        let mut answer = answer(&world, &from, &to, &port, protocol)?;
        if verify {
            for each in &answer.connections {
                world.verify(each.source, each.destination, protocol, each.port)?;
            }
            answer.verified = true;
        }
        let mut out = stdout();
        match output {
            Output::Json => write_json(&mut out, &answer)?,
            Output::Text => write_text(&mut out, &answer)?,
        }
        Ok(exit(!answer.allowed))
    }
}

fn answer(
    world: &World,
    from: &Party,
    to: &Party,
    port: &PortArg,
    protocol: model::Protocol,
) -> Result<Answer, Error> {
    let (source, target) = (from.find(world)?, to.find(world)?);
    if let Found::Service(service) = &source {
        return Err(PartyError::NoSource(service.id.to_string()).into());
    }
    let ways = ways(world, from, to, &source, &target, port, protocol)?;
    let connections: Vec<Connection> = ways
        .iter()
        .map(|(source, destination, port)| Connection {
            source: *source,
            destination: *destination,
            port: *port,
            pod: world.owner(*destination).map(|pod| pod.id.to_string()),
            ruling: world.judge(*source, *destination, protocol, *port),
        })
        .collect();
    if connections
        .iter()
        .any(|connection| connection.ruling.reason == Some("unknown-address"))
    {
        return Err(Error::NoPod {
            from: source.to_string(),
            to: target.to_string(),
        });
    }
    Ok(Answer {
        from: source.to_string(),
        to: target.to_string(),
        protocol: protocol.as_str(),
        port: number(&target, port, protocol)?,
        verified: false,
        allowed: !connections.is_empty() && connections.iter().all(|each| each.ruling.allowed),
        connections,
    })
}

/// Source, destination and port of every connection that may come of it.
fn ways(
    world: &World,
    from: &Party,
    to: &Party,
    source: &Found<'_>,
    target: &Found<'_>,
    port: &PortArg,
    protocol: model::Protocol,
) -> Result<Vec<(IpAddr, IpAddr, u16)>, Error> {
    let number = number(target, port, protocol)?;
    // Who was asked for by address is asked for in that family only.
    let fixed = |party: &Party| match party {
        Party::Address(ip) => Some(*ip),
        Party::Named(_) | Party::Service(_) => None,
    };
    let sources = match fixed(from) {
        Some(ip) => vec![ip],
        None => source.addresses(world)?,
    };
    let ends: Vec<(IpAddr, u16)> = match target {
        Found::Service(service) => service
            .ports
            .iter()
            .filter(|each| each.protocol == protocol && each.port == number)
            .flat_map(|each| {
                each.backends
                    .iter()
                    .map(|backend| (backend.ip, backend.port))
            })
            .filter(|(ip, _)| fixed(to).is_none_or(|asked| asked.is_ipv4() == ip.is_ipv4()))
            .collect(),
        other => match fixed(to) {
            Some(ip) => vec![(ip, number)],
            None => other
                .addresses(world)?
                .into_iter()
                .map(|ip| (ip, number))
                .collect(),
        },
    };
    let ways: Vec<_> = sources
        .iter()
        .flat_map(|source| {
            ends.iter()
                .filter(|(ip, _)| ip.is_ipv4() == source.is_ipv4())
                .map(|(ip, port)| (*source, *ip, *port))
        })
        .collect();
    if ways.is_empty() && !ends.is_empty() {
        return Err(Error::Family {
            from: source.to_string(),
            to: target.to_string(),
        });
    }
    Ok(ways)
}

fn number(target: &Found<'_>, port: &PortArg, protocol: model::Protocol) -> Result<u16, Error> {
    let name = match port {
        PortArg::Number(number) => return Ok(*number),
        PortArg::Name(name) => name,
    };
    let resolved = match target {
        Found::Pod(pod) => pod.resolve_port(name, protocol).next(),
        Found::Service(_) | Found::Address(_) => None,
    };
    resolved.ok_or_else(|| Error::Port {
        target: target.to_string(),
        protocol: protocol.as_str(),
        name: name.clone(),
    })
}

fn write_text(out: &mut impl Write, answer: &Answer) -> Result<(), Error> {
    let Answer {
        from,
        to,
        protocol,
        port,
        allowed,
        verified,
        connections,
    } = answer;
    let passing = connections
        .iter()
        .filter(|each| each.ruling.allowed)
        .count();
    let verdict = match (allowed, passing) {
        (true, _) => paint::good("allowed").to_string(),
        (false, 0) => paint::bad("denied").to_string(),
        (false, _) => {
            let mixed = format!("mixed: {passing} of {} ways allowed", connections.len());
            paint::bad(mixed).to_string()
        }
    };
    writeln!(
        out,
        "{} → {} {protocol} {port}: {verdict}",
        paint::strong(from),
        paint::strong(to)
    )?;
    if connections.is_empty() {
        writeln!(
            out,
            "  the Service has no such port, or nobody is behind it"
        )?;
    }
    let mut told: Vec<&Ruling> = Vec::new();
    for connection in connections {
        // Families mostly agree: what was said once need not be said again.
        let known = connections.len() > 1 && told.contains(&&connection.ruling);
        let Connection {
            source,
            destination,
            port,
            pod,
            ruling,
        } = connection;
        if connections.len() > 1 {
            let pod = pod.as_deref().filter(|pod| pod != to).unwrap_or_default();
            let same = if known { "as above" } else { "" };
            let way = format!("{source} → {destination} port {port} {pod} {same}");
            writeln!(out, "\n  {}", paint::faint(way.trim_end()))?;
        } else {
            writeln!(out)?;
        }
        if !known {
            write_ruling(out, ruling)?;
            told.push(ruling);
        }
    }
    if *verified {
        let words = "the reference evaluator says the same";
        writeln!(out, "\n  {}", paint::faint(words))?;
    }
    Ok(())
}

fn write_ruling(out: &mut impl Write, ruling: &Ruling) -> Result<(), Error> {
    if let Some(reason) = ruling.reason {
        let words = match reason {
            "self" => "a pod always reaches itself",
            "loopback" => "loopback never leaves the pod",
            other => other,
        };
        writeln!(out, "  {words}")?;
    }
    let width = ruling
        .sides()
        .map(|(_, side)| side.pod.len())
        .max()
        .unwrap_or_default();
    for (direction, side) in ruling.sides() {
        let verdict = format!("{:<10}", side.verdict);
        let verdict = match side.verdict {
            "allow" => paint::good(verdict).to_string(),
            "deny" => paint::bad(verdict).to_string(),
            _ => paint::warning(verdict).to_string(),
        };
        let (direction, pod) = (direction.as_str(), &side.pod);
        writeln!(
            out,
            "  {direction:<8}{pod:<width$}  {verdict}  {}",
            side.in_words()
        )?;
    }
    Ok(())
}
