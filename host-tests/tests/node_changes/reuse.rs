//! An address that another pod had (`semantics H6`): the rules of the one that is gone never apply.

use anyhow::Result;
use sidewall_host_tests::lab::{Expect, Lab, LabConfig, Plane, Probe};
use sidewall_host_tests::probe::Protocol;

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

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The pod runs.
    Runs(Pod),
    /// It has completed and is not deleted yet: its address is free.
    Completes(Pod),
    /// Its object is deleted.
    Goes(Pod),
}

use Event::{Completes, Goes, Runs};

fn happen(lab: &Lab, event: Event) -> Result<()> {
    let file = |pod: Pod| format!("{}.yaml", pod.name);
    match event {
        Runs(pod) => lab.apply(&file(pod), &pod.manifest())?,
        Completes(pod) => {
            let completed = pod.manifest().replace("phase: Running", "phase: Succeeded");
            lab.apply(&file(pod), &completed)?
        }
        Goes(pod) => lab.unapply(&file(pod))?,
    };
    Ok(())
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

pub fn in_all_orders() -> Result<()> {
    let lab = Lab::start(
        LabConfig::default()
            .plane(Plane::Both)
            .manifest("cluster.yaml", cluster([SERVER.manifest()]))
            .manifest("policies.yaml", policies(&POLICIES)),
    )?;
    for (old, new) in [(FRIEND, STRANGER), (STRANGER, FRIEND)] {
        for order in [
            &[Completes(old), Runs(new), Goes(old)][..],
            &[Completes(old), Goes(old), Runs(new)],
            &[Goes(old), Runs(new)],
        ] {
            happen(&lab, Runs(old))?;
            judged(&lab, old, &format!("{} before {order:?}", old.name))?;
            let mut is_new = false;
            for event in order {
                happen(&lab, *event)?;
                is_new |= matches!(event, Runs(_));
                if is_new {
                    judged(&lab, new, &format!("{} after {event:?}", new.name))?;
                }
            }
            happen(&lab, Goes(new))?;
        }
    }
    Ok(())
}
