//! The `main` of test binaries that need the sandbox.
//!
//! Such a binary sets `harness = false`, so that it can enter the sandbox before a thread exists
//! and report honestly: on a machine that cannot run the lab its cases are listed as *ignored*,
//! with the reason. Where the environment says that they must run (`CI=true` or
//! `SIDEWALL_REQUIRE_NETNS=1`) the same is a failure.

use std::env;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::lab;
use crate::sandbox::{self, Place};

/// Why a case says nothing about what it finds: it is listed as ignored, also where everything must run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotApplicable(pub String);

/// A named test case.
pub type Case = (&'static str, fn() -> anyhow::Result<()>);

/// Runs the cases in one sandbox, as many at a time as `--test-threads` says.
#[must_use]
pub fn main(cases: &[Case]) -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, runnable(cases)).exit_code();
    }
    let trials = match sandbox::enter() {
        Ok(Place::Left(code)) => return code,
        Ok(Place::Inside) => runnable(cases),
        Err(error) => unrunnable_here(cases, error),
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs the cases where they are, for those that start sandboxed programs themselves.
#[must_use]
pub fn main_outside(cases: &[Case]) -> ExitCode {
    let trials = match sandbox::check_prerequisites() {
        Ok(()) => runnable(cases),
        Err(unmet) => unrunnable_here(cases, unmet),
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs the cases where they are, for those that need nothing but what the build made.
#[must_use]
pub fn main_anywhere(cases: &[Case]) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), runnable(cases)).exit_code()
}

/// Runs the cases where they are, with the real `kubectl`.
#[must_use]
pub fn main_with_kubectl(cases: &[Case]) -> ExitCode {
    let found = Command::new("kubectl")
        .args(["version", "--client"])
        .output();
    let trials = match found {
        Ok(output) if output.status.success() => runnable(cases),
        Ok(output) => unrunnable_here(
            cases,
            anyhow::anyhow!(
                "kubectl: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        ),
        Err(error) => unrunnable_here(
            cases,
            anyhow::anyhow!(
                "kubectl: {error}; install it: on Debian apt-get install -y kubernetes-client"
            ),
        ),
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs the cases in one sandbox, if `scripts/cluster-programs.sh` has built these programs.
///
/// Where they are missing the cases are listed as ignored; `SIDEWALL_REQUIRE_PROGRAMS=1` makes that a failure.
#[must_use]
pub fn main_with_programs(programs: &[&str], cases: &[Case]) -> ExitCode {
    let folder = lab::programs();
    let missing = programs.iter().find(|name| !folder.join(name).is_file());
    let reason = match missing {
        Some(missing) => format!("no {missing} in .tools/programs"),
        None if env::var_os("KUBEBUILDER_ASSETS").is_none() => {
            "KUBEBUILDER_ASSETS is not set".to_owned()
        }
        None => return main(cases),
    };
    let reason = format!("{reason}: run `make test-cluster`, which builds what is missing with Go");
    let required = env::var("SIDEWALL_REQUIRE_PROGRAMS").as_deref() == Ok("1");
    let trials = unrunnable(cases, &reason, required);
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn unrunnable_here(cases: &[Case], error: impl Into<anyhow::Error>) -> Vec<Trial> {
    let reason = format!("{:#}", error.into());
    unrunnable(cases, &reason, is_required(|name| env::var(name).ok()))
}

fn runnable(cases: &[Case]) -> Vec<Trial> {
    let trial = |&(name, case): &Case| {
        Trial::ignorable_test(name, move || match case() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast::<NotApplicable>() {
                Ok(NotApplicable(reason)) => Ok(Completion::ignored_with(reason)),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            },
        })
    };
    cases.iter().map(trial).collect()
}

fn unrunnable(cases: &[Case], reason: &str, required: bool) -> Vec<Trial> {
    let trial = |&(name, _): &Case| {
        let reason = reason.to_owned();
        Trial::ignorable_test(name, move || unmet(reason, required))
    };
    cases.iter().map(trial).collect()
}

/// What a case comes to that cannot run here.
fn unmet(reason: String, required: bool) -> Result<Completion, Failed> {
    if required {
        Err(Failed::from(reason))
    } else {
        Ok(Completion::ignored_with(reason))
    }
}

fn is_required(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("CI").as_deref() == Some("true")
        || variable("SIDEWALL_REQUIRE_NETNS").as_deref() == Some("1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unmet_prerequisite_is_ignored_with_its_reason() {
        let outcome = unmet("no root".to_owned(), false);
        assert!(
            matches!(outcome, Ok(Completion::Ignored { reason: Some(reason) }) if reason == "no root")
        );
    }

    #[test]
    fn where_cases_must_run_it_is_a_failure() {
        let outcome = unmet("no root".to_owned(), true);
        assert!(matches!(outcome, Err(failed) if failed.message() == Some("no root")));
    }

    #[test]
    fn ci_and_the_flag_require() {
        assert!(is_required(|name| (name == "CI").then(|| "true".to_owned())));
        assert!(is_required(
            |name| (name == "SIDEWALL_REQUIRE_NETNS").then(|| "1".to_owned())
        ));
        assert!(!is_required(
            |name| (name == "CI").then(|| "false".to_owned())
        ));
        assert!(!is_required(|_| None));
    }
}
