//! The rules as text, and the steps against a machine that only pretends.

use std::collections::BTreeSet;
use std::io;

use super::family::Family;
use super::host::{Host, Invocation, Outcome};
use super::{Error, Layout, remove, rules, set_up};

/// A machine that knows which jumps there are and remembers what it was told.
#[derive(Default)]
struct Machine {
    /// Jumps, as `iptables PREROUTING`.
    jumps: Vec<String>,
    /// Command lines, in order.
    ran: Vec<String>,
    /// Command lines that contain one of these fail.
    broken: BTreeSet<&'static str>,
    /// Programs that are not installed.
    missing: BTreeSet<&'static str>,
    /// `if_inet6`; none is a kernel without IPv6.
    addresses: Option<&'static str>,
    /// `disable_ipv6` of the loopback interface.
    switched_off: bool,
}

impl Machine {
    fn dual_stack() -> Self {
        Self {
            addresses: Some("00000000000000000000000000000001 01 80 10 80       lo\n"),
            ..Self::default()
        }
    }

    fn ran(&self, line: &str) -> bool {
        self.ran.iter().any(|ran| ran == line)
    }
}

impl Host for Machine {
    fn run(&mut self, invocation: &Invocation) -> io::Result<Outcome> {
        let line = invocation.to_string();
        self.ran.push(line.clone());
        if self.missing.contains(invocation.program) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.broken.iter().any(|broken| line.contains(broken)) {
            return Ok(Outcome {
                code: Some(4),
                stderr: "Permission denied (you must be root)".to_owned(),
            });
        }
        let mut code = 0;
        if let [_, _, _, action, chain, ..] = *invocation.arguments.as_slice() {
            let jump = format!("{} {chain}", invocation.program);
            let position = self.jumps.iter().position(|there| *there == jump);
            match (action, position) {
                ("-C", None) => code = 1,
                ("-A", _) => self.jumps.push(jump),
                ("-D", Some(position)) => drop(self.jumps.remove(position)),
                _ => {}
            }
        }
        Ok(Outcome {
            code: Some(code),
            stderr: String::new(),
        })
    }

