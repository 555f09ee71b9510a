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
