//! The upstream cases, held by the engine: every step of every case, without packets.

use sidewall_host_tests::cases::{self, State, judge};
use sidewall_host_tests::probe::Protocol;

#[test]
fn every_case_is_as_upstream_says() {
    let folder = cases::upstream();
    let world = State::read(&folder.join("world")).unwrap();
    let mut unmet = Vec::new();
    for case in cases::read(&folder).unwrap() {
        let found = judge(&case, &world).unwrap();
        unmet.extend(
            found
                .iter()
                .map(|unmet| format!("case {} ({}): {unmet}", case.number, case.name)),
        );
    }
    assert!(unmet.is_empty(), "{}", unmet.join("\n"));
}

#[test]
fn all_data_path_cases_are_there() {
    let cases = cases::read(&cases::upstream()).unwrap();
    let numbers: Vec<u32> = cases.iter().map(|case| case.number).collect();
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

/// The evaluator can fail: a table that is wrong at one pair is found out, by both ways and families.
#[test]
fn a_wrong_table_is_found_out() {
    let folder = cases::upstream();
    let world = State::read(&folder.join("world")).unwrap();
    let mut case = cases::read(&folder).unwrap().swap_remove(0);
    case.steps[0].expect[0].allow = vec!["y/b -> x/c".to_owned().try_into().unwrap()];
    let unmet = judge(&case, &world).unwrap();
    assert_eq!(unmet.len(), 4, "{unmet:#?}");
    assert!(
        unmet
            .iter()
            .all(|unmet| unmet.found.starts_with("y/b -> x/")),
        "{unmet:#?}"
    );
}
