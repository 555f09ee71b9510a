//! How hard property tests look, the same for all of them.

use proptest::test_runner::{Config, FileFailurePersistence};

/// Tries this many cases, unless `PROPTEST_CASES` wants another number, and shrinks a failure for
/// long, unless `PROPTEST_MAX_SHRINK_ITERS` says otherwise.
///
/// The seed of a failure is written beside the test, to be kept: it is tried first from then on.
pub fn tried(cases: u32) -> Config {
    let given = Config::default();
    let unless_given = |variable, wanted, given| match std::env::var_os(variable) {
        Some(_) => given,
        None => wanted,
    };
    Config {
        cases: unless_given("PROPTEST_CASES", cases, given.cases),
        max_shrink_iters: unless_given(
            "PROPTEST_MAX_SHRINK_ITERS",
            100_000,
            given.max_shrink_iters,
        ),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..given
    }
}
