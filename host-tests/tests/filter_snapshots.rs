//! Snapshots that are damaged, foreign or too large: refused, or read exactly as the engine reads
//! them natively. Never a trap, and what was in force stays in force.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test itself does"
)]

#[path = "../../policy/tests/support/verdicts.rs"]
mod verdicts;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use sidewall_host_tests::wasm_host::scene::{anyone, block, shop, tcp};
use sidewall_host_tests::wasm_host::{Connection, Level, LoadError, Plugin, Process, Stage};
use sidewall_policy::eval::{Flow, Verdict};
use sidewall_policy::model::Ports;
use sidewall_policy::snapshot::{MAGIC, MAX_LENGTH, READABLE, Snapshot};
use xxhash_rust::xxh3::xxh3_64;

const SUBJECTS: [&str; 3] = ["shop/db", "shop/web", "shop/batch"];

/// Where the header keeps version, flags and hash.
const VERSION: usize = 8;
const FLAGS: usize = 10;
const HASH: std::ops::Range<usize> = 16..24;

/// Flows whose verdicts tell snapshots apart: allowed and denied ones of every kind.
const FLOWS: [(&str, &str); 9] = [
    ("10.1.0.20:40000", "10.1.0.10:5432"),
    ("10.1.0.30:40000", "10.1.0.10:5432"),
    ("[fd01::20]:40000", "[fd01::10]:5432"),
    ("192.168.1.1:40000", "10.1.0.10:5440"),
    ("192.168.9.1:40000", "10.1.0.10:5440"),
    ("10.1.0.10:40000", "10.3.0.7:443"),
    ("10.1.0.10:40000", "10.96.0.5:5432"),
    ("10.0.0.1:40000", "10.1.0.10:80"),
    ("10.1.0.20:40000", "10.1.0.30:80"),
];

fn golden() -> Vec<u8> {
    shop().snapshot(&SUBJECTS)
}

fn serving(snapshot: Vec<u8>) -> Process {
    let mut envoy = Process::new(1).unwrap();
    envoy.load(Plugin::gate()).unwrap();
    envoy.load(Plugin::carrier(snapshot)).unwrap();
    envoy
}

fn verdicts(envoy: &mut Process) -> Vec<bool> {
    let mut open = |(source, destination): (&str, &str)| {
        let stream = envoy.connect(0, Connection::new(source, destination));
        let open = envoy.is_open(stream);
        envoy.finish(stream);
        open
    };
    FLOWS.into_iter().map(&mut open).collect()
}

fn native_verdicts(snapshot: &Snapshot) -> Vec<bool> {
    let allows = |(source, destination): (&str, &str)| {
        let [source, destination] = [source, destination].map(|a| a.parse::<SocketAddr>().unwrap());
        let flow = Flow {
            source: source.ip(),
            destination: destination.ip(),
            protocol: 6,
            port: destination.port(),
        };
        snapshot.judge(&flow).verdict == Verdict::Allow
    };
    FLOWS.into_iter().map(allows).collect()
}

/// The refusal in the log; fails if the snapshot was accepted or killed a VM.
fn refusal(envoy: &mut Process, snapshot: Vec<u8>) -> String {
    envoy.forget();
    let error = envoy.load(Plugin::carrier(snapshot)).unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Refused {
                stage: Stage::Canary,
                ..
            }
        ),
        "{error}"
    );
    let mut logs = envoy.logs();
    let log = logs.pop().unwrap();
    assert_eq!((logs.len(), log.level), (0, Level::Error), "{log:?}");
    log.message
}

/// Makes the hash right again, as an attacker or a broken compiler would.
fn sealed(mut snapshot: Vec<u8>) -> Vec<u8> {
    let content = [&snapshot[..HASH.start], &snapshot[HASH.end..]].concat();
    snapshot[HASH].copy_from_slice(&xxh3_64(&content).to_le_bytes());
    snapshot
}

fn flipped(snapshot: &[u8], at: usize, mask: u8) -> Vec<u8> {
    let mut flipped = snapshot.to_vec();
    flipped[at] ^= mask;
    flipped
}

/// What the distributor of a neighbouring release sends: every format that is read, as it was meant.
#[test]
fn every_format_that_is_read_is_judged_by_as_it_was_meant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/golden");
    for version in READABLE {
        for name in ["snapshot", "node.snapshot"] {
            let path = folder.join(format!("v{version}.{name}"));
            let mut envoy = serving(fs::read(&path).unwrap());
            let verdicts = fs::read_to_string(path.with_extension("verdicts")).unwrap();
            let flows = verdicts::read(&verdicts);
            // A filter sees TCP alone.
            for (flow, allowed) in flows.into_iter().filter(|(flow, _)| flow.protocol == 6) {
                let source = SocketAddr::new(flow.source, 40_000).to_string();
                let destination = SocketAddr::new(flow.destination, flow.port).to_string();
                let stream = envoy.connect(0, Connection::new(&source, &destination));
                assert_eq!(
                    envoy.is_open(stream),
                    allowed,
                    "{}: {flow:?}",
                    path.display()
                );
                envoy.finish(stream);
            }
        }
    }
}

#[test]
fn every_truncation_is_refused_and_the_old_one_stays() {
    let golden = golden();
    let mut envoy = serving(golden.clone());
    let before = verdicts(&mut envoy);
    assert!(before.contains(&true) && before.contains(&false));
    for length in 0..golden.len() {
        refusal(&mut envoy, golden[..length].to_vec());
    }
    assert_eq!(verdicts(&mut envoy), before);
    assert_eq!(envoy.shared("sidewall.snapshot"), Some(golden));
}

