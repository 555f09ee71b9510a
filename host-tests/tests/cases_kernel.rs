//! Every case, held by the tables of nodes in real kernels: first packets by hand, and the records of
//! what is dropped.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use sidewall_host_tests::cases::{self, Case, Kernel};
use sidewall_host_tests::harness;

fn main() -> ExitCode {
    harness::main(&[
        ("every_upstream_case_is_decided_in_the_kernel", upstream),
        (
            "every_case_that_no_suite_has_is_decided_in_the_kernel",
            extra,
        ),
        ("a_wrong_table_is_found_out", wrong),
    ])
}

fn upstream() -> Result<()> {
    hold(&cases::read(&cases::upstream())?)
}

fn extra() -> Result<()> {
    hold(&cases::read(&cases::extra())?)
}

fn hold(cases: &[Case]) -> Result<()> {
    let mut kernel = Kernel::default();
    let mut unmet = Vec::new();
    for case in cases {
        let found = kernel.run(case).with_context(|| case.to_string())?;
        unmet.extend(found.iter().map(|unmet| format!("{case}: {unmet}")));
    }
    ensure!(unmet.is_empty(), "{}", unmet.join("\n"));
    let (asked, recorded) = kernel.tally();
    ensure!(
        asked > 100 && recorded > 20,
        "too little to mean anything: {asked} packets, {recorded} records"
    );
    Ok(())
}

/// The runner can fail: a denial that is taken for an allowance is found out, and the other way round.
fn wrong() -> Result<()> {
    let mut case = cases::read(&cases::upstream())?.swap_remove(0);
    let table = &mut case.steps[0].expect[0];
    table.allow = vec![
        "y/b -> x/c"
            .to_owned()
            .try_into()
            .map_err(anyhow::Error::msg)?,
    ];
    table.deny.push(
        "y/b -> z/c"
            .to_owned()
            .try_into()
            .map_err(anyhow::Error::msg)?,
    );
    let unmet = Kernel::default().run(&case)?;
    ensure!(unmet.len() == 8, "{unmet:#?}");
    Ok(())
}