    fn read(&self, path: &str) -> io::Result<String> {
        match self.addresses {
            Some(addresses) if path.ends_with("if_inet6") => Ok(addresses.to_owned()),
            Some(_) => Ok(if self.switched_off { "1\n" } else { "0\n" }.to_owned()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

const ALL_JUMPS: [&str; 4] = [
    "iptables PREROUTING",
    "iptables OUTPUT",
    "ip6tables PREROUTING",
    "ip6tables OUTPUT",
];

#[test]
fn ipv4_as_istio_lays_it_out() {
    assert_eq!(
        rules::chains(&Layout::default(), Family::V4, true),
        "\
*nat
:SIDEWALL_REDIRECT - [0:0]
:SIDEWALL_IN_REDIRECT - [0:0]
:SIDEWALL_INBOUND - [0:0]
:SIDEWALL_OUTPUT - [0:0]
-A SIDEWALL_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A SIDEWALL_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A SIDEWALL_INBOUND -p tcp -j SIDEWALL_IN_REDIRECT
-A SIDEWALL_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A SIDEWALL_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1337 -j SIDEWALL_IN_REDIRECT
-A SIDEWALL_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A SIDEWALL_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A SIDEWALL_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A SIDEWALL_OUTPUT -d 127.0.0.1/32 -j RETURN
-A SIDEWALL_OUTPUT -j SIDEWALL_REDIRECT
COMMIT
"
    );
}

#[test]
fn ipv6_with_every_option() {
    let port = |port| std::num::NonZeroU16::new(port).expect("not zero");
    let layout = Layout {
        proxy_uid: 2000,
        proxy_gid: 3000,
        inbound_port: port(6),
        outbound_port: port(1),
        exclude_inbound_ports: vec![port(22), port(9090)],
        exclude_outbound_ports: vec![port(443)],
    };
    assert_eq!(
        rules::chains(&layout, Family::V6, true),
        "\
*nat
:SIDEWALL_REDIRECT - [0:0]
:SIDEWALL_IN_REDIRECT - [0:0]
:SIDEWALL_INBOUND - [0:0]
:SIDEWALL_OUTPUT - [0:0]
-A SIDEWALL_REDIRECT -p tcp -j REDIRECT --to-ports 1
-A SIDEWALL_IN_REDIRECT -p tcp -j REDIRECT --to-ports 6
-A SIDEWALL_INBOUND -p tcp --dport 22 -j RETURN
-A SIDEWALL_INBOUND -p tcp --dport 9090 -j RETURN
-A SIDEWALL_INBOUND -p tcp -j SIDEWALL_IN_REDIRECT
-A SIDEWALL_OUTPUT -s ::6/128 -o lo -j RETURN
-A SIDEWALL_OUTPUT ! -d ::1/128 -o lo -p tcp -m owner --uid-owner 2000 -j SIDEWALL_IN_REDIRECT
-A SIDEWALL_OUTPUT -o lo -m owner ! --uid-owner 2000 -j RETURN
-A SIDEWALL_OUTPUT -m owner --uid-owner 2000 -j RETURN
-A SIDEWALL_OUTPUT -m owner --gid-owner 3000 -j RETURN
-A SIDEWALL_OUTPUT -d ::1/128 -j RETURN
-A SIDEWALL_OUTPUT -p tcp --dport 443 -j RETURN
-A SIDEWALL_OUTPUT -j SIDEWALL_REDIRECT
COMMIT
"
    );
}

#[test]
fn without_a_passthrough_address_nothing_leads_envoy_back_to_itself() {
    let text = rules::chains(&Layout::default(), Family::V6, false);
    assert!(!text.contains("-A SIDEWALL_OUTPUT -s ::6"), "{text}");
    assert!(
        !text.contains("--uid-owner 1337 -j SIDEWALL_IN_REDIRECT"),
        "{text}"
    );
}

#[test]
fn the_passthrough_address_comes_before_the_rules_that_count_on_it() {
    let mut machine = Machine::dual_stack();
    set_up::set_up(&mut machine, &Layout::default()).expect("set up");
    let position = |line: &str| machine.ran.iter().position(|ran| ran == line).expect(line);
    let passthrough = position("ip -6 addr replace ::6/128 dev lo nodad");
    assert!(passthrough < position("ip6tables-restore --wait --noflush"));
    assert_eq!(machine.jumps, ALL_JUMPS);
}

#[test]
fn twice_is_as_good_as_once() {
    let mut machine = Machine::dual_stack();
    for _ in 0..2 {
        set_up::set_up(&mut machine, &Layout::default()).expect("set up");
        assert_eq!(machine.jumps, ALL_JUMPS);
    }
}

#[test]
fn a_kernel_without_ipv6_is_left_alone_in_it() {
    let mut machine = Machine::default();
    set_up::set_up(&mut machine, &Layout::default()).expect("set up");
    assert_eq!(machine.jumps, ALL_JUMPS[..2]);
    assert!(
        !machine
            .ran
            .iter()
            .any(|line| line.starts_with("ip6tables") || line.starts_with("ip "))
    );
}

#[test]
fn ipv6_that_is_off_on_loopback_is_redirected_all_the_same() {
    let mut machine = Machine {
        switched_off: true,
        ..Machine::dual_stack()
    };
    set_up::set_up(&mut machine, &Layout::default()).expect("set up");
    assert_eq!(machine.jumps, ALL_JUMPS);
    assert!(!machine.ran("ip -6 addr replace ::6/128 dev lo nodad"));
}

#[test]
fn a_refusal_names_the_command_and_what_it_needs() {
    let mut machine = Machine {
        broken: ["ip6tables-restore"].into(),
        ..Machine::dual_stack()
    };
    let error = set_up::set_up(&mut machine, &Layout::default())
        .expect_err("must fail")
        .to_string();
    assert!(
        error.contains(
            "`ip6tables-restore --wait --noflush` failed (exit code 4): Permission denied"
        ) && error.contains("NET_ADMIN"),
        "{error}"
    );
    // Nothing may lead to chains that could not be filled.
    assert_eq!(machine.jumps, ALL_JUMPS[..2]);
}

#[test]
fn a_check_that_cannot_be_made_is_no_missing_jump() {
    let mut machine = Machine {
        broken: ["-C OUTPUT"].into(),
        ..Machine::dual_stack()
    };
    let error = set_up::set_up(&mut machine, &Layout::default())
        .expect_err("must fail")
        .to_string();
    assert!(error.contains("-C OUTPUT"), "{error}");
}

#[test]
fn a_missing_program_names_its_package() {
    for (program, package) in [("ip", "iproute2"), ("iptables-restore", "iptables")] {
        let mut machine = Machine {
            missing: [program].into(),
            ..Machine::dual_stack()
        };
        let error = set_up::set_up(&mut machine, &Layout::default())
            .expect_err("must fail")
            .to_string();
        assert!(
            error.contains(&format!("cannot run `{program} ")) && error.contains(package),
            "{error}"
        );
    }
}

#[test]
fn one_port_for_both_directions_is_refused_before_anything_is_run() {
    let layout = Layout {
        outbound_port: Layout::default().inbound_port,
        ..Layout::default()
    };
    let mut machine = Machine::dual_stack();
    assert!(matches!(
        set_up::set_up(&mut machine, &layout),
        Err(Error::SamePort(_))
    ));
    assert!(machine.ran.is_empty());
}

#[test]
fn removing_takes_away_what_was_set_up() {
    let mut machine = Machine::dual_stack();
    set_up::set_up(&mut machine, &Layout::default()).expect("set up");
    machine.addresses = Some("00000000000000000000000000000006 01 80 00 80       lo\n");
    machine.jumps.push("iptables OUTPUT".to_owned());
    remove::remove(&mut machine).expect("removed");
    assert!(machine.jumps.is_empty(), "{:?}", machine.jumps);
    assert!(machine.ran("ip -6 addr del ::6/128 dev lo"));
}

#[test]
fn removing_nothing_is_fine() {
    let mut machine = Machine::dual_stack();
    remove::remove(&mut machine).expect("nothing to remove");
    assert!(!machine.ran("ip -6 addr del ::6/128 dev lo"));
}

#[test]
fn removing_goes_on_after_a_failure_and_reports_each() {
    let mut machine = Machine::dual_stack();
    set_up::set_up(&mut machine, &Layout::default()).expect("set up");
    machine.addresses = Some("00000000000000000000000000000006 01 80 00 80       lo\n");
    machine.broken = ["-D PREROUTING", "addr del"].into();
    let error = remove::remove(&mut machine).expect_err("must fail");
    let text = error.to_string();
    let Error::Cleanup(errors) = error else {
        panic!("{text}")
    };
    // Both families' jumps and the address.
    assert_eq!(errors.len(), 3, "{text}");
    assert!(
        text.contains("`ip6tables --wait -t nat -D PREROUTING") && text.contains("addr del ::6"),
        "{text}"
    );
    assert_eq!(
        machine.jumps,
        ["iptables PREROUTING", "ip6tables PREROUTING"]
    );
}

#[test]
fn a_family_that_cannot_be_emptied_does_not_keep_the_other() {
    let mut machine = Machine::dual_stack();
    set_up::set_up(&mut machine, &Layout::default()).expect("set up");
    machine.missing = ["iptables-restore"].into();
    let text = remove::remove(&mut machine)
        .expect_err("must fail")
        .to_string();
    assert!(text.contains("cannot run `iptables-restore"), "{text}");
    assert_eq!(machine.jumps, ALL_JUMPS[..2]);
}
