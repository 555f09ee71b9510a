//! Files in, objects and problems out.

mod documents;
mod policies;
mod validation;

use sidewall_policy::model::NetworkPolicy;

use super::{Loaded, file};
use crate::cluster::event::Object;

/// Reads a file named `test.yaml`.
fn load(text: &str) -> Loaded {
    file("test.yaml", text)
}

/// The identities of the objects of a file.
fn names(loaded: &Loaded) -> Vec<String> {
    let objects = loaded.objects.iter();
    objects
        .map(|object| object.reference().to_string())
        .collect()
}

/// The problems of a file as they are printed.
fn problems(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

/// The only policy of a file.
fn policy(loaded: &Loaded) -> &NetworkPolicy {
    match loaded.objects.as_slice() {
        [Object::NetworkPolicy(policy)] => policy,
        other => panic!("not one policy: {other:?}"),
    }
}

/// A policy `default/p` with these lines as its spec, indented by two.
fn with_spec(spec: &str) -> String {
    let head =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n";
    let lines = spec.lines().map(|line| format!("  {line}\n"));
    lines.fold(head.to_owned(), |text, line| text + &line)
}
