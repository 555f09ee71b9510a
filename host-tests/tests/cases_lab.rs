//! A few of the cases that no suite has, with real packets: sidecars and nodes together. `make conformance`
//! runs all of them, on every plane.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use sidewall_host_tests::cases::{self, Case, Runner, State, Tally};
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::{Plane, Redirect};

/// What depends most on who carries a connection, and on processes.
const FILES: [&str; 6] = [
    "bypass-dotted-names",
    "bypass-empty-peers",
    "bypass-ipv6",
    "bypass-named-ports",
    "bypass-restarts",
    "bypass-same-node-and-services",
];

fn main() -> ExitCode {
    harness::main(&[("bypasses_are_closed_to_real_packets", bypasses)])
}

fn bypasses() -> Result<()> {
    let mut cases = cases::read(&cases::extra())?;
    // One lab is enough: of those in the folder's world.
    cases.retain(|case| FILES.contains(&file(case).as_str()) && case.folder().is_some());
    let mut runner = Runner::start(State::of(&cases[0])?, Plane::Both, Redirect::Never)?;
    let mut tally = Tally::default();
    let mut unmet = Vec::new();
    for case in &cases {
        let found = runner.run(case, &mut tally)?;
        unmet.extend(found.iter().map(|unmet| format!("{case}: {unmet}")));
    }
    ensure!(unmet.is_empty(), "{}", unmet.join("\n"));
    ensure!(tally.denied > 100, "too little to mean anything: {tally:?}");
    Ok(())
}

fn file(case: &Case) -> String {
    let stem = case.file.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}
