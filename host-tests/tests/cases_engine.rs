//! Every case, held by the engine: every step, on every plane, by compiled snapshots and by the
//! reference evaluator, without packets.

use sidewall_host_tests::cases::{self, Case, judge};
use sidewall_host_tests::probe::Protocol;

fn upstream() -> Vec<Case> {
    cases::read(&cases::upstream()).expect("the cases can be read")
}

fn hold(cases: &[Case]) {
    let mut unmet = Vec::new();
    for case in cases {
        let found = judge(case).unwrap_or_else(|error| panic!("{case}: {error}"));
        unmet.extend(found.iter().map(|unmet| format!("{case}: {unmet}")));
    }
    assert!(unmet.is_empty(), "{}", unmet.join("\n"));
}

#[test]
fn every_case_is_as_upstream_says() {
    hold(&upstream());
}

#[test]
fn every_case_that_no_suite_has_is_as_it_says() {
    hold(&cases::read(&cases::extra()).unwrap());
}

#[test]
fn all_data_path_cases_are_there() {
    let cases = upstream();
    let numbers: Vec<u32> = cases.iter().filter_map(|case| case.number).collect();
    assert_eq!(numbers, (1..=48).collect::<Vec<_>>());
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let tables = cases
            .iter()
            .flat_map(|case| &case.steps)
            .flat_map(|step| &step.expect);
        assert!(
            tables.filter(|table| table.protocol == protocol).count() >= 3,
            "{protocol}"
        );
    }
}

/// The evaluator can fail: a table that is wrong at one pair is found out, by both ways and families and
/// for both planes.
#[test]
fn a_wrong_table_is_found_out() {
    let mut case = upstream().swap_remove(0);
    case.steps[0].expect[0].allow = vec!["y/b -> x/c".to_owned().try_into().unwrap()];
    let unmet = judge(&case).unwrap();
    assert_eq!(unmet.len(), 8, "{unmet:#?}");
    assert!(
        unmet.iter().all(|unmet| unmet.found.starts_with("y/b -> ")),
        "{unmet:#?}"
    );
}

/// The list of cases that no suite has names each of them, so that what it says is shown is there.
#[test]
fn the_readme_lists_every_case() {
    let readme = cases::extra().with_file_name("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let cases = cases::read(&cases::extra()).unwrap();
    for case in &cases {
        let stem = case.file.file_stem().unwrap_or_default().to_string_lossy();
        let cited = case
            .number
            .map_or_else(|| format!("`{stem}`"), |number| format!("| {number} | "));
        let by_number = case.number.map(|number| format!("`{stem}` {number}"));
        let row = readme.lines().find(|line| line.contains(&cited));
        let row = row.unwrap_or_else(|| panic!("{case}: not in the list"));
        assert!(
            by_number.is_none_or(|cited| row.contains(&cited)),
            "{case}: {row}"
        );
    }
    // And what it cites is there.
    let cites = readme.match_indices("`bypass-").map(|(at, _)| {
        let rest = &readme[at + 1..];
        rest.split('`').next().unwrap_or_default()
    });
    for stem in cites.filter(|stem| !stem.contains('*')) {
        let is_it = |case: &&Case| case.file.file_stem().is_some_and(|found| found == stem);
        assert!(cases.iter().any(|case| is_it(&case)), "{stem} is cited");
    }
}
