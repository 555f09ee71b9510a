//! Every client to everything that can be dialled, and what came of it.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sidewall_host_tests::lab::Lab;
use sidewall_host_tests::net::Netns;
use sidewall_host_tests::probe::parallel;

use super::scene::{
    BLOCKED, CLOSED, DEAD, METADATA, OPEN, PODS, SERVICES, SERVING, balancer_ip, cluster_ip,
    external_ip, node_address, node_port, pod_address,
};

/// What became of each way, in words.
pub type Outcomes = BTreeMap<String, String>;

/// An ICMP error that arrives while connect() still has the socket is forgotten; that of the second SYN, a second
/// later, counts.
const PATIENCE: Duration = Duration::from_millis(2200);

/// How many ways are tried at the same time.
const WIDTH: usize = 48;

/// How often the matrix repeats a probe that had no answer: a lost packet is no difference.
const TRIES: usize = 2;

struct Way {
    name: String,
    from: Netns,
    to: SocketAddr,
    is_tcp: bool,
}

/// Tries them all.
pub fn run(lab: &Lab) -> Result<Outcomes> {
    let mut ways = Vec::new();
    let pods = PODS.iter().map(|(name, ..)| format!("default/{name}"));
    let nodes = ["node:node-1", "node:node-2"].map(str::to_owned);
    let outside = SERVING.map(|address| format!("external:{address}"));
    for client in pods.chain(nodes).chain(outside) {
        let from = lab.netns(&client)?;
        for (what, address, port) in targets(&client)? {
            let to = SocketAddr::new(address, port);
            // The hosts outside have one family each.
            if client.starts_with("external:")
                && (client.matches(':').count() > 1) == address.is_ipv4()
            {
                continue;
            }
            for is_tcp in [true, false] {
                let protocol = if is_tcp { "TCP" } else { "UDP" };
                ways.push(Way {
                    name: format!("{client} to {what} {to} {protocol}"),
                    from: from.clone(),
                    to,
                    is_tcp,
                });
            }
        }
    }
    let outcomes = parallel(&ways, WIDTH, |way| {
        let mut outcome = way.outcome();
        for _ in 1..TRIES {
            if !outcome.as_ref().is_ok_and(|outcome| outcome == "timed out") {
                break;
            }
            outcome = way.outcome();
        }
        Ok::<_, anyhow::Error>((way.name.clone(), outcome?))
    });
    outcomes.into_iter().collect()
}

/// What a client dials.
fn targets(client: &str) -> Result<Vec<(String, IpAddr, u16)>> {
    let mut targets = Vec::new();
    let mut add = |what: String, addresses: &[String], port: u16| -> Result<()> {
        for address in addresses {
            targets.push((what.clone(), address.parse().context("an address")?, port));
        }
        Ok(())
    };
    let texts = |addresses: [&str; 2]| addresses.map(str::to_owned);
    for (name, node, host) in PODS {
        add(format!("pod {name}"), &pod_address(node, host), OPEN)?;
        add(
            format!("closed port of {name}"),
            &pod_address(node, host),
            CLOSED,
        )?;
    }
    for (number, (name, ..)) in SERVICES.into_iter().enumerate() {
        add(format!("Service {name}"), &cluster_ip(number), 80)?;
        add(
            format!("no port of Service {name}"),
            &cluster_ip(number),
            81,
        )?;
        for node in [1, 2] {
            let port = node_port(number);
            add(format!("NodePort {name}"), &node_address(node), port)?;
        }
        // From outside no route leads to them.
        if !client.starts_with("external:") {
            add(format!("external IP of {name}"), &external_ip(number), 80)?;
            add(format!("load balancer of {name}"), &balancer_ip(number), 80)?;
        }
    }
    for node in [1, 2] {
        add(format!("node-{node}"), &node_address(node), OPEN)?;
        add(
            format!("closed port of node-{node}"),
            &node_address(node),
            CLOSED,
        )?;
    }
    if client.starts_with("node:") {
        let port = node_port(0);
        add(
            "localhost NodePort".to_owned(),
            &["127.0.0.1".to_owned()],
            port,
        )?;
    }
    if !client.starts_with("external:") {
        add("outside".to_owned(), &texts(SERVING), OPEN)?;
        add("closed port outside".to_owned(), &texts(SERVING), CLOSED)?;
        add("a dead host outside".to_owned(), &texts(DEAD), OPEN)?;
        add(
            "the metadata service".to_owned(),
            &[METADATA.to_owned()],
            OPEN,
        )?;
        add("the blocked host".to_owned(), &[BLOCKED.to_owned()], OPEN)?;
    }
    Ok(targets)
}

impl Way {
    fn outcome(&self) -> Result<String> {
        let answer = self.from.run(|| {
            if self.is_tcp {
                self.connect()
            } else {
                self.send()
            }
        })?;
        Ok(answer.map_or_else(
            |error| describe(&error),
            |text| format!("answered by {text}"),
        ))
    }

    fn connect(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if text.is_empty() {
            return Err(io::Error::other("closed without an answer"));
        }
        Ok(text)
    }

    fn send(&self) -> io::Result<String> {
        let any = if self.to.is_ipv4() { "0.0.0.0" } else { "::" };
        let any: IpAddr = any.parse().map_err(io::Error::other)?;
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(self.to)?;
        socket.send(b"who?")?;
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

/// One word for one thing.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timed out".to_owned(),
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "unreachable".to_owned()
        }
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        _ => error.to_string(),
    }
}