#[test]
fn every_flipped_byte_is_refused_and_the_old_one_stays() {
    let golden = golden();
    let mut envoy = serving(golden.clone());
    let before = verdicts(&mut envoy);
    for at in 0..golden.len() {
        let mask = 1 << (at % 8);
        refusal(&mut envoy, flipped(&golden, at, mask));
        refusal(&mut envoy, flipped(&golden, at, 0xff));
    }
    assert_eq!(verdicts(&mut envoy), before);
    assert_eq!(envoy.shared("sidewall.snapshot"), Some(golden));
}

/// With a right hash, some flips are legal snapshots (of other addresses, ports or names). The wasm
/// build, with its 32-bit sizes, must accept the same ones as the native build and read them alike.
#[test]
fn every_flipped_byte_under_a_right_hash_is_read_as_natively() {
    let golden = golden();
    assert_eq!(sealed(golden.clone()), golden, "the hash is where we look");
    let mut envoy = serving(golden.clone());
    let (mut accepted, mut refused) = (0, 0);
    for at in (0..golden.len()).filter(|at| !HASH.contains(at)) {
        for mask in [1 << (at % 8), 0xff] {
            let snapshot = sealed(flipped(&golden, at, mask));
            match Snapshot::check(snapshot.clone()) {
                Ok(native) => {
                    envoy.load(Plugin::carrier(snapshot)).unwrap();
                    let native = native_verdicts(&native);
                    assert_eq!(verdicts(&mut envoy), native, "byte {at} ^ {mask:#04x}");
                    accepted += 1;
                }
                Err(reason) => {
                    let log = refusal(&mut envoy, snapshot);
                    let is_magic = at < MAGIC.len();
                    assert!(
                        is_magic || log.contains(&reason.to_string()),
                        "byte {at} ^ {mask:#04x}: {log}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} and {refused}");
}

#[test]
fn another_version_is_refused_by_name() {
    let mut envoy = serving(golden());
    let before = verdicts(&mut envoy);
    for version in [0_u16, 2, 3, 255, u16::MAX] {
        let mut snapshot = golden();
        snapshot[VERSION..FLAGS].copy_from_slice(&version.to_le_bytes());
        let log = refusal(&mut envoy, sealed(snapshot));
        let expected = format!("format version {version} is not one that is read here");
        assert!(log.contains(&expected), "{log}");
        assert!(log.contains("stays in force"), "{log}");
    }
    assert_eq!(verdicts(&mut envoy), before);
}

#[test]
fn an_unknown_flag_is_refused() {
    let mut envoy = serving(golden());
    let mut snapshot = golden();
    snapshot[FLAGS + 1] |= 0x80;
    let log = refusal(&mut envoy, sealed(snapshot));
    assert!(log.contains("unknown flags"), "{log}");
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let mut envoy = serving(golden());
    let mut snapshot = golden();
    snapshot.push(0);
    let arrived = format!("but {} arrived", snapshot.len());
    let log = refusal(&mut envoy, sealed(snapshot));
    assert!(log.contains(&arrived), "{log}");
}

#[test]
fn the_refusals_are_counted_and_nothing_is_applied() {
    let mut envoy = serving(golden());
    let applied = "sidewall_snapshots_total.result.applied";
    let before = envoy.metric(applied);
    refusal(&mut envoy, golden()[..100].to_vec());
    refusal(&mut envoy, flipped(&golden(), 300, 1));
    assert_eq!(envoy.metric(applied), before);
    let refused = "sidewall_snapshots_total.result.refused";
    assert_eq!(envoy.metric(refused), Some(2));
}

#[test]
fn a_snapshot_beyond_the_limit_is_refused_and_no_vm_dies_of_it() {
    let mut envoy = serving(golden());
    let before = verdicts(&mut envoy);
    let mut snapshot = golden();
    snapshot.resize(MAX_LENGTH + 1, 0);
    let log = refusal(&mut envoy, snapshot);
    assert!(log.contains(&MAX_LENGTH.to_string()), "{log}");
    assert_eq!(verdicts(&mut envoy), before);
}

#[test]
fn a_large_snapshot_is_read_as_natively() {
    let hosts = (0..30_000_u32).map(|host| {
        let address = std::net::Ipv4Addr::from(0xc0a8_0000 + host * 3);
        block(&format!("{address}/32"), &[], tcp(5432, 5440))
    });
    let rules = hosts.chain([block("10.96.0.0/12", &[], Ports::Any)]);
    let scene = shop().policy("shop/db", "db", Some(rules.collect()), None);
    let snapshot = scene.snapshot(&SUBJECTS);
    let mut envoy = serving(snapshot.clone());
    let native = native_verdicts(&Snapshot::check(snapshot).unwrap());
    assert_eq!(verdicts(&mut envoy), native);
    for (address, open) in [("192.168.0.3:1", true), ("192.168.0.4:1", false)] {
        let stream = envoy.connect(0, Connection::new(address, "10.1.0.10:5432"));
        assert_eq!(envoy.is_open(stream), open, "{address}");
    }
}

#[test]
fn a_snapshot_without_subjects_closes_all_but_loopback() {
    let mut envoy = serving(shop().snapshot(&[]));
    assert_eq!(verdicts(&mut envoy), [false; FLOWS.len()]);
    let open = shop().policy("shop/db", "db", Some(vec![anyone(Ports::Any)]), None);
    envoy
        .load(Plugin::carrier(open.snapshot(&SUBJECTS)))
        .unwrap();
    assert!(verdicts(&mut envoy)[..5].iter().all(|open| *open));
}
