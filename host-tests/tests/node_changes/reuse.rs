//! An address that another pod had (`semantics H6`, `H7`): the rules of the one that is gone never
//! apply, in whichever order one hears of the two.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Result, ensure};
use sidewall_host_tests::lab::{Expect, Lab, LabConfig, Plane, Probe, Redirect};
use sidewall_host_tests::probe::Protocol;

use super::traffic::{MOMENT, PATIENCE};
use super::world::{Path, Pod, cluster, hold_to, policies};

const SERVER: Pod = Pod {
    name: "server",
    role: "server",
    node: 1,
    host: 11,
    path: Path::Kernel,
};

/// Both have this address. `server` takes `friend`, and nobody may come to `friend`.
const FRIEND: Pod = Pod {
    name: "friend",
    role: "friend",
    node: 2,
    host: 50,
    path: Path::Kernel,
};

const STRANGER: Pod = Pod {
    name: "stranger",
    role: "stranger",
    ..FRIEND
};

const POLICIES: [(&str, &str); 2] = [
    (
        "server",
        "podSelector: {matchLabels: {role: server}}, ingress: [{from: [{podSelector: {matchLabels: {role: friend}}}]}]",
    ),
    (
        "friend",
        "podSelector: {matchLabels: {role: friend}}, policyTypes: [Ingress]",
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The pod that had the address.
    Old,
    /// The one that gets it, and is younger.
    New,
}

use Who::{New, Old};

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The pod has its address, and its containers do not run yet.
    Waits(Who),
    /// The pod runs.
    Runs(Who),
    /// It has completed and is not deleted yet: its address is free.
    Completes(Who),
    /// Its object is deleted.
    Goes(Who),
}

use Event::{Completes, Goes, Runs, Waits};

/// What is heard of the two after the old one ran, and from which event on the address is the new
/// one's.
const ORDERS: [(&[Event], usize); 7] = [
    (&[Completes(Old), Runs(New), Goes(Old)], 1),
    (&[Completes(Old), Goes(Old), Runs(New)], 2),
    (&[Goes(Old), Runs(New)], 1),
    (&[Runs(New), Completes(Old), Goes(Old)], 0),
    (&[Runs(New), Goes(Old)], 0),
    (&[Waits(New), Completes(Old), Runs(New), Goes(Old)], 1),
    (&[Waits(New), Goes(Old), Runs(New)], 1),
];

/// The two who have the address in turn.
#[derive(Clone, Copy)]
struct Pair {
    old: Pod,
    new: Pod,
}

impl Pair {
    fn pod(self, who: Who) -> Pod {
        match who {
            Old => self.old,
            New => self.new,
        }
    }

    fn happen(self, lab: &Lab, event: Event) -> Result<()> {
        let (who, phase) = match event {
            Waits(who) => (who, "Pending"),
            Runs(who) => (who, "Running"),
            Completes(who) => (who, "Succeeded"),
            Goes(who) => {
                lab.unapply(&format!("{}.yaml", self.pod(who).name))?;
                return Ok(());
            }
        };
        let pod = self.pod(who);
        let second = if who == Old { 1 } else { 2 };
        let manifest = pod
            .manifest()
            .replace("phase: Running", &format!("phase: {phase}"))
            .replace(
                "metadata: {",
                &format!("metadata: {{creationTimestamp: '2024-01-01T00:00:0{second}Z', "),
            );
        lab.apply(&format!("{}.yaml", pod.name), &manifest)?;
        Ok(())
    }
}

/// Who is there is judged by its own labels, in both directions.
fn judged(lab: &Lab, pod: Pod, when: &str) -> Result<()> {
    let is_friend = pod.role == "friend";
    let expect = |allowed| if allowed { Expect::Allow } else { Expect::Deny };
    let mut probes = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let to_server = Probe::new(&pod.id(), "default/server", 80)?.by(protocol);
        probes.push(to_server.expect(expect(is_friend)));
        let from_server = Probe::new("default/server", &pod.id(), 80)?.by(protocol);
        probes.push(from_server.expect(expect(!is_friend)));
    }
    hold_to(lab, &probes, when)?;
    Ok(())
}

/// From which port the old pod and the new one ask the server: to the kernel that is one flow, and
/// lives on until it is ended.
const PORT: u16 = 40_000;

/// Whether the server answers what this pod sends from [`PORT`], over each family.
fn asks_from_one_port(lab: &Lab, pod: Pod) -> Result<Vec<bool>> {
    let netns = lab.netns(&pod.id())?;
    let own = lab.addresses(&pod.id())?;
    let servers = lab.addresses(&SERVER.id())?;
    own.into_iter()
        .zip(servers)
        .map(|(own, server)| {
            let socket = netns.run(|| UdpSocket::bind(SocketAddr::new(own, PORT)))??;
            socket.set_read_timeout(Some(MOMENT))?;
            socket.send_to(b"hello\n", SocketAddr::new(server, 80))?;
            Ok(socket.recv(&mut [0; 256]).is_ok())
        })
        .collect()
}

pub fn in_all_orders() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .redirect(Redirect::OnRequest)
            .manifest("cluster.yaml", cluster([SERVER.manifest()]))
            .manifest("policies.yaml", policies(&POLICIES)),
    )?;
    for (old, new) in [(FRIEND, STRANGER), (STRANGER, FRIEND)] {
        let pair = Pair { old, new };
        for (order, handover) in ORDERS {
            pair.happen(&lab, Runs(Old))?;
            judged(&lab, old, &format!("{} before {order:?}", old.name))?;
            asked(&lab, old, &format!("before {order:?}"))?;
            for (place, event) in order.iter().enumerate() {
                pair.happen(&lab, *event)?;
                let when = format!("after {event:?} of {order:?}");
                if place == handover {
                    asked(&lab, new, &when)?;
                }
                if place >= handover {
                    judged(&lab, new, &format!("{} {when}", new.name))?;
                } else if matches!(event, Waits(_)) {
                    judged(&lab, old, &format!("{} {when}", old.name))?;
                }
            }
            pair.happen(&lab, Goes(New))?;
        }
    }
    Ok(())
}

/// A flow that the one before had open is not the new one's: soon it is answered only if that is
/// allowed.
fn asked(lab: &Lab, pod: Pod, when: &str) -> Result<()> {
    let expected = [pod.role == "friend"; 2];
    let started = Instant::now();
    loop {
        let answered = asks_from_one_port(lab, pod)?;
        if answered == expected {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{} {when}, from a port that the one before used: answered {answered:?}",
            pod.name
        );
    }
}
