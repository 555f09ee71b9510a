//! Every case, held by the built filter under wasmtime: the gates of the client's and of the server's
//! sidecar, what they record and what they tell access logs.

use sidewall_host_tests::cases::{self, Wasm};

#[test]
fn every_case_is_decided_by_the_built_filter() {
    let mut cases = cases::read(&cases::upstream()).unwrap();
    cases.extend(cases::read(&cases::extra()).unwrap());
    let mut wasm = Wasm::default();
    let mut unmet = Vec::new();
    for case in &cases {
        let found = wasm
            .run(case)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        unmet.extend(found.iter().map(|unmet| format!("{case}: {unmet}")));
    }
    assert!(unmet.is_empty(), "{}", unmet.join("\n"));
}

/// The runner can fail: a denial that is taken for an allowance is found out.
#[test]
fn a_wrong_table_is_found_out() {
    let mut case = cases::read(&cases::upstream()).unwrap().swap_remove(0);
    case.steps[0].expect[0].allow = vec!["y/b -> x/c".to_owned().try_into().unwrap()];
    let unmet = Wasm::default().run(&case).unwrap();
    assert_eq!(unmet.len(), 4, "{unmet:#?}");
}
